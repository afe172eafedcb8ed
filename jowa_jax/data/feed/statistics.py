"""Statistics of a data set that a method may ask for, by name.

Each has a row for every game, of that game's episodes. A method names those
that it reads in `BatchSpec.statistics`, and gets them in `Method.init`.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from jowa_jax import games
from jowa_jax.data.places import spread_frames
from jowa_jax.types import FRAME_SHAPE

if TYPE_CHECKING:
  # Which reads pictures: what only needs the shapes should not have to.
  from jowa_jax.data.episodes import Episode


class Statistic(NamedTuple):
  """What is computed of each game.

  Attributes:
    shape: of a game's row.
    dtype: of a game's row.
    of_game: (episodes of one game, at least one) -> its row.
  """

  shape: tuple[int, ...]
  dtype: type[np.generic]
  of_game: Callable[[Sequence['Episode']], np.ndarray]


def median_frame(
  episodes: Sequence['Episode'], num_frames: int = 256
) -> np.ndarray:
  """The median of a game's frames, what does not move in it.

  Args:
    episodes: of one game.
    num_frames: how many frames, evenly spaced over the episodes, enter it.

  Returns:
    [84, 84] uint8.
  """
  return np.median(spread_frames(episodes, num_frames), axis=0)


def action_counts(episodes: Sequence['Episode']) -> np.ndarray:
  """How often each of the 18 actions was taken, [18]."""
  actions = np.concatenate([episode.actions for episode in episodes])
  return np.bincount(actions, minlength=games.NUM_ACTIONS)


def return_percentiles(episodes: Sequence['Episode']) -> np.ndarray:
  """Percentiles 0 (the least) to 100 (the largest) of episodes' returns, [101].

  A return is the sum of an episode's clipped rewards, as far as it was logged:
  the return-to-go of its first step.
  """
  returns = [episode.rewards.sum(dtype=np.int64) for episode in episodes]
  return np.percentile(returns, np.arange(101))


STATISTICS: dict[str, Statistic] = {
  'median_frames': Statistic(FRAME_SHAPE, np.uint8, median_frame),
  'action_counts': Statistic((games.NUM_ACTIONS,), np.int32, action_counts),
  'return_percentiles': Statistic((101,), np.float32, return_percentiles),
}


def compute(
  names: Iterable[str], episodes: Iterable['Episode']
) -> dict[str, np.ndarray]:
  """The named statistics of some episodes.

  Args:
    names: of `STATISTICS`.
    episodes: of any games.

  Returns:
    By name, [60, ...]; the rows of games without episodes are 0.

  Raises:
    ValueError: there is no such statistic.
    DataError: a frame is damaged.
  """
  found = {
    name: np.zeros(shape.shape, shape.dtype)
    for name, shape in shapes(names).items()
  }
  groups: dict[int, list[Episode]] = {}
  for episode in episodes:
    groups.setdefault(episode.task, []).append(episode)
  for name, rows in found.items():
    for task, group in groups.items():
      rows[task] = STATISTICS[name].of_game(group)
  return found


def shapes(names: Iterable[str]) -> dict[str, jax.ShapeDtypeStruct]:
  """Shapes and dtypes of what `compute` gives, by name.

  Raises:
    ValueError: there is no such statistic.
  """
  names = tuple(names)
  if unknown := sorted(set(names) - STATISTICS.keys()):
    raise ValueError(
      f'BatchSpec.statistics has {unknown}, which are not in '
      f'{sorted(STATISTICS)}: add them to data.feed.statistics.STATISTICS'
    )
  return {
    name: jax.ShapeDtypeStruct(
      (games.NUM_TASKS, *STATISTICS[name].shape), STATISTICS[name].dtype
    )
    for name in names
  }
