"""Beam search in the world model (JOWA section 4.2, equation 11).

All beams of all environments are one batch: a level is one call of the world
model, however many environments are served.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax import lax

from jowa_jax.plan import base
from jowa_jax.plan.base import Plan, WorldModel

PATH_SCORES = ('leaf', 'mean')


@chex.dataclass(frozen=True)
class _Beams:
  """The frontier of the search, for W beams of E environments."""

  scores: chex.Array  # [E, W]
  reward_sums: chex.Array  # [E, W]
  estimates: chex.Array  # [E, W], sum of what shorter paths were worth
  q: chex.Array  # [E, W, A], illegal actions -inf
  rows: chex.Array  # [E, W], the beam's row in the memory
  paths: tuple[chex.Array, ...]  # per level [E, W]
  rewards: tuple[chex.Array, ...]  # per level [E, W]
  tokens: tuple[chex.Array, ...]  # per level [E, W, K]


def _mask(q: chex.Array, legal: chex.Array) -> chex.Array:
  return jnp.where(legal[:, None], q, -jnp.inf)


def _expand(beams: _Beams, count: int):
  """The best actions of every beam, their values, and which of them exist.

  All are [E, W * count], children of a beam beside each other.
  """
  values, actions = lax.top_k(beams.q, count)
  exists = jnp.isfinite(values) & jnp.isfinite(beams.scores)[..., None]
  # A child that does not exist dreams what its sibling does, in no more passes.
  actions = jnp.where(jnp.isfinite(values), actions, actions[..., :1])
  merge = (actions.shape[0], -1)
  actions = actions.astype(jnp.int32)
  return actions.reshape(merge), values.reshape(merge), exists.reshape(merge)


def _prune(children: _Beams, width: int) -> _Beams:
  """Keeps the `width` best children of each environment, best first."""
  scores, kept = lax.top_k(children.scores, min(width, children.rows.shape[1]))
  pick = jax.vmap(lambda x, index: x[index])
  return jax.tree.map(lambda x: pick(x, kept), children).replace(scores=scores)


def beam_search(
  model: WorldModel,
  root_q: chex.Array,
  memory: Any,
  legal: chex.Array,
  *,
  width: int,
  horizon: int,
  gamma: float,
  path_score: str = 'leaf',
) -> Plan:
  """Searches `horizon` steps ahead, keeping `width` leaves per environment.

  A leaf's estimate of the return is the discounted sum of the dreamed rewards
  on its path plus the discounted value of its best legal action. Dreamed
  terminations are not used. Width 1 or horizon 0 is the greedy policy.

  The paper compares leaves by these estimates alone. What the values of the
  root and on the way tell of the actions is lost then, and where actions differ
  by less than the values of dreams are wrong, the choice is a guess. The mean
  over the path's lengths, from Q of the root's action to the leaf's estimate,
  estimates the same return, and its errors partly cancel.

  Args:
    model: the world model.
    root_q: [E, A] float32 Q values at the current frames.
    memory: of the contexts, one row per environment.
    legal: [E, A] bool.
    width: beams kept, static.
    horizon: levels, static.
    gamma: discount.
    path_score: what leaves are compared by, static: 'leaf', or the 'mean' over
      the path's lengths.

  Returns:
    The plan; its action is -1 where a value on the way is not finite or no
    action is legal. With horizon 0 it has one leaf, the root.

  Raises:
    ValueError: width < 1 or horizon < 0, or another `path_score`.
  """
  if path_score not in PATH_SCORES:
    raise ValueError(f'path_score={path_score!r} is not in {PATH_SCORES}')
  if width < 1 or horizon < 0:
    raise ValueError(
      f'beam search needs width >= 1 and horizon >= 0, got width={width}, '
      f'horizon={horizon}'
    )
  chex.assert_rank([root_q, legal], 2)
  num_envs = root_q.shape[0]
  faults = base.faulty(root_q, legal)
  root_q = _mask(root_q[:, None], legal)
  beams = _Beams(
    scores=jnp.max(root_q, axis=-1),
    reward_sums=jnp.zeros((num_envs, 1)),
    estimates=jnp.zeros((num_envs, 1)),
    q=root_q,
    rows=jnp.arange(num_envs)[:, None],
    paths=(),
    rewards=(),
    tokens=(),
  )
  passes, runs = [], []
  for level in range(horizon):
    beams, dream, fault = _advance(
      model, beams, memory, legal, width, gamma**level, gamma, path_score
    )
    memory, faults = dream.memory, faults | fault
    taken = dream.passes.reshape(num_envs, -1)
    passes.append(jnp.stack([taken.mean(axis=1), taken.max(axis=1)], axis=-1))
    run = dream.runs.reshape(num_envs, -1, dream.runs.shape[1])
    runs.append(run.sum(axis=1))
  greedy = jnp.argmax(root_q[:, 0], axis=-1).astype(jnp.int32)
  action = beams.paths[0][:, 0] if horizon else greedy
  no_levels = (*beams.scores.shape, 0)
  return Plan(
    action=jnp.where(faults, -1, action),
    scores=beams.scores,
    reward_sums=beams.reward_sums,
    paths=_stack(beams.paths, 2, jnp.zeros(no_levels, jnp.int32)),
    tokens=_stack(beams.tokens, 2, jnp.zeros(no_levels, jnp.int32)),
    rewards=_stack(beams.rewards, 2, jnp.zeros(no_levels)),
    passes=_stack(passes, 1, jnp.zeros((num_envs, 0, 2))),
    runs=_stack(runs, 1, jnp.zeros((num_envs, 0, 0), jnp.int32)),
  )


def _stack(levels, axis, empty):
  return jnp.stack(levels, axis) if levels else empty


def _advance(model, beams, memory, legal, width, discount, gamma, path_score):
  """One level: expand, dream, score, prune.

  Returns the beams, the dream they are rows of, and where it is faulty, [E].
  """
  num_envs, num_actions = legal.shape
  # A beam has no more children than there are actions, however many are kept.
  count = min(width, num_actions)
  actions, values, exists = _expand(beams, count)
  parents = jax.tree.map(lambda x: jnp.repeat(x, count, axis=1), beams)
  if beams.paths:
    memory = model.take_rows(memory, beams.rows.reshape(-1))
  dream = model.dream(memory, actions.reshape(-1), None)

  def split(x):
    return x.reshape(num_envs, -1, *x.shape[1:])

  q = split(dream.q)
  reward = split(dream.reward)
  fault = base.faulty(q, legal[:, None]) | ~jnp.isfinite(reward)
  fault = jnp.any(fault & exists, axis=1)
  q = _mask(q, legal)
  reward_sums = parents.reward_sums + discount * reward
  # Where there is no child, its value is infinite and its score is not read.
  estimates = parents.estimates + parents.reward_sums + discount * values
  scores = reward_sums + discount * gamma * jnp.max(q, axis=-1)
  if path_score == 'mean':
    scores = (estimates + scores) / (len(beams.paths) + 2)
  children = _Beams(
    scores=jnp.where(exists, scores, -jnp.inf),
    reward_sums=reward_sums,
    estimates=estimates,
    q=q,
    rows=jnp.arange(actions.size).reshape(actions.shape),
    paths=(*parents.paths, actions),
    rewards=(*parents.rewards, reward),
    tokens=(*parents.tokens, split(dream.tokens)),
  )
  return _prune(children, width), dream, fault
