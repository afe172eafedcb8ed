"""MGDT's released weights, a Haiku pickle, as a run's directory, and back.

The authors' notebook loads `checkpoint_38274228.pkl`: a pair of nested dicts of
arrays, parameters and an empty state. Reading one here runs no code: whatever
is neither an array nor a plain container is refused.
"""

import copy
import json
import math
import pathlib
import pickle
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jowa_jax import files
from jowa_jax.checkpoint.released import write_run
from jowa_jax.checkpoint.shapes import variable_shapes
from jowa_jax.methods.base import Variables
from jowa_jax.methods.factory import make_method
from jowa_jax.models.mgdt import NUM_REWARD_CLASSES, TOLD
from jowa_jax.types import Params
from jowa_jax.weight_files import WeightFileError

# The width of an attention head in every published size.
_HEAD_WIDTH = 64
_ROOT = 'decision_transformer'
_EMBED, _LAYERS = f'{_ROOT}/~_embed_inputs', f'{_ROOT}/~/sequence'
_MODULES = {
  'backbone/frames/pixels': f'{_EMBED}/image_emb',
  'backbone/ln_f': f'{_LAYERS}/ln_f',
  'heads/returns': f'{_ROOT}/ret_linear',
  'heads/actions': f'{_ROOT}/act_linear',
  'heads/rewards': f'{_ROOT}/rew_linear',
}
_TABLES = {
  'backbone/frames/places': f'{_ROOT}/image_pos_enc',
  'backbone/positions': f'{_ROOT}/positional_embeddings',
  'backbone/returns': f'{_EMBED}/embed/embeddings',
  'backbone/actions': f'{_EMBED}/embed_1/embeddings',
  'backbone/rewards': f'{_EMBED}/embed_2/embeddings',
}
_OF_LAYER = {
  'ln1': 'ln_1',
  'ln2': 'ln_2',
  'attn/query': 'attn/query',
  'attn/key': 'attn/key',
  'attn/value': 'attn/value',
  'attn/proj': 'attn/linear',
  'mlp_0': 'mlp/linear',
  'mlp_2': 'mlp/linear_1',
}
# What a pickle of arrays is made of, by versions of NumPy and of the protocol.
_ALLOWED = {
  ('numpy', 'ndarray'),
  ('numpy', 'dtype'),
  ('_codecs', 'encode'),
  *(
    (f'{core}.{module}', name)
    for core in ('numpy.core', 'numpy._core')
    for module, name in (
      ('multiarray', '_reconstruct'),
      ('multiarray', 'scalar'),
      ('numeric', '_frombuffer'),
    )
  ),
}


class _Refused(pickle.UnpicklingError):
  """A pickle names something that is no array."""


class _ArraysAlone(pickle.Unpickler):
  """Builds arrays, numbers, texts and containers of them, and nothing else."""

  def find_class(self, module, name):
    if (module, name) not in _ALLOWED:
      raise _Refused(f'{module}.{name}')
    return super().find_class(module, name)


def read_haiku(path: str | pathlib.Path) -> dict[str, np.ndarray]:
  """The parameters of a Haiku pickle, by module and name with '/' between.

  Raises:
    FileNotFoundError: there is no such file.
    WeightFileError: it is damaged, or holds more than nested dicts of arrays.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file of weights')
  try:
    with path.open('rb') as file:
      content = _ArraysAlone(file).load()
  except _Refused as error:
    raise WeightFileError(
      f'{path}: holds {error} beside arrays and dicts, and reading it could '
      'run code that came with the file. It is refused; where you trust it, '
      'save nested dicts of numpy arrays alone'
    ) from error
  except (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    TypeError,
    ValueError,
  ) as error:
    raise WeightFileError(f'{path}: no readable pickle ({error})') from error
  if isinstance(content, tuple | list) and len(content) == 2:
    content = content[0]  # (parameters, state)
  if not isinstance(content, dict):
    raise WeightFileError(
      f'{path}: holds a {type(content).__name__}; expected nested dicts of '
      'arrays, or a pair of such parameters and a state'
    )
  arrays = {}
  for module, values in content.items():
    named = values if isinstance(values, dict) else {'': values}
    for name, value in named.items():
      label = f'{module}/{name}' if name else str(module)
      if not isinstance(value, np.ndarray):
        raise WeightFileError(
          f'{path}: {label} is a {type(value).__name__}, expected an array'
        )
      arrays[label] = value
  return arrays


def import_mgdt(
  path: str | pathlib.Path,
  output: str | pathlib.Path,
  config: Mapping[str, Any],
  num_heads: int | None = None,
) -> dict[str, Any]:
  """Writes a run's directory with released weights.

  Args:
    path: the pickle.
    output: the directory; must not be there yet.
    config: a resolved config of MGDT; its sizes become those of the arrays.
    num_heads: of attention; by default heads of the published width.

  Returns:
    The config saved.

  Raises:
    FileExistsError: `output` is there already.
    FileNotFoundError: the pickle is not.
    ValueError: it cannot be read, or has arrays that are missing, unexpected
      or misshapen; all of these are named, and nothing is written.
  """
  files.check_new(output)
  arrays = read_haiku(path)
  config = _with_sizes(path, config, arrays, num_heads)
  template = variable_shapes(make_method(config)).params
  if lines := _mismatches(arrays, template):
    listed = '\n  '.join(f'{path}: {line}' for line in lines)
    raise ValueError(f'{len(lines)} arrays do not fit:\n  {listed}')
  variables = Variables(
    params=from_haiku(arrays, template), targets={}, extras={}
  )
  config = json.loads(json.dumps(config))
  with files.directory_written_whole(output) as directory:
    write_run(directory, variables, config, [pathlib.Path(path).name])
  return config


def export_mgdt(
  variables: Variables, config: Mapping[str, Any], path: str | pathlib.Path
) -> None:
  """Writes the weights of MGDT as the authors' notebook loads them.

  Args:
    variables: of the agent.
    config: it was trained with.
    path: of the pickle; must not be there yet.

  Raises:
    FileExistsError: the file is there already.
    ValueError: the agent is not MGDT.
  """
  if config['method'] != 'mgdt':
    raise ValueError(
      f'The checkpoint is of method={config["method"]!r}: these names are '
      'those of MGDT alone'
    )
  files.check_new(path)
  nested: dict[str, dict[str, np.ndarray]] = {}
  for name, value in to_haiku(variables.params).items():
    module, _, leaf = name.rpartition('/')
    nested.setdefault(module, {})[leaf] = value
  with files.written_whole(path) as temporary, temporary.open('wb') as file:
    pickle.dump((nested, {}), file)


def to_haiku(params: Params) -> dict[str, np.ndarray]:
  """Arrays under their names and in their layout in a Haiku pickle."""
  found = {}
  for leaves, leaf in _flat(params).items():
    name, shape = _haiku(leaves, leaf.shape)
    found[name] = np.asarray(leaf).reshape(shape)
  return found


def from_haiku(arrays: Mapping[str, np.ndarray], template: Params) -> Params:
  """A tree like `template` filled from arrays that fit it."""

  def fill(path, leaf):
    name, _ = _haiku(tuple(key.key for key in path), leaf.shape)
    return np.asarray(arrays[name], np.float32).reshape(leaf.shape)

  return jax.tree_util.tree_map_with_path(fill, template)


def _flat(tree: Params) -> dict[tuple[str, ...], Any]:
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {tuple(key.key for key in path): leaf for path, leaf in leaves}


def _haiku(
  path: tuple[str, ...], shape: tuple[int, ...]
) -> tuple[str, tuple[int, ...]]:
  """A parameter's name there, and its shape."""
  whole, parent, leaf = '/'.join(path), '/'.join(path[:-1]), path[-1]
  if whole in _TABLES:
    if whole.endswith('places'):
      shape = (1, 1, *shape)
    return _TABLES[whole], shape
  if parent in _MODULES:
    module = _MODULES[parent]
  else:
    number = path[1].removeprefix('layer_')
    module = f'{_LAYERS}/h{number}_{_OF_LAYER["/".join(path[2:-1])]}'
  if leaf == 'scale' or 'ln' in module.rpartition('/')[2]:
    return f'{module}/{"scale" if leaf == "scale" else "offset"}', shape
  if leaf == 'bias':
    return f'{module}/b', (math.prod(shape),)
  if parent.endswith('pixels'):
    side = math.isqrt(shape[0])
    return f'{module}/w', (side, side, 1, shape[1])
  # Attention's heads lie on one side of a matrix.
  inputs = math.prod(shape[: 2 if parent.endswith('proj') else 1])
  return f'{module}/w', (inputs, math.prod(shape) // inputs)


def _mismatches(
  arrays: Mapping[str, np.ndarray], template: Params
) -> list[str]:
  """A line for each array that is missing, unexpected, misshapen or unfit."""
  expected = dict(_haiku(k, leaf.shape) for k, leaf in _flat(template).items())
  lines = [f'missing {name}' for name in expected if name not in arrays]
  for name, value in arrays.items():
    if name not in expected:
      lines.append(f'unexpected {name}')
    elif value.shape != expected[name]:
      lines.append(f'{name} has shape {value.shape}, expected {expected[name]}')
    elif not np.issubdtype(value.dtype, np.floating):
      lines.append(f'{name} is of type {value.dtype}, expected floats')
    elif not np.isfinite(value).all():
      lines.append(f'{name} has values that are not finite')
  return lines


def _with_sizes(
  path: str | pathlib.Path,
  config: Mapping[str, Any],
  arrays: Mapping[str, np.ndarray],
  num_heads: int | None,
) -> dict[str, Any]:
  """A config with the sizes that arrays have.

  Raises:
    ValueError: arrays that tell the sizes are not there, or the heads do not
      divide the width.
  """
  config = copy.deepcopy(dict(config))
  tables = {name: arrays.get(name) for name in _TABLES.values()}
  kernel = arrays.get(f'{_EMBED}/image_emb/w')
  known = [*tables.values(), kernel]
  if any(x is None or x.ndim < 2 for x in known) or kernel.ndim != 4:
    some = ', '.join(sorted(arrays)[:3]) or 'nothing'
    raise ValueError(
      f'{path}: holds no released MGDT (it has {some}, ...); expected '
      f'{_ROOT}/image_pos_enc and the like'
    )
  places, positions, returns, actions, rewards = tables.values()
  width, frame = places.shape[-1], places.shape[-2]
  if len(rewards) != NUM_REWARD_CLASSES:
    raise ValueError(
      f'{path}: {_EMBED}/embed_2 has {len(rewards)} rows, expected '
      f'{NUM_REWARD_CLASSES} classes of rewards'
    )
  heads = max(width // _HEAD_WIDTH, 1) if num_heads is None else num_heads
  if heads < 1 or width % heads:
    raise ValueError(f'--num_heads={heads} does not divide the width {width}')
  layers = [name for name in arrays if name.endswith('_attn/query/w')]
  config['backbone'] |= dict(
    num_layers=max(len(layers), 1),
    width=width,
    num_heads=heads,
    steps=max(len(positions) // (frame + TOLD), 1),
    patch=kernel.shape[0],
    num_actions=len(actions),
    return_bins=len(returns),
  )
  return config


def with_dtype(config: Mapping[str, Any], dtype: str) -> dict[str, Any]:
  """The config with its network computing in `dtype`."""
  config = copy.deepcopy(dict(config))
  config['backbone']['dtype'] = dtype
  return config


def describe(config: Mapping[str, Any]) -> str:
  """The sizes in words, such as 'MGDT: 10 layers of width 1280 ...'."""
  backbone = config['backbone']
  return (
    f'MGDT: {backbone["num_layers"]} layers of width {backbone["width"]} with '
    f'{backbone["num_heads"]} heads, {backbone["return_bins"]} returns'
  )
