"""How play went, told alike of everything that was played."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class PlayStats(NamedTuple):
  """How some episodes went."""

  episodes: int
  steps: int
  full_episodes: int  # that ended in game over, and were not cut off
  mean_return: float | None  # of full episodes; None without any

  @classmethod
  def of(
    cls,
    lengths: Sequence[int],
    scores: Sequence[float],
    terminated: Sequence[bool],
  ) -> 'PlayStats':
    """Counts and mean of episodes.

    Args:
      lengths: [E] transitions.
      scores: [E], clipped or not, as the mean shall be.
      terminated: [E], whether the game was over at the end.
    """
    full = np.asarray(scores, np.float64)[np.asarray(terminated, bool)]
    return cls(
      episodes=len(lengths),
      steps=int(np.sum(lengths, dtype=np.int64)),
      full_episodes=len(full),
      mean_return=float(full.mean()) if len(full) else None,
    )
