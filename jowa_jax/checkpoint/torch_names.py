"""Names and layouts of the authors' released PyTorch state dicts.

A flat dict of numpy arrays under the released names becomes a parameter tree
of ours, and back. Linear weights there are (out, in), convolutions (out, in,
height, width); ours are (in, out) and (height, width, in, out), and attention
projections have the heads as an axis of their own.
"""

import functools
import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jowa_jax.types import Params

# The released order of the Q heads' stacked parameters.
_ENSEMBLE = tuple(
  name
  for i in (0, 1)
  for name in (
    f'dense_{i}_kernel',
    f'dense_{i}_bias',
    f'norm_{i}_scale',
    f'norm_{i}_bias',
  )
) + ('dense_2_kernel', 'dense_2_bias')

_EMBEDDINGS = {
  'action_embedding': 'embedder.embedding_tables.0.weight',
  'observation_embedding': 'embedder.embedding_tables.1.weight',
  'position_embedding': 'pos_emb.weight',
  'action_task_embedding': 'task_emb.embedding_tables.0.weight',
  'observation_task_embedding': 'task_emb.embedding_tables.1.weight',
}

_LEAVES = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias'}

_TOKENIZER_RULES = (
  (r'(down|up)_(\d+)_(block|attn)_(\d+)', r'\1.\2.\3.\4'),
  (r'(down|up)_(\d+)_(down|up)sample_conv', r'\1.\2.\3sample.conv'),
)


def released_name(path: tuple[str, ...]) -> str:
  """The released name of one of our parameters.

  Args:
    path: of the parameter, such as ('backbone', 'ln_f', 'scale'); tokenizer
      parameters begin with 'tokenizer', target Q heads with 'target_q_heads'.
  """
  group, *rest = path
  if group == 'tokenizer':
    return _tokenizer_name(rest)
  if group in ('q_heads', 'target_q_heads'):
    head = 'head_q' if group == 'q_heads' else 'head_q_target'
    return f'{head}.head_module.params.{_ENSEMBLE.index(rest[0])}'
  *modules, leaf = rest
  if group == 'world_heads':
    layer = modules[1].removeprefix('dense_')
    return f'head_{modules[0]}.head_module.{layer}.{_LEAVES[leaf]}'
  if leaf in _EMBEDDINGS:
    return _EMBEDDINGS[leaf]
  name = '.'.join(modules)
  name = re.sub(r'^layer_(\d+)', r'blocks.\1', name)
  name = re.sub(r'mlp_(\d)', r'mlp.\1', name)
  return f'transformer.{name}.{_LEAVES[leaf]}'


def _tokenizer_name(path) -> str:
  if path == ['codebook']:
    return 'embedding.weight'
  *modules, leaf = path
  name = '.'.join(modules)
  for pattern, replacement in _TOKENIZER_RULES:
    name = re.sub(pattern, replacement, name)
  return f'{name}.{_LEAVES[leaf]}'


def _to_released(path: tuple[str, ...], value: Any) -> Any:
  """One of our arrays (numpy's or JAX's) in the released layout."""
  leaf = path[-1]
  if path[0] in ('q_heads', 'target_q_heads'):
    return value.swapaxes(1, 2) if leaf.endswith('_kernel') else value
  if leaf == 'bias':
    return value.reshape(-1)
  if leaf != 'kernel':
    return value
  if value.ndim == 4:
    return value.transpose(3, 2, 0, 1)
  # Attention's heads lie on one side of a matrix.
  inputs = math.prod(value.shape[: 2 if path[-2] == 'proj' else 1])
  return value.reshape(inputs, value.size // inputs).T


def _to_ours(path, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  if path[-1] == 'kernel':
    value = value.transpose((2, 3, 1, 0) if value.ndim == 4 else (1, 0))
  elif path[-1].endswith('_kernel'):
    value = value.swapaxes(1, 2)
  return value.reshape(shape)


def _flat(tree: Params) -> tuple[dict[tuple[str, ...], Any], Any]:
  leaves, treedef = jax.tree_util.tree_flatten_with_path(tree)
  return {tuple(key.key for key in path): x for path, x in leaves}, treedef


def to_released(params: Params) -> dict[str, np.ndarray]:
  """Arrays under their released names and in the released layout.

  Args:
    params: a tree whose top-level names are those of `released_name`.
  """
  return {
    released_name(path): _to_released(path, np.asarray(value))
    for path, value in _flat(params)[0].items()
  }


def released_shapes(template: Params) -> dict[str, tuple[int, ...]]:
  """The shapes of `to_released`, of (abstract) arrays."""
  return {
    released_name(path): jax.eval_shape(
      functools.partial(_to_released, path), leaf
    ).shape
    for path, leaf in _flat(template)[0].items()
  }


def mismatches(
  tensors: Mapping[str, np.ndarray], template: Params
) -> list[str]:
  """A line for each tensor that is missing, unexpected or misshapen.

  Args:
    tensors: arrays by released name, without prefixes.
    template: as that of `from_released`.
  """
  expected = released_shapes(template)
  lines = [f'missing {name}' for name in expected if name not in tensors]
  lines += [f'unexpected {name}' for name in tensors if name not in expected]
  lines += [
    f'{name} has shape {tensors[name].shape}, expected {shape}'
    for name, shape in expected.items()
    if name in tensors and tensors[name].shape != shape
  ]
  return lines


def from_released(
  tensors: Mapping[str, np.ndarray], template: Params
) -> Params:
  """A tree like `template` filled from released tensors.

  Args:
    tensors: arrays by released name, without prefixes: those that `template`
      asks for.
    template: dict of trees of arrays or `jax.ShapeDtypeStruct`s; its
      top-level names are those of `released_name`.

  Raises:
    ValueError: tensors are missing, unexpected or misshapen; all are named.
  """
  if lines := mismatches(tensors, template):
    raise ValueError('tensors do not fit: ' + '; '.join(lines))
  leaves, treedef = _flat(template)
  values = [
    _to_ours(path, np.asarray(tensors[released_name(path)]), leaf.shape)
    for path, leaf in leaves.items()
  ]
  return jax.tree_util.tree_unflatten(treedef, values)
