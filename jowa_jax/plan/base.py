"""What a planner needs of a world model, and what it returns."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax.numpy as jnp


@chex.dataclass(frozen=True)
class Dream:
  """One imagined step of N sequences."""

  reward: chex.Array  # [N] float32 in {-1, 0, 1}; NaN if logits are not finite
  tokens: chex.Array  # [N, K] int32, the next frame
  q: chex.Array  # [N, A] float32, at the next frame
  memory: Any  # pytree with the step appended
  runs: chex.Array  # [N, P] int32, tokens that each pass had to run

  @property
  def passes(self) -> chex.Array:
    """How many passes of the world model it took, [N] int32."""
    return jnp.sum(self.runs > 0, axis=1)


class WorldModel(NamedTuple):
  """A learned simulator as pure functions.

  A memory is a pytree of what N sequences have seen.

  Attributes:
    dream: (memory of N sequences, actions [M] int32, key) -> Dream of M; each
      sequence is continued by M / N neighbouring actions. The key may be None
      where nothing is drawn.
    take_rows: (memory, rows [M] int32) -> the memory of those sequences, as
      many of each environment, and together.
  """

  dream: Callable[[Any, chex.Array, chex.PRNGKey | None], Dream]
  take_rows: Callable[[Any, chex.Array], Any]


@chex.dataclass(frozen=True)
class Plan:
  """The kept leaves of a beam search, best first."""

  action: chex.Array  # [E] int32, first of the best leaf; -1 see `faulty`
  scores: chex.Array  # [E, W] float32, -inf where no leaf is left
  reward_sums: chex.Array  # [E, W] float32, discounted rewards on the path
  paths: chex.Array  # [E, W, H] int32, actions
  tokens: chex.Array  # [E, W, H, K] int32, dreamed frames
  rewards: chex.Array  # [E, W, H] float32, dreamed rewards
  # See `Dream`, over the frames of a level.
  passes: chex.Array  # [E, H, 2] float32, the mean and the most
  runs: chex.Array  # [E, H, P] int32, the sum


def faulty(q: chex.Array, legal: chex.Array) -> chex.Array:
  """Returns where no action can be chosen, [...] bool.

  Planners answer with action -1 there: nothing can be raised in a compiled
  function.

  Args:
    q: [..., A].
    legal: [..., A] bool.
  """
  finite = jnp.all(jnp.isfinite(q) | ~legal, axis=-1)
  return ~(finite & jnp.any(legal, axis=-1))
