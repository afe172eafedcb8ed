"""Names and layouts of the authors' released PyTorch state dicts.

A flat dict of numpy arrays under the released names becomes a parameter tree
of ours, and back. Linear weights there are (out, in), convolutions (out, in,
height, width); ours are (in, out) and (height, width, in, out), and attention
projections have the heads as an axis of their own.
"""

import re
from collections.abc import Mapping

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
  """Returns the released name of one of our parameters.

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


def _to_ours(path, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  if path[-1] == 'kernel':
    axes = (2, 3, 1, 0) if value.ndim == 4 else (1, 0)
    value = value.transpose(axes)
  elif path[-1].endswith('_kernel'):
    value = value.swapaxes(1, 2)
  if value.size != np.prod(shape):
    raise ValueError(
      f'{released_name(path)} has {value.size} values, {"/".join(path)} needs '
      f'shape {shape}'
    )
  return value.reshape(shape)


def from_released(
  tensors: Mapping[str, np.ndarray], template: Params
) -> Params:
  """Returns a tree like `template` filled from released tensors.

  Args:
    tensors: arrays by released name, without prefixes. Names that `template`
      does not ask for are not looked at.
    template: dict of trees of arrays or `jax.ShapeDtypeStruct`s; its
      top-level names are those of `released_name`.

  Raises:
    KeyError: names that are missing, all of them.
    ValueError: a tensor of the wrong size.
  """
  leaves, treedef = jax.tree_util.tree_flatten_with_path(template)
  paths = [tuple(key.key for key in path) for path, _ in leaves]
  missing = [n for n in map(released_name, paths) if n not in tensors]
  if missing:
    raise KeyError(f'missing tensors: {", ".join(missing)}')
  values = [
    _to_ours(path, np.asarray(tensors[released_name(path)]), leaf.shape)
    for path, (_, leaf) in zip(paths, leaves, strict=True)
  ]
  return jax.tree_util.tree_unflatten(treedef, values)
