"""Frames, as the page shows them."""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from jowa_jax.eval.findings import Dreams, Reconstructions

_MAX_COLUMNS = 8  # frames beside each other
_MAX_DREAMS = 3  # sequences of a game


def reconstruction_rows(arrays: Reconstructions):
  """(title, frames) rows: what is there, what moves, what is kept and lost."""
  chosen = _spread(len(arrays.frames))
  frames = arrays.frames[chosen]
  reconstructions = arrays.reconstructions[chosen]
  rows = [('Game', frames), ('Reconstruction', reconstructions)]
  if arrays.median is not None:
    rows.append(('What moves', _difference(frames, arrays.median)))
  rows.append(('What is lost', _difference(frames, reconstructions)))
  return [(title, [image_uri(f) for f in row]) for title, row in rows]


def _difference(frames: np.ndarray, others: np.ndarray) -> np.ndarray:
  """Absolute differences at twice their brightness, uint8."""
  difference = np.abs(frames.astype(int) - others)
  return np.minimum(2 * difference, 255).astype(np.uint8)


def dream_grid(arrays: Dreams) -> dict[str, Any]:
  """Captions of steps, and frames of some sequences.

  What came, what the tokenizer keeps of it, as far as that is known, and what
  was dreamed.
  """
  steps = _spread(arrays.real.shape[1])
  rows = {
    'Real': arrays.real,
    'Reconstructed': arrays.reconstructed,
    'Dreamed': arrays.dreamed,
  }
  return {
    'steps': ['last real frame' if s == 0 else f'+{s}' for s in steps],
    'sequences': [
      [
        (title, [image_uri(frame) for frame in frames[sequence][steps]])
        for title, frames in rows.items()
        if frames is not None
      ]
      for sequence in range(min(len(arrays.real), _MAX_DREAMS))
    ],
  }


def _spread(length: int) -> list[int]:
  """At most `_MAX_COLUMNS` evenly spread indices, both ends included."""
  count = min(length, _MAX_COLUMNS)
  return np.linspace(0, length - 1, count).round().astype(int).tolist()


def image_uri(frame: np.ndarray) -> str:
  """An [H, W] uint8 image as a PNG to be put into a page."""
  buffer = io.BytesIO()
  Image.fromarray(frame).save(buffer, format='PNG', optimize=True)
  return data_uri('image/png', buffer.getvalue())


def data_uri(kind: str, data: bytes) -> str:
  """A file to be put into a page, of a kind such as 'video/mp4'."""
  return f'data:{kind};base64,{base64.b64encode(data).decode()}'
