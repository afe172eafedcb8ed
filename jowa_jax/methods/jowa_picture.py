"""A picture of JOWA's parts, with the sizes of a config."""

import math
from collections.abc import Mapping
from typing import Any

import jinja2

from jowa_jax.methods import factory

_SIZE = (850, 440)
_BLOCKS = 3  # of the sequence that are drawn


def architecture(config: Mapping[str, Any]) -> str:
  """An SVG, for light and dark pages, of the model and the planner.

  Args:
    config: a training config of JOWA.

  Raises:
    ValueError: the config is of a method without a backbone and Q heads.
  """
  config = factory.complete(config)
  lacking = {'backbone', 'returns', 'tokenizer'} - set(config)
  if lacking:
    raise ValueError(
      f'{config["method"]} has no {", ".join(sorted(lacking))}: the picture is '
      'of JOWA, such as configs/jowa.py:40m'
    )
  drawing = _Drawing()
  _inputs(drawing, config)
  _model(drawing, config)
  _planner(drawing)
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('jowa_jax.methods', '.'),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  return environment.get_template('jowa_picture.svg.jinja').render(
    width=_SIZE[0],
    height=_SIZE[1],
    label='Frames become tokens, a transformer reads them with the actions, '
    'and its heads foresee, value and plan',
    **drawing.parts,
  )


class _Drawing:
  """Shapes by kind, in the order in which they are drawn."""

  def __init__(self):
    names = ('boxes', 'squares', 'lines', 'dots', 'texts')
    self.parts: dict[str, list[dict[str, Any]]] = {name: [] for name in names}

  def box(self, x, y, width, height, kind='box'):
    self.parts['boxes'].append(
      dict(x=x, y=y, width=width, height=height, kind=kind)
    )

  def square(self, x, y, size, kind='token'):
    self.parts['squares'].append(dict(x=x, y=y, size=size, kind=kind))

  def line(self, path, kind='line'):
    self.parts['lines'].append(dict(path=path, kind=kind))

  def dot(self, x, y, kind='node'):
    self.parts['dots'].append(dict(x=x, y=y, kind=kind))

  def text(self, x, y, words, kind='', anchor='middle'):
    self.parts['texts'].append(
      dict(x=x, y=y, words=words, kind=kind, anchor=anchor)
    )


def _inputs(drawing: _Drawing, config: Mapping[str, Any]) -> None:
  """A frame, the VQ-VAE, and the tokens with their action."""
  tokens = config['backbone']['tokens_per_frame']
  side = math.isqrt(tokens)
  drawing.text(75, 30, 'Frame', 'title')
  drawing.box(20, 45, 110, 110)
  drawing.square(46, 70, 10, 'act')
  for x, y in ((66, 64), (86, 64), (106, 64), (66, 84), (86, 84), (106, 84)):
    drawing.square(x, y, 7)
  drawing.square(70, 136, 12, 'leaf')
  drawing.text(75, 173, '84 x 84, grey', 'soft')
  drawing.line('M135 100H165')
  drawing.text(215, 30, 'VQ-VAE', 'title')
  drawing.box(170, 70, 90, 60)
  codes = config['tokenizer']['vocab_size']
  drawing.text(215, 97, f'{side} x {side} tokens')
  drawing.text(215, 115, f'of {codes} codes', 'soft')
  drawing.line('M265 100H295')
  blocks = config['backbone']['max_blocks']
  drawing.text(
    422, 30, f'{blocks} steps of {tokens} tokens and 1 action', 'title'
  )
  cell = 60 // side
  for block in range(_BLOCKS):
    left = 302 + 86 * block
    for row in range(side):
      for column in range(side):
        drawing.square(left + cell * column, 70 + cell * row, cell - 2)
    drawing.square(left + 64, 94, 12, 'act')
  drawing.text(566, 104, '...', 'title')


def _model(drawing: _Drawing, config: Mapping[str, Any]) -> None:
  """The transformer and its heads."""
  backbone = config['backbone']
  drawing.line('M422 140V192')
  drawing.box(302, 196, 240, 64)
  drawing.text(422, 222, 'One transformer', 'title')
  drawing.text(
    422,
    242,
    f'{backbone["num_layers"]} layers of width {backbone["width"]}, '
    f'{backbone["num_heads"]} heads',
    'soft',
  )
  returns = config['returns']
  heads = (
    ('next tokens', 'what the next frame shows'),
    ('reward', 'its sign'),
    ('end', 'of the episode'),
    ('Q of 18 actions', _returns(returns)),
  )
  for number, (name, words) in enumerate(heads):
    y = 62 + 62 * number
    drawing.line(f'M546 228C575 228 570 {y + 22} 598 {y + 22}')
    drawing.box(602, y, 172, 46)
    drawing.text(688, y + 20, name)
    drawing.text(688, y + 37, words, 'soft')
  drawing.text(790, 88, 'world', 'soft', 'start')
  drawing.text(790, 104, 'model', 'soft', 'start')
  drawing.text(790, 275, 'critic', 'soft', 'start')


def _returns(returns: Mapping[str, Any]) -> str:
  if returns['num_atoms'] == 1:
    return 'one value each'
  return (
    f'{returns["num_atoms"]} atoms from {returns["v_min"]:g} to '
    f'{returns["v_max"]:g}'
  )


def _planner(drawing: _Drawing) -> None:
  """Two levels of a beam of two."""
  drawing.box(20, 316, 754, 108, 'plan')
  drawing.text(36, 346, 'Planning', 'title', 'start')
  drawing.text(
    36, 370, 'The model dreams the best actions on,', 'soft', 'start'
  )
  drawing.text(36, 387, 'all beams of all games in one call;', 'soft', 'start')
  drawing.text(36, 404, 'the path with the best end is begun.', 'soft', 'start')
  drawing.text(300, 416, 'now', 'soft')
  drawing.text(450, 416, 'one step', 'soft')
  drawing.text(600, 416, 'two steps', 'soft')
  root, first = (300, 362), ((450, 344), (450, 382))
  second = ((600, 334), (600, 354), (600, 374), (600, 394))
  for child in first:
    drawing.line(_way(root, child), 'best' if child is first[0] else 'edge')
  for number, leaf in enumerate(second):
    parent = first[number // 2]
    drawing.line(_way(parent, leaf), 'best' if number == 1 else 'edge')
  drawing.dot(*root)
  for place in (*first, *second):
    drawing.dot(*place, 'leaf' if place in (first[0], second[1]) else 'node')
  drawing.text(618, 359, 'rewards + Q', '', 'start')


def _way(start, end) -> str:
  middle = (start[0] + end[0]) / 2
  return (
    f'M{start[0]} {start[1]}C{middle} {start[1]} {middle} {end[1]} '
    f'{end[0]} {end[1]}'
  )
