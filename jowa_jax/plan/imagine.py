"""Rollouts in any world model under any policy."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from jowa_jax.plan.base import WorldModel

# (step from 0, Q [E, A], key) -> actions [E] int32.
DreamPolicy = Callable[[int, chex.Array, chex.PRNGKey | None], chex.Array]


@chex.dataclass(frozen=True)
class Imagined:
  """H steps after each of E contexts."""

  actions: chex.Array  # [E, H] int32
  rewards: chex.Array  # [E, H] float32 in {-1, 0, 1}, of these actions
  tokens: chex.Array  # [E, H, K] int32, the frames they lead to
  q: chex.Array  # [E, H + 1, A] float32, at the current frame and at those
  passes: chex.Array  # [E, H] int32, of the world model for each frame


def unroll(
  model: WorldModel,
  memory: Any,
  q: chex.Array,
  policy: DreamPolicy,
  horizon: int,
  key: chex.PRNGKey | None = None,
) -> Imagined:
  """Rollouts of E sequences in any world model.

  Args:
    model: the world that is acted in.
    memory: what E sequences have seen.
    q: [E, A] at their current frames.
    policy: chooses every action; to replay actions, ignore what it is given.
    horizon: steps, at least 1.
    key: for the policy and what the world model draws; None if neither draws.
  """
  values, steps = [q], []
  for step in range(horizon):
    keys = (None, None)
    if key is not None:
      keys = jax.random.split(jax.random.fold_in(key, step))
    actions = policy(step, values[-1], keys[0]).astype(jnp.int32)
    dream = model.dream(memory, actions, keys[1])
    memory = dream.memory
    values.append(dream.q)
    steps.append((actions, dream.reward, dream.tokens, dream.passes))
  parts = [jnp.stack(x, axis=1) for x in zip(*steps, strict=True)]
  return Imagined(
    actions=parts[0],
    rewards=parts[1],
    tokens=parts[2],
    passes=parts[3],
    q=jnp.stack(values, axis=1),
  )
