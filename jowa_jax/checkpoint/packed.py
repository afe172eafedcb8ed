"""A trained agent in one small file: weights in float16, and what they are.

A safetensors file. Its tensors are the variables, named by their paths, but
for target heads, which start as copies again; its metadata holds what a
checkpoint's `meta` holds, and a checksum. The package ships one, `pretrained`.
"""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from importlib import resources
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from jowa_jax import weight_files
from jowa_jax.checkpoint.manager import (
  EMPTY,
  CheckpointError,
  DamagedCheckpointError,
  as_dict,
  check_shapes,
)
from jowa_jax.methods import adaptation
from jowa_jax.methods.base import Variables
from jowa_jax.methods.factory import METHODS, make_method

PRETRAINED = 'pretrained'
SUFFIX = '.safetensors'
_NOTES, _VERSION = 'jowa_jax agent', 1
# Of the section `data`: where files lay on the machine that trained.
_PLACES = ('directory', 'token_cache')


def shipped() -> pathlib.Path:
  """Where the agent lies that the package ships, or would."""
  return pathlib.Path(
    str(resources.files('jowa_jax') / PRETRAINED / f'agent{SUFFIX}')
  )


def is_packed(path: str | pathlib.Path) -> bool:
  """Whether a name is that of a packed agent, not of a run."""
  return str(path) == PRETRAINED or pathlib.Path(path).suffix == SUFFIX


def write_packed(
  path: str | pathlib.Path,
  variables: Variables,
  meta: Mapping[str, Any],
) -> int:
  """Packs an agent; a file of the same name is replaced.

  Args:
    path: the file, whose name ends in .safetensors.
    variables: those of the agent, low-rank adapters merged.
    meta: step, config and data of its checkpoint.

  Returns:
    The bytes of the file.

  Raises:
    CheckpointError: the method cannot be packed, or weights are not finite or
      beyond float16; they are named, and nothing is written.
  """
  path, method = pathlib.Path(path), meta['config']['method']
  if path.suffix != SUFFIX:
    raise CheckpointError(f'{path}: a packed agent ends in {SUFFIX}')
  copied = variables.targets.keys() <= variables.params.keys()
  if method not in METHODS or not copied:
    raise CheckpointError(
      f'method={method!r} cannot be packed, only {", ".join(METHODS)}'
    )
  tensors = traverse_util.flatten_dict(
    as_dict(jax.device_get(variables.replace(targets={}))), sep='/'
  )
  tensors = {name: _halved(name, np.asarray(x)) for name, x in tensors.items()}
  config = adaptation.without(meta['config'])
  config['data'] = {**config['data'], **dict.fromkeys(_PLACES, '')}
  # Of other files, the names tell that there were some.
  for name in ('init_from.checkpoints', *make_method(config).files):
    section, field = name.split('.')
    place = pathlib.Path(config[section][field]).name
    config[section] = {**config[section], field: place}
  meta = {**meta, 'config': config}
  notes = {'version': _VERSION, 'digest': _digest(tensors), **meta}
  # One text, as safetensors writes several in any order.
  weight_files.write_state(path, tensors, metadata={_NOTES: json.dumps(notes)})
  return path.stat().st_size


def _halved(name: str, value: np.ndarray) -> np.ndarray:
  """Floats as float16, others as they are."""
  if not np.issubdtype(value.dtype, np.floating):
    return value
  if not np.isfinite(value).all():
    raise CheckpointError(
      f'{name} has values that are not finite: take an earlier checkpoint'
    )
  limit = np.finfo(np.float16).max
  if np.abs(value).max(initial=0) > limit:
    raise CheckpointError(
      f'{name} has values beyond {limit:g}, the largest of float16'
    )
  return value.astype(np.float16)


def _digest(tensors: Mapping[str, np.ndarray]) -> str:
  state = hashlib.blake2b(digest_size=16)
  for name, value in sorted(tensors.items()):
    state.update(f'{name} {value.dtype} {value.shape}'.encode())
    state.update(np.ascontiguousarray(value))
  return state.hexdigest()


class PackedAgent:
  """A packed agent, read as the checkpoints of a run are: it has one."""

  def __init__(self, path: str | pathlib.Path):
    """Reads it.

    Args:
      path: the file, or 'pretrained' for the agent that is shipped.

    Raises:
      CheckpointError: it is not there, damaged, or no packed agent.
    """
    self.directory = pathlib.Path(path)
    if str(path) == PRETRAINED:
      self.directory = shipped()
    if not self.directory.is_file():
      if str(path) == PRETRAINED:
        raise CheckpointError(
          f'{PRETRAINED!r}: this copy of jowa_jax ships no agent '
          f'({self.directory} is missing): train one, or install a release '
          f"(a run's directory of that name is ./{PRETRAINED})"
        )
      raise CheckpointError(f'{path} does not exist: no such packed agent')
    try:
      texts = weight_files.read_metadata(self.directory)
      self._stored = weight_files.read_state(self.directory, widen=False)
    except weight_files.WeightFileError as error:
      raise DamagedCheckpointError(str(error)) from error
    self._meta = json.loads(texts.get(_NOTES, '{}'))
    version, digest = (self._meta.pop(k, None) for k in ('version', 'digest'))
    if version != _VERSION:
      raise CheckpointError(
        f'{self.directory} is no packed agent of version {_VERSION}: make one '
        'with launch.pack'
      )
    if digest != _digest(self._stored):
      raise DamagedCheckpointError(
        f'{self.directory} is damaged: its checksum is another; get it again'
      )

  def meta(self, step: int | None = None) -> dict[str, Any]:
    """Step, config and data; see `Checkpoints.meta`."""
    self._find(step)
    return self._meta

  def shapes(self, step: int | None = None) -> dict[str, tuple[int, ...]]:
    """Shapes of what is stored by name; see `Checkpoints.shapes`."""
    self._find(step)
    return {name: tuple(x.shape) for name, x in self._stored.items()}

  def restore_variables(
    self,
    template: Variables,
    shardings: Variables,
    step: int | None = None,
    partial: bool = False,
  ) -> Variables:
    """Restores variables in the template's types.

    Arguments and errors are those of `Checkpoints.restore_variables`.
    """
    self._find(step)
    wanted = traverse_util.flatten_dict(
      as_dict(template.replace(targets={})), sep='/'
    )
    expected = {name: tuple(x.shape) for name, x in wanted.items()}
    check_shapes(str(self.directory), self.shapes(), expected, partial)
    values = {
      name: self._stored[name].astype(x.dtype) for name, x in wanted.items()
    }
    found = {**EMPTY, **traverse_util.unflatten_dict(values, sep='/')}
    copies = {
      name: jax.tree.map(np.copy, found['params'][name])
      for name in template.targets
    }
    return jax.device_put(Variables(**{**found, 'targets': copies}), shardings)

  def close(self) -> None:
    """There is nothing to close."""

  def _find(self, step: int | None) -> None:
    if step is not None and step != self._meta['step']:
      raise CheckpointError(
        f'No checkpoint of step {step} in {self.directory}; there is '
        f'{[self._meta["step"]]}'
      )
