"""Rollouts in the world model under any policy."""

from collections.abc import Callable, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp

from jowa_jax.models import world_action
from jowa_jax.models.world_action import WorldActionConfig
from jowa_jax.plan.base import WorldModel
from jowa_jax.plan.dream import remember, world_model
from jowa_jax.types import History, Params

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


def imagine(
  config: WorldActionConfig,
  params: Params,
  context: History,
  policy: DreamPolicy,
  horizon: int,
  key: chex.PRNGKey | None = None,
  *,
  temperature: float = 0.0,
  decoder: str = 'parallel',
  shares: Sequence[float] = (),
) -> Imagined:
  """Dreams `horizon` steps from real contexts (JOWA section 4.2).

  Args:
    config: sizes of the model.
    params: with the top-level names of `world_action.init`.
    context: of E environments; its last actions are not read.
    policy: chooses every action; to replay actions, ignore what it is given.
    horizon: steps; the position table must have room for them.
    key: for the policy and, with a temperature, for what is drawn.
    temperature: see `world_model`.
    decoder: see `world_model`.
    shares: see `world_model`.

  Raises:
    ValueError: horizon < 0, or no room for it beside the context.
  """
  check_room(config, context, horizon)
  params = world_action.in_compute_dtype(config, params)
  memory, q = remember(config, params, context)
  if not horizon:
    envs, _, num_tokens = context.seen.shape
    empty = jnp.zeros((envs, 0), jnp.int32)
    return Imagined(
      actions=empty,
      rewards=empty.astype(jnp.float32),
      tokens=jnp.zeros((envs, 0, num_tokens), jnp.int32),
      q=q[:, None],
      passes=empty,
    )
  model = world_model(
    config,
    params,
    context.tasks,
    decoder=decoder,
    temperature=temperature,
    shares=shares,
  )
  return unroll(model, memory, q, policy, horizon, key)


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


def check_room(
  config: WorldActionConfig, context: History, horizon: int
) -> None:
  """Raises ValueError unless the position table has room for a dream."""
  blocks, limit = context.seen.shape[1], config.backbone.max_blocks
  if horizon < 0 or blocks + horizon > limit:
    raise ValueError(
      f'A context of {blocks} blocks and horizon={horizon} (at least 0) do not '
      f'fit into the {limit} blocks of the position table: shorten one'
    )
