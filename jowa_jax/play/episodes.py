"""What a person or the agent played, as data."""

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jowa_jax import games as games_lib
from jowa_jax.collect.recordings import Recorded, Recording, of_now


class Episode(NamedTuple):
  """An episode from its beginning, as recordings keep it."""

  actions: np.ndarray  # [T] uint8, of the shared 18
  terminated: bool  # in game over
  score: int  # as the game counts
  checksum: int  # of the last frame, see `recordings.frame_checksum`


def recording(
  game: str, episodes: Sequence[Episode], seconds: float
) -> Recording:
  """Episodes that were played without sticky actions, each from a reset.

  Every recording is a run of its own, numbered by the clock.

  Args:
    game: that was played.
    episodes: in order.
    seconds: that playing took.

  Raises:
    ValueError: there are no episodes, or the game is a variant, which data sets
      have no place for.
  """
  name = games_lib.parse_variant(game).game
  if name != game:
    raise ValueError(
      f'{game}: data sets hold games, not variants of them; play {name} to '
      'record it'
    )
  if not episodes:
    raise ValueError('Nothing was played yet: there is nothing to save')
  recorded = Recorded(
    settings={
      'game': game,
      'run': int(time.time()),
      'checkpoint': 0,
      'epsilon': 0.0,
      'sticky': 0.0,
      'played': 'in launch.play',
    },
    emulator_seed=0,
    seconds=round(seconds, 3),
    actions=np.concatenate([episode.actions for episode in episodes]),
    lengths=np.array([len(e.actions) for e in episodes], np.int32),
    terminated=np.array([episode.terminated for episode in episodes], bool),
    scores=np.array([episode.score for episode in episodes], np.int64),
    checksums=np.array([episode.checksum for episode in episodes], np.uint32),
  )
  return of_now([recorded])
