"""A film of play: the game on the left, the dream of it on the right."""

import os
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw

from jowa_jax import games as games_lib
from jowa_jax.play.states import Scene
from jowa_jax.report import drawing
from jowa_jax.report.drawing import CHOSEN, INK, PAGE, RULE, SOFT, font, paste

_MARGIN, _SIDE, _SCALE, _GAP, _TOP = 16, 84, 4, 24, 66
_PANE = _SIDE * _SCALE
WIDTH = 2 * (_MARGIN + _PANE) + _GAP
# Left edges of the game and of the dream.
GAME_LEFT, DREAM_LEFT = _MARGIN, _MARGIN + _PANE + _GAP
TOP, SCALE = _TOP, _SCALE
_CURVE_TOP, _CURVE_HEIGHT = _TOP + _PANE + 40, 64
HEIGHT = _CURVE_TOP + _CURVE_HEIGHT + 22
_CURVE_RIGHT = WIDTH - _MARGIN - 34


def write_film(
  path: str | os.PathLike,
  scenes: Sequence[Scene],
  title: str,
  subtitle: str = '',
  frames_per_second: int = 15,
) -> None:
  """Writes an H.264 video, a decision per frame, whole or not at all.

  Args:
    path: ends in .mp4.
    scenes: what is shown, in order.
    title: such as the game.
    subtitle: such as who plays.
    frames_per_second: decisions a second.

  Raises:
    ValueError: there is nothing to show, or the path ends otherwise.
    OSError: the file cannot be written.
  """
  drawing.check_film(path)
  if not scenes:
    raise ValueError('Nothing was played yet: there is nothing to film')
  drawing.write_pictures(
    path, pictures(scenes, title, subtitle), WIDTH, HEIGHT, frames_per_second
  )


def pictures(
  scenes: Sequence[Scene], title: str, subtitle: str = ''
) -> Iterator[np.ndarray]:
  """The pictures of a film, [HEIGHT, WIDTH, 3] uint8 each."""
  background = _background(title, subtitle, scenes)
  for place, scene in enumerate(scenes):
    image = background.copy()
    draw = ImageDraw.Draw(image)
    _write(draw, scene)
    _draw_curve(draw, scenes, place)
    pixels = np.array(image)
    real, dream = scene.frames()
    paste(pixels, real, GAME_LEFT, TOP, SCALE)
    paste(pixels, dream, DREAM_LEFT, TOP, SCALE)
    yield pixels


def _background(
  title: str, subtitle: str, scenes: Sequence[Scene]
) -> Image.Image:
  image = Image.new('RGB', (WIDTH, HEIGHT), PAGE)
  draw = ImageDraw.Draw(image)
  draw.text((_MARGIN, 30), title, INK, font(19, bold=True), 'ls')
  draw.text((WIDTH - _MARGIN, 30), subtitle, SOFT, font(12), 'rs')
  draw.text((GAME_LEFT, _TOP - 9), 'the game', SOFT, font(12), 'ls')
  draw.text((DREAM_LEFT, _TOP - 9), 'the dream', SOFT, font(12), 'ls')
  place = (_MARGIN, _CURVE_TOP - 8)
  draw.text(place, 'dreamed tokens that are right', SOFT, font(11), 'ls')
  for share in (0.0, 0.5, 1.0):
    height = _height(share)
    draw.line((_MARGIN, height, _CURVE_RIGHT, height), RULE)
    place = (WIDTH - _MARGIN, height)
    draw.text(place, f'{share:.0%}', SOFT, font(10), 'rm')
  for place, scene in enumerate(scenes):
    if scene.dreamed == 1:
      x = _across(place, len(scenes))
      draw.line((x, _height(1.0), x, _height(0.0)), RULE)
  return image


def _write(draw: ImageDraw.ImageDraw, scene: Scene) -> None:
  right = (GAME_LEFT + _PANE, _TOP - 9)
  score = 'waits' if scene.dream_on else f'score {scene.score:,}'
  draw.text(right, score, INK, font(12), 'rs')
  told = f'rewards {scene.dream_score:+,.0f} in {scene.dreamed} steps'
  draw.text((DREAM_LEFT + _PANE, _TOP - 9), told, INK, font(12), 'rs')
  action = games_lib.ACTION_NAMES[scene.action]
  place = (WIDTH // 2, _CURVE_TOP - 8)
  draw.text(place, action, CHOSEN, font(13, bold=True), 'ms')


def _across(place: int, scenes: int) -> int:
  share = place / max(1, scenes - 1)
  return round(_MARGIN + share * (_CURVE_RIGHT - _MARGIN))


def _height(share: float) -> int:
  return round(_CURVE_TOP + (1 - share) * _CURVE_HEIGHT)


def _draw_curve(
  draw: ImageDraw.ImageDraw, scenes: Sequence[Scene], place: int
) -> None:
  """The accuracy of the dream up to a decision, broken where it is unknown."""
  line: list[tuple[int, int]] = []
  for t in range(place + 1):
    accuracy = scenes[t].token_accuracy
    if accuracy is None or scenes[t].dreamed == 1:
      if len(line) > 1:
        draw.line(line, CHOSEN, 2)
      line = []
    if accuracy is not None:
      line.append((_across(t, len(scenes)), _height(accuracy)))
  if len(line) > 1:
    draw.line(line, CHOSEN, 2)
