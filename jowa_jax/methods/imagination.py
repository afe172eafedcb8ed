"""Imagined training data: segments whose last steps the agent dreams itself.

Part of fine-tuning (JOWA section 4.3), and the paper's ablation with synthetic
data in pretraining. What is dreamed is dreamed anew at every step, so that a
run holds nothing that its checkpoints would have to.
"""

import dataclasses

import chex
import jax
import jax.numpy as jnp
from jax import lax

from jowa_jax import games
from jowa_jax.methods import jowa_dreams
from jowa_jax.methods.base import Metrics
from jowa_jax.models import world_action
from jowa_jax.models.world_action import WorldActionConfig
from jowa_jax.plan.beam import beam_search
from jowa_jax.types import History, Params, Segment

POLICIES = ('', 'planning', 'epsilon_greedy')


@dataclasses.dataclass(frozen=True)
class Imagination:
  """Whether and how half of every batch is imagined.

  Attributes:
    policy: who chooses the dreamed actions: 'planning' takes the best path of
      a beam search, 'epsilon_greedy' the best action of every frame but for
      some; empty for no imagination.
    start_step: steps of a stage before the first batch that is imagined.
    horizon: steps dreamed; what a segment has before them is real.
    width: beams of 'planning'.
    epsilon: share of random legal actions of 'epsilon_greedy'.
  """

  policy: str = ''
  start_step: int = 20_000
  horizon: int = 2
  width: int = 2
  epsilon: float = 0.1

  def __post_init__(self):
    if self.policy not in POLICIES:
      raise ValueError(f'policy={self.policy!r} is not in {POLICIES}')
    if self.start_step < 0 or self.horizon < 1 or self.width < 1:
      raise ValueError(
        f'start_step={self.start_step} must be at least 0, '
        f'horizon={self.horizon} and width={self.width} at least 1'
      )
    if not 0 <= self.epsilon <= 1:
      raise ValueError(f'epsilon={self.epsilon} is not in [0, 1]')


def check_imagination(imagination: Imagination, max_blocks: int) -> None:
  """Raises ValueError if a segment has no room for what is dreamed."""
  if imagination.policy and imagination.horizon >= max_blocks:
    raise ValueError(
      f'imagination.horizon={imagination.horizon} leaves no real step of the '
      f'{max_blocks} of a segment (backbone.max_blocks)'
    )


def dream_segments(
  model: WorldActionConfig,
  imagination: Imagination,
  params: dict[str, Params],
  tokens: chex.Array,
  batch: Segment,
  key: chex.PRNGKey,
) -> tuple[Segment, Metrics]:
  """Segments that go on from the last real steps of others.

  With H the horizon, the last T - H steps of a segment come first. From the
  last of them on actions are chosen, and frames and rewards dreamed; the last
  frame has no action, so `acted` is false there. Observation t stands beside
  action and reward t throughout (the released program shifts the real ones by
  a step).

  Args:
    model: sizes.
    imagination: policy, horizon and width of the dreams.
    params: with the top-level names of `world_action.init`.
    tokens: [B, T, K] int32, the segments' frames.
    batch: [B, T], the segments.
    key: of random actions.

  Returns:
    The segments, `imagined` where the steps they go on from are all real, and
    otherwise as they were; and metrics.
  """
  horizon = imagination.horizon
  context = History(
    seen=tokens[:, horizon:],
    actions=batch.actions[:, horizon:],
    count=jnp.full(batch.task.shape, tokens.shape[1] - horizon, jnp.int32),
    tasks=batch.task,
  )
  choose = _plan if imagination.policy == 'planning' else _explore
  actions, rewards, frames, passes = choose(
    model, imagination, params, context, key
  )
  imagined = batch.mask[:, horizon:].all(axis=1)
  # The last real action gives way to the first that is chosen, and there is
  # none at the last frame.
  nothing = jnp.zeros_like(actions[:, :1])
  dreamt = batch.replace(
    actions=jnp.concatenate(
      [batch.actions[:, horizon:-1], actions, nothing], axis=1
    ),
    rewards=jnp.concatenate(
      [
        batch.rewards[:, horizon:-1],
        rewards,
        nothing.astype(batch.rewards.dtype),
      ],
      axis=1,
    ),
    # Terminations are not dreamed, and none is before the last real step.
    ends=jnp.zeros_like(batch.ends),
    mask=jnp.ones_like(batch.mask),
    t=None if batch.t is None else batch.t + horizon,
    tokens=jnp.concatenate([tokens[:, horizon:], frames], axis=1),
    imagined=imagined,
    acted=jnp.ones_like(batch.mask).at[:, -1].set(False),
  )
  kept = batch.replace(
    tokens=tokens, imagined=imagined, acted=jnp.ones_like(batch.mask)
  )

  def pick(ours, theirs):
    rows = imagined.reshape(-1, *(1,) * (ours.ndim - 1))
    return jnp.where(rows, ours, theirs)

  metrics = {
    'imagination/segments': imagined.mean(),
    'imagination/reward': jnp.mean(rewards),  # of a dreamed step
    'imagination/passes': passes,
  }
  return jax.tree.map(pick, dreamt, kept), metrics


def _plan(model, imagination, params, context, key):
  """Actions [B, H], rewards [B, H], frames [B, H, K], most passes."""
  del key
  params = world_action.in_compute_dtype(model, params)
  memory, q = jowa_dreams.remember(model, params, context)
  plan = beam_search(
    jowa_dreams.world_model(model, params, context.tasks),
    q,
    memory,
    jnp.asarray(games.legal_mask())[context.tasks],
    width=imagination.width,
    horizon=imagination.horizon,
    gamma=model.returns.gamma,
  )
  return (
    plan.paths[:, 0],
    plan.rewards[:, 0],
    plan.tokens[:, 0],
    plan.passes[..., 1].max(),
  )


def _explore(model, imagination, params, context, key):
  """What `_plan` does, of an epsilon-greedy policy."""
  legal = jnp.asarray(games.legal_mask())[context.tasks]

  def policy(step, q, key):
    del step
    keys = jax.random.split(key)
    any_legal = jax.random.categorical(keys[0], jnp.where(legal, 0.0, -jnp.inf))
    best = jnp.argmax(jnp.where(legal, q, -jnp.inf), axis=-1)
    draws = jax.random.bernoulli(keys[1], imagination.epsilon, best.shape)
    return jnp.where(draws, any_legal, best)

  dreamt = jowa_dreams.imagine(
    model, params, context, policy, imagination.horizon, key
  )
  passes = dreamt.passes.max().astype(jnp.float32)
  return dreamt.actions, dreamt.rewards, dreamt.tokens, passes


def imagine_half(
  model: WorldActionConfig,
  imagination: Imagination,
  params: dict[str, Params],
  tokens: chex.Array,
  batch: Segment,
  key: chex.PRNGKey,
  step: chex.Array,
) -> tuple[Segment, Metrics]:
  """Segments as tokens, of which half goes on in dreams from a step on.

  Args:
    model: sizes.
    imagination: policy, horizon and width of the dreams.
    params: with the top-level names of `world_action.init`.
    tokens: [B, T, K] int32, the frames.
    batch: [B, T], with B even: the second of every two neighbours is imagined.
    key: of random actions.
    step: [] int32, steps taken in the stage.
  """
  num_envs, length = batch.mask.shape
  before = batch.replace(
    observations=None,
    tokens=tokens,
    imagined=jnp.zeros(num_envs, bool),
    acted=jnp.ones((num_envs, length), bool),
  )

  def rows(x, half):
    # Pairs are neighbours, so that all devices have as many of either.
    return x.reshape(-1, 2, *x.shape[1:])[:, half]

  def dreamed():
    half = jax.tree.map(lambda x: rows(x, 1), before)
    half, metrics = dream_segments(
      model, imagination, params, half.tokens, half, key
    )

    def join(x, y):
      return jnp.stack([rows(x, 0), y], axis=1).reshape(x.shape)

    return jax.tree.map(join, before, half), metrics

  _, shapes = jax.eval_shape(dreamed)
  nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  return lax.cond(
    step >= imagination.start_step, dreamed, lambda: (before, nothing)
  )
