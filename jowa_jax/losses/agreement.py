"""How well the codes of latent actions tell real ones, from counts of both.

Counts are [G, A, K]: how often action a of game g was told as code k.
"""

import chex
import jax
import jax.numpy as jnp


def purity(counts: chex.Array) -> tuple[chex.Array, chex.Array]:
  """How well codes tell actions apart, and how well chance does, of counts.

  The share of transitions whose action is the most frequent one of their code
  in their game, and that of taking the game's most frequent one for all.
  """
  total = jnp.maximum(counts.sum(), 1.0)
  of_codes = counts.max(axis=1).sum() / total
  return of_codes, counts.sum(axis=2).max(axis=1).sum() / total


def perplexity(counts: chex.Array) -> chex.Array:
  """How many codes are in use, were they used evenly, of counts [..., K]."""
  counts = counts.reshape(-1, counts.shape[-1]).sum(axis=0)
  shares = counts / jnp.maximum(counts.sum(), 1.0)
  return jnp.exp(-(shares * jnp.log(jnp.maximum(shares, 1e-9))).sum())


def mutual_information(counts: chex.Array) -> chex.Array:
  """What codes tell of actions within a game, in nats, of counts [G, A, K].

  The mean over the transitions of log p(action, code) / (p(action) p(code)),
  of the shares in their game. Of few transitions it is too large; see
  `shuffled_within`.
  """
  total = jnp.maximum(counts.sum(), 1.0)
  of_game = counts.sum((1, 2), keepdims=True)
  apart = counts.sum(1, keepdims=True) * counts.sum(2, keepdims=True)
  ratio = counts * of_game / jnp.maximum(apart, 1.0)
  # What never happened adds nothing.
  return (counts * jnp.log(jnp.where(counts > 0, ratio, 1.0))).sum() / total


def shuffled_within(
  key: chex.PRNGKey, groups: chex.Array, values: chex.Array, mask: chex.Array
) -> chex.Array:
  """Values [N] in another order, each in the place of one of its group.

  Args:
    key: of the order.
    groups: [N] int32, such as games.
    values: [N], such as actions.
    mask: [N] bool, those that change places.
  """
  drawn = jax.random.uniform(key, values.shape)
  places = jnp.lexsort((groups, ~mask))
  others = jnp.lexsort((drawn, groups, ~mask))
  return values.at[places].set(values[others])
