"""Means over valid entries."""

import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax.losses.masked import masked_mean


def test_averages_only_valid_entries():
  values = jnp.array([[1.0, 100.0], [4.0, 7.0]])
  mask = jnp.array([[True, False], [True, True]])
  np.testing.assert_allclose(masked_mean(values, mask), 4.0)


def test_empty_mask_gives_zero_and_no_nan():
  assert masked_mean(jnp.array([3.0, 5.0]), jnp.zeros(2, bool)) == 0


def test_shapes_must_agree():
  with pytest.raises(AssertionError, match='shape'):
    masked_mean(jnp.ones((2, 3)), jnp.ones((2, 1)))
