"""What a planner needs of a world model, and what it returns."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex


@chex.dataclass(frozen=True)
class Dream:
  """One imagined step of N independent contexts."""

  reward: chex.Array  # [N] float32 in {-1, 0, 1}
  tokens: chex.Array  # [N, K] int32, the next frame
  q: chex.Array  # [N, A] float32, at the next frame
  cache: Any  # pytree with the step appended


class WorldModel(NamedTuple):
  """A learned simulator as pure functions.

  Attributes:
    dream: (cache, actions [N] int32) -> Dream.
    take_rows: (cache, rows [M] int32) -> the cache of those rows.
  """

  dream: Callable[[Any, chex.Array], Dream]
  take_rows: Callable[[Any, chex.Array], Any]


@chex.dataclass(frozen=True)
class Plan:
  """The kept leaves of a search, best first."""

  action: chex.Array  # [E] int32, first action of the best leaf
  scores: chex.Array  # [E, W] float32, -inf where no leaf is left
  reward_sums: chex.Array  # [E, W] float32, discounted rewards on the path
  paths: chex.Array  # [E, W, H] int32, actions
  tokens: chex.Array  # [E, W, H, K] int32, dreamed frames
  rewards: chex.Array  # [E, W, H] float32, dreamed rewards
