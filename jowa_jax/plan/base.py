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
  # [N] float32, probability that the episode ends instead of showing the next
  # frame; None of models that tell nothing of ends. Planners do not read it.
  end: chex.Array | None = None

  @property
  def passes(self) -> chex.Array:
    """How many passes of the world model it took, [N] int32."""
    return jnp.sum(self.runs > 0, axis=1)


class Trails(NamedTuple):
  """How a tree keeps what its nodes have seen.

  A trail is a pytree of what was dreamed on the way from E contexts to E
  states. What the contexts themselves have seen is not in it, and its shapes
  are the same however long the way is: trails can be kept in arrays.

  Attributes:
    begin: (memory of the contexts, steps) -> the trail of no step, with room
      for so many: a longer one cannot be recalled.
    recall: (memory of the contexts, trail) -> the memory of the states.
    extend: (trail, memory) -> the trail one step longer; the memory is that of
      the step's dream, from what was recalled.
  """

  begin: Callable[[Any, int], Any]
  recall: Callable[[Any, Any], Any]
  extend: Callable[[Any, Any], Any]


class WorldModel(NamedTuple):
  """A simulator, learned or real, as pure functions.

  A memory is a pytree of what N sequences have seen.

  Attributes:
    dream: (memory of N sequences, actions [M] int32, key) -> Dream of M; each
      sequence is continued by M / N neighbouring actions. The key may be None
      where nothing is drawn.
    take_rows: (memory, rows [M] int32) -> the memory of those sequences, as
      many of each environment, and together.
    trails: for searches that grow trees; None if it has none.
    observe: (memory of N sequences, actions [M] int32, tokens [M, K] of the
      frames that were really seen after them) -> (Q [M, A] at these frames,
      the memory with them appended), as if they had been dreamed; each sequence
      is continued by M / N neighbours. None of a world that shows its own.
  """

  dream: Callable[[Any, chex.Array, chex.PRNGKey | None], Dream]
  take_rows: Callable[[Any, chex.Array], Any]
  trails: Trails | None = None
  observe: (
    Callable[[Any, chex.Array, chex.Array], tuple[chex.Array, Any]] | None
  ) = None


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
  """Where no action can be chosen, [...] bool.

  Planners answer with action -1 there: nothing can be raised in a compiled
  function.

  Args:
    q: [..., A].
    legal: [..., A] bool.
  """
  finite = jnp.all(jnp.isfinite(q) | ~legal, axis=-1)
  return ~(finite & jnp.any(legal, axis=-1))
