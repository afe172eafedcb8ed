"""Places in a line of episodes, one behind the other."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jowa_jax.types import FRAME_SHAPE

if TYPE_CHECKING:
  # Which reads pictures: what only needs places should not have to.
  from jowa_jax.data.episodes import Episode


def evenly(total: int, count: int) -> np.ndarray:
  """Up to `count` evenly spaced indices below `total`."""
  return np.linspace(0, total - 1, min(count, total)).astype(int)


def locate(stops: np.ndarray, place: int) -> tuple[int, int]:
  """The episode of a place, and the step in it.

  Args:
    stops: [E] where the episodes end: the sums of their lengths so far.
    place: below the last of them.
  """
  episode = int(np.searchsorted(stops, place, side='right'))
  before = int(stops[episode - 1]) if episode else 0
  return episode, int(place) - before


def spread_frames(episodes: Sequence['Episode'], count: int) -> np.ndarray:
  """Evenly spaced frames, [N, 84, 84] uint8; N is `count` if there are so many.

  Raises:
    DataError: a frame is damaged.
  """
  stops = np.cumsum([len(episode) for episode in episodes])
  places = evenly(stops[-1], count)
  frames = np.empty((len(places), *FRAME_SHAPE), np.uint8)
  for row, place in enumerate(places):
    i, step = locate(stops, place)
    episodes[i].decode(step, step + 1, frames[row : row + 1])
  return frames
