"""Sizes of the released models, read from the shapes of their tensors."""

import collections
import copy
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jowa_jax.published_sizes import SIZES

Tensors = Mapping[str, np.ndarray]

# Config field -> names of tensors, and the axis of theirs that tells it.
_TOKENIZER = {
  'channels': ((r'(en|de)coder\..*norm\w*\.(weight|bias)', 0),),
  'latent_channels': (
    (r'(encoder\.conv_out|post_quant_conv)\.(weight|bias)', 0),
  ),
  'vocab_size': ((r'embedding\.weight', 0),),
  'embedding_dim': (
    (r'embedding\.weight', 1),
    (r'pre_quant_conv\.(weight|bias)', 0),
  ),
}
_BACKBONE = {
  'width': (
    (r'transformer\.(blocks\.\d+\.ln[12]|ln_f)\.(weight|bias)', 0),
    (r'(embedder|task_emb)\.embedding_tables\.\d\.weight', 1),
    (r'pos_emb\.weight', 1),
  ),
  'vocab_size': (
    (r'embedder\.embedding_tables\.1\.weight', 0),
    (r'head_observations\.head_module\.2\.(weight|bias)', 0),
  ),
}
_Q_PARAMS = r'head_q(_target)?\.head_module\.params\.'
_HEADS = {
  'num_heads': ((rf'{_Q_PARAMS}\d', 0),),
  'width': ((rf'{_Q_PARAMS}[123567]', -1),),
}
_Q_OUTPUTS = ((rf'{_Q_PARAMS}9', -1), (rf'{_Q_PARAMS}8', 1))
_POSITIONS = ((r'pos_emb\.weight', 0),)


def with_sizes(
  config: Mapping[str, Any], tokenizer: Tensors, model: Tensors
) -> dict[str, Any]:
  """A config with the sizes that tensors have.

  Where tensors contradict each other most of them are right, and where there
  are none the config is: which tensors do not fit is for others to find
  (`torch_names.mismatches`). Attention has one head, see `with_heads`.

  Args:
    config: a resolved config of JOWA.
    tokenizer: arrays by released name, without prefixes.
    model: likewise, of the world-action model.

  Raises:
    ValueError: the two are not of one agent.
  """
  config = copy.deepcopy(dict(config))
  vqvae, backbone = config['tokenizer'], config['backbone']
  vqvae |= _voted(tokenizer, _TOKENIZER)
  backbone |= _voted(model, _BACKBONE)
  config['heads'] |= _voted(model, _HEADS)

  vqvae['res_blocks'] = (
    _count(tokenizer, r'encoder\.down\.\d+\.block\.(\d+)\.')
    or vqvae['res_blocks']
  )
  vqvae['downsample'] = _factors(tokenizer, vqvae['downsample'])
  backbone['tokens_per_frame'] = _tokens_per_frame(vqvae)
  if vqvae['vocab_size'] != backbone['vocab_size']:
    raise ValueError(
      f'The tokenizer has {vqvae["vocab_size"]} tokens (embedding.weight), '
      f'the model {backbone["vocab_size"]} (embedder.embedding_tables.1.weight '
      'and head_observations): they are not of one agent'
    )

  backbone['num_layers'] = (
    _count(model, r'transformer\.blocks\.(\d+)\.') or backbone['num_layers']
  )
  backbone['num_heads'] = 1
  backbone['task_embedding'] = any(k.startswith('task_emb.') for k in model)
  rows = _vote(model, _POSITIONS)
  if rows:
    block = backbone['tokens_per_frame'] + 1
    backbone['max_blocks'] = max(rows // block, 1)
  outputs = _vote(model, _Q_OUTPUTS)
  if outputs:
    atoms = max(outputs // backbone['num_actions'], 1)
    config['returns']['num_atoms'] = atoms
  return config


def with_heads(
  config: Mapping[str, Any], num_heads: int | None = None
) -> dict[str, Any]:
  """A config with the heads of attention, which no shape tells.

  Args:
    config: with all other sizes.
    num_heads: of attention; may be left out for the sizes of `SIZES`.

  Raises:
    ValueError: they cannot be known, or do not divide the width.
  """
  config = copy.deepcopy(dict(config))
  backbone, name = config['backbone'], size_name(config)
  layers, width = backbone['num_layers'], backbone['width']
  if num_heads is None and name is None:
    raise ValueError(
      f'A model of {layers} layers of width {width} is none of the published '
      'sizes, and no shape tells how many heads its attention has: give '
      '--num_heads'
    )
  heads = SIZES[name]['heads'] if num_heads is None else num_heads
  if heads < 1 or width % heads:
    raise ValueError(f'--num_heads={heads} does not divide the width {width}')
  backbone['num_heads'] = heads
  return config


def with_dtype(config: Mapping[str, Any], dtype: str) -> dict[str, Any]:
  """The config with all of its model computing in `dtype`."""
  config = copy.deepcopy(dict(config))
  for section in ('tokenizer', 'backbone'):
    config[section]['dtype'] = dtype
  return config


def describe(config: Mapping[str, Any]) -> str:
  """The sizes in words, such as 'JOWA of size 40m: 4 layers of ...'."""
  size, backbone = size_name(config), config['backbone']
  return (
    f'JOWA {f"of size {size}" if size else "of a size of its own"}: '
    f'{backbone["num_layers"]} layers of width {backbone["width"]} with '
    f'{backbone["num_heads"]} heads of attention, '
    f'{config["heads"]["num_heads"]} of Q'
  )


def size_name(config: Mapping[str, Any]) -> str | None:
  """Which of `SIZES` a config's sizes are; None for others."""
  backbone, heads = config['backbone'], config['heads']
  found = dict(
    layers=backbone['num_layers'],
    width=backbone['width'],
    num_q=heads['num_heads'],
    q_width=heads['width'],
  )
  return next(
    (name for name, size in SIZES.items() if found.items() <= size.items()),
    None,
  )


def _tokens_per_frame(tokenizer: Mapping[str, Any]) -> int:
  side, factor = tokenizer['resolution'], math.prod(tokenizer['downsample'])
  if side % factor:
    raise ValueError(
      f'The tokenizer makes frames {tuple(tokenizer["downsample"])} times '
      f'smaller (encoder.down.*.downsample.conv.weight), which does not divide '
      f'their {side} pixels'
    )
  return (side // factor) ** 2


def _factors(tensors: Tensors, usual: tuple[int, ...]) -> tuple[int, ...]:
  """How much smaller each convolution between levels makes a frame."""
  levels = _count(tensors, r'encoder\.down\.(\d+)\.block\.') or len(usual) + 1
  factors = []
  for level in range(levels - 1):
    name = rf'encoder\.down\.{level}\.downsample\.conv\.weight'
    kernel = _vote(tensors, ((name, -1),))
    if kernel:
      factors.append(max(kernel - 1, 1))
    else:
      factors.append(usual[level] if level < len(usual) else 1)
  return tuple(factors)


def _voted(tensors: Tensors, fields: Mapping[str, Any]) -> dict[str, int]:
  votes = {name: _vote(tensors, where) for name, where in fields.items()}
  return {name: size for name, size in votes.items() if size}


def _vote(tensors: Tensors, where: tuple[tuple[str, int], ...]) -> int | None:
  """The size that most of the tensors named have along their axis."""
  sizes = collections.Counter(
    value.shape[axis]
    for pattern, axis in where
    for name, value in tensors.items()
    if re.fullmatch(pattern, name) and -value.ndim <= axis < value.ndim
  )
  return sizes.most_common(1)[0][0] if sizes else None


def _count(tensors: Tensors, pattern: str) -> int:
  """How many numbers stand at the group of a pattern in the names."""
  return len(
    {match[1] for name in tensors if (match := re.match(pattern, name))}
  )
