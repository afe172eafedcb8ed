"""Acting on what was seen, done and earned in the last steps.

Used by every method that decides from a history: of tokens, of frames, or of
anything else that it keeps of a frame. Methods differ in what that is, and in
how they decide.
"""

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from jowa_jax import games
from jowa_jax.methods.base import Policy
from jowa_jax.types import History, TimeStep

# Folded into an environment's key for what its decision draws. Not 0 or 1:
# these give the keys of `jax.random.split`, which random actions are drawn by.
DECISION = 2


def slide(history: History, seen: Any, timestep: TimeStep) -> History:
  """Appends a step; environments whose episode begins with it start anew.

  Args:
    history: of the steps before, the last action known.
    seen: what is kept of the frames of `timestep`, leaves [E, ...].
    timestep: of the environments.
  """

  def shift(x, last):
    return jnp.concatenate([x[:, 1:], last[:, None]], axis=1)

  length = history.actions.shape[1]
  rewards = history.rewards
  if rewards is not None:
    earned = rewards.at[:, -1].set(timestep.rewards)
    rewards = shift(earned, jnp.zeros_like(timestep.rewards))
  count = jnp.minimum(history.count + 1, length)
  return history.replace(
    seen=jax.tree.map(shift, history.seen, seen),
    actions=shift(history.actions, jnp.zeros_like(history.count)),
    rewards=rewards,
    count=jnp.where(timestep.first, 1, count),
  )


def epsilon_greedy(
  keys: chex.PRNGKey, actions: chex.Array, legal: chex.Array, epsilon: float
) -> chex.Array:
  """Replaces a share epsilon of actions [E] by random legal ones.

  Each environment draws from its own of the keys [E]. Where there is no action
  (-1, see `plan.base.faulty`), there is none after.
  """

  def draw(key: chex.PRNGKey, allowed: chex.Array):
    explore_key, action_key = jax.random.split(key)
    logits = jnp.where(allowed, 0.0, -jnp.inf)
    return (
      jax.random.bernoulli(explore_key, epsilon),
      jax.random.categorical(action_key, logits),
    )

  explore, random = jax.vmap(draw)(keys, legal)
  explore &= actions >= 0
  return jnp.where(explore, random, actions).astype(jnp.int32)


def history_policy(
  observe: Callable[[Any, chex.Array], Any],
  decide: Callable[
    [Any, History, chex.Array, chex.PRNGKey], tuple[chex.Array, dict]
  ],
  keeps: Any,
  length: int,
  epsilon: float,
  reads_rewards: bool = False,
) -> Policy:
  """A policy that acts on a sliding history.

  Args:
    observe: (variables, frames [E, H, W] uint8) -> what a step keeps of them, a
      pytree with leaves [E, ...]: tokens, or the frames themselves.
    decide: (variables, history, legal [E, A], keys [E]) -> (actions [E], info).
      The keys are each environment's own, and not those that epsilon-random
      actions are drawn with.
    keeps: shapes and dtypes of what a step keeps, without the axis E.
    length: C, steps of the history with the current one.
    epsilon: share of random legal actions.
    reads_rewards: whether `decide` reads past rewards; `History.rewards` is
      None if not.

  Raises:
    ValueError: length < 1 or epsilon outside [0, 1]; when it acts, time steps
      without the rewards that it reads.
  """
  if length < 1:
    raise ValueError(
      'The context must hold at least the current frame: context_length='
      f'{length}. Shorten the planning horizon or raise it.'
    )
  if not 0 <= epsilon <= 1:
    raise ValueError(f'epsilon={epsilon} is not in [0, 1]')
  legal_table = games.legal_mask()

  def init(tasks: chex.Array) -> History:
    envs = tasks.shape[0]
    rewards = jnp.zeros((envs, length)) if reads_rewards else None
    return History(
      seen=jax.tree.map(
        lambda x: jnp.zeros((envs, length, *x.shape), x.dtype), keeps
      ),
      actions=jnp.zeros((envs, length), jnp.int32),
      rewards=rewards,
      count=jnp.zeros((envs,), jnp.int32),
      # A copy: what is donated must not be the caller's.
      tasks=jnp.array(tasks, jnp.int32),
    )

  # The history is donated: a decision updates it in place.
  @functools.partial(jax.jit, donate_argnums=1)
  def act(
    variables: Any, history: History, timestep: TimeStep, keys: chex.PRNGKey
  ):
    if reads_rewards and timestep.rewards is None:
      raise ValueError(
        'This agent reads the rewards of the decisions before: give '
        'TimeStep.rewards, or rewards to Agent.act (zeros at first)'
      )
    legal = jnp.asarray(legal_table)[history.tasks]
    history = slide(history, observe(variables, timestep.frames), timestep)
    own = jax.vmap(jax.random.fold_in, (0, None))(keys, DECISION)
    actions, info = decide(variables, history, legal, own)
    actions = epsilon_greedy(keys, actions, legal, epsilon)
    history = history.replace(actions=history.actions.at[:, -1].set(actions))
    return actions, history, info

  return Policy(init=init, act=act)
