"""Beam search in the world model (JOWA section 4.2, equation 11).

All beams of all environments are one batch: a level is one call of the world
model, however many environments are served.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax import lax

from jowa_jax.plan.base import Plan, WorldModel


@chex.dataclass(frozen=True)
class _Beams:
  """The frontier of the search, for W beams of E environments."""

  scores: chex.Array  # [E, W]
  reward_sums: chex.Array  # [E, W]
  q: chex.Array  # [E, W, A], illegal actions -inf
  rows: chex.Array  # [E, W], the beam's row in the cache
  paths: tuple[chex.Array, ...]  # per level [E, W]
  rewards: tuple[chex.Array, ...]  # per level [E, W]
  tokens: tuple[chex.Array, ...]  # per level [E, W, K]


def _mask(q: chex.Array, legal: chex.Array) -> chex.Array:
  return jnp.where(legal[:, None], q, -jnp.inf)


def _expand(beams: _Beams, count: int):
  """Returns the best actions of every beam, and which of them exist.

  Both are [E, W * count], children of a beam beside each other.
  """
  values, actions = lax.top_k(beams.q, count)
  exists = jnp.isfinite(values) & jnp.isfinite(beams.scores)[..., None]
  merge = (actions.shape[0], -1)
  return actions.astype(jnp.int32).reshape(merge), exists.reshape(merge)


def _prune(children: _Beams, width: int) -> _Beams:
  """Keeps the `width` best children of each environment, best first."""
  scores, kept = lax.top_k(children.scores, min(width, children.rows.shape[1]))
  pick = jax.vmap(lambda x, index: x[index])
  return jax.tree.map(lambda x: pick(x, kept), children).replace(scores=scores)


def beam_search(
  model: WorldModel,
  root_q: chex.Array,
  cache: Any,
  legal: chex.Array,
  *,
  width: int,
  horizon: int,
  gamma: float,
) -> Plan:
  """Searches `horizon` steps ahead, keeping `width` leaves per environment.

  A leaf's score is the discounted sum of the dreamed rewards on its path plus
  the discounted value of its best legal action. Dreamed terminations are not
  used. Width 1 or horizon 0 is the greedy policy.

  Args:
    model: the world model.
    root_q: [E, A] float32 Q values at the current frames.
    cache: of the contexts, one row per environment, with room for `horizon`
      further blocks.
    legal: [E, A] bool.
    width: beams kept, static.
    horizon: levels, static.
    gamma: discount.

  Raises:
    ValueError: width < 1 or horizon < 0.
  """
  if width < 1 or horizon < 0:
    raise ValueError(
      f'beam search needs width >= 1 and horizon >= 0, got width={width}, '
      f'horizon={horizon}'
    )
  chex.assert_rank([root_q, legal], 2)
  num_envs = root_q.shape[0]
  root_q = _mask(root_q[:, None], legal)
  beams = _Beams(
    scores=jnp.max(root_q, axis=-1),
    reward_sums=jnp.zeros((num_envs, 1)),
    q=root_q,
    rows=jnp.arange(num_envs)[:, None],
    paths=(),
    rewards=(),
    tokens=(),
  )
  for level in range(horizon):
    beams, cache = _advance(
      model, beams, cache, legal, width, gamma**level, gamma
    )
  greedy = jnp.argmax(root_q[:, 0], axis=-1).astype(jnp.int32)
  return Plan(
    action=beams.paths[0][:, 0] if horizon else greedy,
    scores=beams.scores,
    reward_sums=beams.reward_sums,
    paths=_stack(beams.paths, beams.scores, jnp.int32),
    tokens=_stack(beams.tokens, beams.scores, jnp.int32),
    rewards=_stack(beams.rewards, beams.scores, jnp.float32),
  )


def _stack(levels, scores, dtype):
  """Joins the levels on axis 2; without any, that axis is empty."""
  if levels:
    return jnp.stack(levels, axis=2)
  return jnp.zeros((*scores.shape, 0), dtype)


def _advance(model, beams, cache, legal, width, discount, gamma):
  """One level: expand, dream, score, prune."""
  num_envs, num_actions = legal.shape
  # A beam has no more children than there are actions, however many are kept.
  count = min(width, num_actions)
  actions, exists = _expand(beams, count)
  parents = jax.tree.map(lambda x: jnp.repeat(x, count, axis=1), beams)
  dream = model.dream(
    model.take_rows(cache, parents.rows.reshape(-1)), actions.reshape(-1)
  )

  def split(x):
    return x.reshape(num_envs, -1, *x.shape[1:])

  q = _mask(split(dream.q), legal)
  reward = split(dream.reward)
  reward_sums = parents.reward_sums + discount * reward
  scores = reward_sums + discount * gamma * jnp.max(q, axis=-1)
  children = _Beams(
    scores=jnp.where(exists, scores, -jnp.inf),
    reward_sums=reward_sums,
    q=q,
    rows=jnp.arange(actions.size).reshape(actions.shape),
    paths=(*parents.paths, actions),
    rewards=(*parents.rewards, reward),
    tokens=(*parents.tokens, split(dream.tokens)),
  )
  return _prune(children, width), dream.cache
