"""Films of what follows when somebody chooses latent actions."""

import math
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from jowa_jax.report import drawing
from jowa_jax.report.drawing import INK, PAGE, SOFT, font, paste

_SIDE, _SCALE, _MARGIN, _CAPTION = 84, 2, 8, 22
_COLUMNS = 5


def write_film(
  path: str | os.PathLike,
  title: str,
  before: np.ndarray,
  choices: np.ndarray,
  dreamed: np.ndarray,
  frames_per_second: int = 5,
) -> int:
  """Writes a film, whole or not at all, a cell for every row of choices.

  Args:
    path: ends in .mp4.
    title: what is written above the cells.
    before: [T, 84, 84] uint8, the real frames that lead to where they begin.
    choices: [E, H] latent actions.
    dreamed: [E, H, 84, 84] uint8, the frames that they lead to.
    frames_per_second: decisions a second.

  Returns:
    The pictures written.

  Raises:
    ValueError: the path ends otherwise.
    OSError: the file cannot be written.
  """
  drawing.check_film(path)
  count = len(choices)
  pictures = [
    _picture(title, [frame] * count, ['real'] * count) for frame in before
  ]
  pictures += [
    _picture(title, dreamed[:, t], [f'latent {x}' for x in choices[:, t]])
    for t in range(choices.shape[1])
  ]
  height, width = pictures[0].shape[:2]
  drawing.write_pictures(path, pictures, width, height, frames_per_second)
  return len(pictures)


def _picture(
  title: str, frames: Sequence[np.ndarray], captions: Sequence[str]
) -> np.ndarray:
  """One moment of all cells, [height, width, 3] uint8, both even."""
  columns = min(len(frames), _COLUMNS)
  rows = math.ceil(len(frames) / columns)
  side = _SIDE * _SCALE
  width = max(columns, 2) * (side + _MARGIN) + _MARGIN
  height = _CAPTION + rows * (side + _CAPTION + _MARGIN) + _MARGIN
  image = Image.new('RGB', (width, height), PAGE)
  draw = ImageDraw.Draw(image)
  draw.text((_MARGIN, 17), title, SOFT, font(13), 'ls')
  places = []
  for number, caption in enumerate(captions):
    row, column = divmod(number, columns)
    left = _MARGIN + column * (side + _MARGIN)
    top = _CAPTION + _MARGIN + row * (side + _CAPTION + _MARGIN)
    draw.text((left, top + side + 15), caption, INK, font(12), 'ls')
    places.append((left, top))
  pixels = np.array(image)
  for frame, (left, top) in zip(frames, places, strict=True):
    paste(pixels, frame, left, top, _SCALE)
  return pixels
