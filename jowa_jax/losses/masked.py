"""Means over the valid entries of padded arrays."""

import chex
import jax.numpy as jnp


def masked_mean(values: chex.Array, mask: chex.Array) -> chex.Array:
  """The mean of `values` where `mask` is set; 0 if nowhere.

  Args:
    values: any shape, finite also where masked out.
    mask: of the same shape.
  """
  chex.assert_equal_shape([values, mask])
  mask = mask.astype(jnp.float32)
  return jnp.sum(values * mask) / jnp.maximum(jnp.sum(mask), 1.0)
