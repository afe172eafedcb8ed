"""Acting with the shared backbone: a sliding context of frames and actions.

Used by every method whose model reads interleaved tokens; they differ only
in how an action is decided from the context.
"""

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from jowa_jax import games
from jowa_jax.methods.base import Policy
from jowa_jax.types import Context, TimeStep


def slide(context: Context, tokens: chex.Array, first: chex.Array) -> Context:
  """Appends the frames [E, K]; environments at `first` [E] start anew."""

  def shift(x, last):
    return jnp.concatenate([x[:, 1:], last[:, None]], axis=1)

  length = context.tokens.shape[1]
  return context.replace(
    tokens=shift(context.tokens, tokens),
    actions=shift(context.actions, jnp.zeros_like(context.count)),
    count=jnp.where(first, 1, jnp.minimum(context.count + 1, length)),
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


def transformer_policy(
  encode: Callable[[Any, chex.Array], chex.Array],
  decide: Callable[[Any, Context, chex.Array], tuple[chex.Array, dict]],
  tokens_per_frame: int,
  context_length: int,
  epsilon: float,
) -> Policy:
  """Returns a policy that acts on a sliding context.

  Args:
    encode: (variables, frames [E, H, W] uint8) -> tokens [E, K].
    decide: (variables, context, legal [E, A]) -> (actions [E], info).
    tokens_per_frame: K.
    context_length: C, blocks of context with the current one.
    epsilon: share of random legal actions.

  Raises:
    ValueError: context_length < 1 or epsilon outside [0, 1].
  """
  if context_length < 1:
    raise ValueError(
      'The context must hold at least the current frame: context_length='
      f'{context_length}. Shorten the planning horizon or raise it.'
    )
  if not 0 <= epsilon <= 1:
    raise ValueError(f'epsilon={epsilon} is not in [0, 1]')
  legal_table = games.legal_mask()

  def init(tasks: chex.Array) -> Context:
    envs = tasks.shape[0]
    return Context(
      tokens=jnp.zeros((envs, context_length, tokens_per_frame), jnp.int32),
      actions=jnp.zeros((envs, context_length), jnp.int32),
      count=jnp.zeros((envs,), jnp.int32),
      # A copy: what is donated must not be the caller's.
      tasks=jnp.array(tasks, jnp.int32),
    )

  # The context is donated: a decision updates it in place.
  @functools.partial(jax.jit, donate_argnums=1)
  def act(
    variables: Any, context: Context, timestep: TimeStep, keys: chex.PRNGKey
  ):
    legal = jnp.asarray(legal_table)[context.tasks]
    context = slide(context, encode(variables, timestep.frames), timestep.first)
    actions, info = decide(variables, context, legal)
    actions = epsilon_greedy(keys, actions, legal, epsilon)
    context = context.replace(actions=context.actions.at[:, -1].set(actions))
    return actions, context, info

  return Policy(init=init, act=act)
