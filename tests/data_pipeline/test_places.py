"""Places in a line of episodes of 2, 1 and 3 steps."""

import numpy as np

from jowa_jax.data import places
from jowa_jax.types import FRAME_SHAPE

STOPS = np.array([2, 3, 6])


class _Episode:
  """Its frames are of the grey of their place in the line."""

  def __init__(self, first, length):
    self._first, self._length = first, length

  def __len__(self):
    return self._length

  def decode(self, start, stop, out):
    out[:] = np.arange(start, stop)[:, None, None] + self._first


def test_every_place_is_in_one_episode():
  found = [places.locate(STOPS, place) for place in range(6)]
  assert found == [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (2, 2)]


def test_what_is_spread_has_both_ends_and_nothing_twice():
  assert places.evenly(6, 2).tolist() == [0, 5]
  assert places.evenly(6, 4).tolist() == [0, 1, 3, 5]
  assert places.evenly(3, 8).tolist() == [0, 1, 2]


def test_frames_are_those_of_their_places():
  episodes = [_Episode(0, 2), _Episode(2, 1), _Episode(3, 3)]
  frames = places.spread_frames(episodes, 4)
  assert frames.shape == (4, *FRAME_SHAPE) and frames.dtype == np.uint8
  assert frames[:, 0, 0].tolist() == [0, 1, 3, 5]
