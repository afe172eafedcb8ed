"""Losses of decision transformers: what stands at every step, as classes."""

import chex
import jax.numpy as jnp
import optax


def class_nll(logits_t: chex.Array, label_t: chex.Array) -> chex.Array:
  """Negative log-likelihood of labels, [T], float32.

  Args:
    logits_t: [T, C].
    label_t: [T] int32.
  """
  chex.assert_rank([logits_t, label_t], [2, 1])
  return optax.softmax_cross_entropy_with_integer_labels(
    logits_t.astype(jnp.float32), label_t
  )


def first_of(values_t: chex.Array, mask_t: chex.Array) -> chex.Array:
  """The value of the first step that is real, [].

  Args:
    values_t: [T], such as returns from each step on.
    mask_t: [T] bool, false on padding, which may come first.
  """
  chex.assert_rank([values_t, mask_t], [1, 1])
  return values_t[jnp.argmax(mask_t)]


def expectile_loss(
  value_t: chex.Array, target_t: chex.Array, expectile: float
) -> chex.Array:
  """Squared errors of which one side weighs more, [T].

  The value that is best by it is the expectile of the targets: their mean at
  .5, close to the highest of them near 1 (Newey and Powell, 1987).

  Args:
    value_t: [T] float32.
    target_t: [T] float32.
    expectile: weight of targets above their value; of others it is the rest of
      1.
  """
  chex.assert_rank([value_t, target_t], [1, 1])
  error_t = target_t - value_t
  weight_t = jnp.where(error_t > 0, expectile, 1 - expectile)
  return weight_t * jnp.square(error_t)
