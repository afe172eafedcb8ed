"""The authors' released PyTorch files as a run's directory, and back.

A run's directory made of them has one checkpoint, of step 0: this package has
not trained it. It has no optimizer state.
"""

import collections
import contextlib
import json
import logging
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jowa_jax import files, weight_files
from jowa_jax.checkpoint import released_sizes, torch_names
from jowa_jax.checkpoint.manager import Checkpoints
from jowa_jax.checkpoint.run_directory import RunDirectory
from jowa_jax.checkpoint.shapes import variable_shapes
from jowa_jax.methods.base import Variables
from jowa_jax.methods.factory import make_method
from jowa_jax.models import lpips
from jowa_jax.types import Params

# Beginnings of tensors' names, by which files are told apart.
_MARKS = {
  'tokenizer': ('encoder.', 'decoder.'),
  'model': ('transformer.', 'embedder.', 'head_'),
}
# Buffers that can be computed.
_IGNORED = ('.indices', '.attn.mask')
_TARGETS = 'target_q_heads'


class _State(NamedTuple):
  """What a released file holds."""

  path: pathlib.Path
  tensors: dict[str, np.ndarray]  # by name without prefixes
  lpips: dict[str, np.ndarray]  # by name, `lpips.` included


def import_released(
  tokenizer: str | pathlib.Path,
  model: str | pathlib.Path,
  output: str | pathlib.Path,
  config: Mapping[str, Any],
  num_heads: int | None = None,
) -> dict[str, Any]:
  """Writes a run's directory with released weights.

  LPIPS weights in the tokenizer's file go to `lpips.npz` beside the
  checkpoint, for `tokenizer_training.perceptual_weights`.

  Args:
    tokenizer: file of the tokenizer, see `weight_files`.
    model: file of the world-action model.
    output: the directory; must not be there yet.
    config: a resolved config of JOWA; its sizes become those of the tensors.
    num_heads: of attention; may be left out for published sizes.

  Returns:
    The config saved.

  Raises:
    FileExistsError: `output` is there already.
    FileNotFoundError: one of the files is not.
    ValueError: a file cannot be read, is another's, or has tensors that are
      missing, unexpected or misshapen; all of these are named, and nothing is
      written.
  """
  files.check_new(output)
  states = {
    'tokenizer': _read(tokenizer, 'tokenizer'),
    'model': _read(model, 'model'),
  }
  config = released_sizes.with_sizes(
    config, states['tokenizer'].tensors, states['model'].tensors
  )
  _check_fit(config, states)
  config = released_sizes.with_heads(config, num_heads)
  config = json.loads(json.dumps(config))
  variables = _variables(config, states)
  names = [state.path.name for state in states.values()]
  with files.directory_written_whole(output) as directory:
    write_run(directory, variables, config, names)
    _extract_lpips(states['tokenizer'], directory / 'lpips.npz')
  return config


def write_run(
  directory: pathlib.Path,
  variables: Variables,
  config: Mapping[str, Any],
  sources: Sequence[str],
) -> None:
  """Writes a checkpoint of step 0 and its config, as a run would have.

  Args:
    directory: of the run.
    variables: as imported.
    config: as JSON holds it.
    sources: names of the files that they are from.
  """
  meta = {
    'step': 0,
    'stage': 'imported',
    'config': config,
    'data': {'imported': list(sources)},
  }
  run = RunDirectory(directory)
  with contextlib.closing(Checkpoints(run.checkpoints)) as checkpoints:
    checkpoints.save(0, variables, None, meta)
    checkpoints.wait()
  run.write_config(config)


def export_released(
  variables: Variables,
  config: Mapping[str, Any],
  tokenizer: str | pathlib.Path,
  model: str | pathlib.Path,
) -> None:
  """Writes the weights of JOWA under their released names.

  Args:
    variables: of the agent.
    config: it was trained with.
    tokenizer: file for the tokenizer; must not be there yet.
    model: file for the world-action model; likewise.

  Raises:
    FileExistsError: a file is there already.
    ValueError: the agent is not JOWA, or not as released, or a file cannot be
      written.
  """
  if config['method'] != 'jowa':
    raise ValueError(
      f'The checkpoint is of method={config["method"]!r}: released names are '
      'those of JOWA alone'
    )
  field = config['tokenizer'].get('encoder_field', 'frame')
  if field != 'frame':
    raise ValueError(
      f'The checkpoint is of tokenizer.encoder_field={field!r}: the released '
      "program knows 'frame' alone"
    )
  if pathlib.Path(tokenizer) == pathlib.Path(model):
    raise ValueError(f'{model}: tokenizer and model need a file each')
  for path in (tokenizer, model):
    weight_files.check_suffix(path)
    files.check_new(path)
    if weight_files.needs_torch(path):
      weight_files.import_torch(path)
  trees = _by_file(variables)
  weight_files.write_state(model, torch_names.to_released(trees['model']))
  try:
    weight_files.write_state(
      tokenizer, torch_names.to_released(trees['tokenizer'])
    )
  except BaseException:
    # The same command is to work again.
    pathlib.Path(model).unlink()
    raise


def _by_file(variables: Variables) -> dict[str, dict[str, Params]]:
  """The parameters that each of the released files holds."""
  model = {**variables.params, _TARGETS: variables.targets['q_heads']}
  tokenizer = model.pop('tokenizer')
  return {'tokenizer': {'tokenizer': tokenizer}, 'model': model}


def _read(path: str | pathlib.Path, kind: str) -> _State:
  """Reads one of the two files; what may be in it and is not needed, goes.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it cannot be read, is of another kind or has a tensor twice.
  """
  path, names = pathlib.Path(path), collections.defaultdict(list)
  state = weight_files.read_state(path)
  for name in state:
    names[weight_files.bare_name(name)].append(name)
  _check_kind(path, names, kind)
  twice = [', '.join(sorted(same)) for same in names.values() if len(same) > 1]
  if twice:
    raise ValueError(f'{path}: tensors are there twice: {"; ".join(twice)}')
  tensors = {bare: state[name] for bare, (name,) in names.items()}
  perceptual = {k: v for k, v in tensors.items() if k.startswith(lpips.PREFIX)}
  kept = {
    name: value
    for name, value in tensors.items()
    if name not in perceptual and not name.endswith(_IGNORED)
  }
  return _State(path, kept, perceptual)


def _check_kind(
  path: pathlib.Path, names: Mapping[str, Any], kind: str
) -> None:
  (other,) = _MARKS.keys() - {kind}
  has = {
    kind: any(name.startswith(marks) for name in names)
    for kind, marks in _MARKS.items()
  }
  if has[kind]:
    return
  if has[other]:
    raise ValueError(
      f'{path}: is the file of the {other}, not of the {kind}; give it as '
      f'--{other}'
    )
  some = ', '.join(sorted(names)[:3]) or 'nothing'
  raise ValueError(
    f'{path}: holds no released {kind} (it has {some}, ...); expected names '
    f'that begin with {" or ".join(_MARKS[kind])}'
  )


def _templates(config: Mapping[str, Any]) -> dict[str, dict[str, Params]]:
  return _by_file(variable_shapes(make_method(config)))


def _check_fit(config: Mapping[str, Any], states: Mapping[str, _State]) -> None:
  """Checks tensors against a config of their sizes, heads of attention apart.

  Raises:
    ValueError: tensors are missing, unexpected, misshapen, or not finite
      floating-point numbers; all are named.
  """
  templates, faults = _templates(config), []
  for kind, state in states.items():
    lines = torch_names.mismatches(state.tensors, templates[kind])
    lines += _unfit(state.tensors)
    faults += [f'{state.path}: {line}' for line in lines]
  if faults:
    listed = '\n  '.join(faults)
    raise ValueError(f'{len(faults)} tensors do not fit:\n  {listed}')


def _variables(
  config: Mapping[str, Any], states: Mapping[str, _State]
) -> Variables:
  """The variables of a config, filled."""
  templates, filled = _templates(config), {}
  for kind, state in states.items():
    filled |= torch_names.from_released(state.tensors, templates[kind])
  targets = {'q_heads': filled.pop(_TARGETS)}
  return Variables(params=filled, targets=targets, extras={})


def _unfit(tensors: Mapping[str, np.ndarray]) -> list[str]:
  lines = []
  for name, value in tensors.items():
    if value.dtype != np.float32:
      lines.append(f'{name} is of type {value.dtype}, expected floats')
    elif not np.isfinite(value).all():
      lines.append(f'{name} has values that are not finite')
  return lines


def _extract_lpips(state: _State, path: pathlib.Path) -> None:
  """Writes the LPIPS weights of a tokenizer's file, if it has usable ones."""
  if not state.lpips:
    return
  try:
    lpips.from_state(state.lpips, str(state.path))
  except ValueError as error:
    logging.warning('No LPIPS weights were taken: %s', error)
    return
  weight_files.write_state(path, state.lpips)
