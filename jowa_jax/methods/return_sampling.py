"""How returns and actions are drawn from what a decision transformer expects.

Drawing is argmax(scores + Gumbel noise), so that a test can give the noise.
"""

import chex
import jax
import jax.numpy as jnp


def expert_scores(logits: chex.Array, kappa: float) -> chex.Array:
  """Log-probabilities of returns [..., bins], tilted towards high ones.

  Bayes' rule with P(expert | return) rising exponentially from the lowest bin
  to the highest (Lee et al., 2022).

  Args:
    logits: [..., bins], by rising return.
    kappa: how much likelier the highest return is an expert's than the lowest,
      in nats; 0 for the data's own distribution.
  """
  tilt = kappa * jnp.linspace(0.0, 1.0, logits.shape[-1])
  return jax.nn.log_softmax(logits) + tilt


def percentile(
  values: chex.Array, counted: chex.Array, percent: float
) -> chex.Array:
  """A percentile of some of the values, [...], between neighbours by line.

  Args:
    values: [..., N].
    counted: [..., N] bool, at least one of them.
    percent: in [0, 100].
  """
  chex.assert_equal_shape([values, counted])
  ordered = jnp.sort(jnp.where(counted, values, jnp.inf), axis=-1)
  last = jnp.maximum(counted.sum(axis=-1) - 1, 0)
  place = last * (percent / 100)
  below = jnp.floor(place).astype(jnp.int32)
  above = jnp.minimum(below + 1, last)

  def at(index):
    return jnp.take_along_axis(ordered, index[..., None], axis=-1)[..., 0]

  low, high = at(below), at(above)
  return low + (place - below) * (high - low)


def above_percentile(
  logits: chex.Array, legal: chex.Array, percent: float
) -> chex.Array:
  """Which legal actions are likelier than a percentile of them, [..., A] bool.

  Where none is, since the likeliest are all alike, these are.

  Args:
    logits: [..., A].
    legal: [..., A] bool.
    percent: in [0, 100].
  """
  least = percentile(logits, legal, percent)[..., None]
  best = jnp.max(jnp.where(legal, logits, -jnp.inf), axis=-1, keepdims=True)
  return legal & ((logits > least) | (logits == best))


def gumbel(keys: chex.PRNGKey, shape: tuple[int, ...]) -> chex.Array:
  """Standard Gumbel noise [E, *shape], of each environment's own key."""
  return jax.vmap(lambda key: jax.random.gumbel(key, shape))(keys)
