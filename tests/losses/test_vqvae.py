"""The tokenizer's losses on arrays worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax.losses import vqvae as losses


def test_straight_through_has_the_codes_value_and_the_latents_gradient():
  z, codes = jnp.array([0.25, 1.0]), jnp.array([0.5, -2.0])
  np.testing.assert_allclose(losses.straight_through(z, codes), codes)

  def loss(z, codes):
    return jnp.sum(losses.straight_through(z, codes) ** 2)

  to_z, to_codes = jax.grad(loss, (0, 1))(z, codes)
  # d(y^2)/dy at y = codes, handed to z as it is.
  np.testing.assert_allclose(to_z, [1.0, -4.0])
  np.testing.assert_array_equal(to_codes, [0.0, 0.0])


def test_commitment_pulls_each_side_with_one_of_its_two_terms():
  z, codes = jnp.array([[1.0, 2.0]]), jnp.array([[0.0, 4.0]])
  # Both terms are mean((1, -2)^2) = 2.5.
  value, (to_z, to_codes) = jax.value_and_grad(losses.commitment_loss, (0, 1))(
    z, codes
  )
  np.testing.assert_allclose(value, 5.0)
  np.testing.assert_allclose(to_z, [[1.0, -2.0]])
  np.testing.assert_allclose(to_codes, [[-1.0, 2.0]])


def test_reconstruction_is_mean_absolute_error():
  x = jnp.array([[[1.0, -1.0], [0.0, 0.5]]])
  x_hat = jnp.array([[[0.0, -1.0], [0.5, 0.0]]])
  np.testing.assert_allclose(losses.reconstruction_loss(x, x_hat), 0.5)


def test_reconstruction_weights_are_not_normalised():
  x = jnp.array([[[1.0, -1.0], [0.0, 0.5]]])
  x_hat = jnp.array([[[0.0, -1.0], [0.5, 0.0]]])
  weights = jnp.array([[[3.0, 9.0], [1.0, 0.0]]])
  # (3 * 1 + 9 * 0 + 1 * 0.5 + 0 * 0.5) / 4
  got = losses.reconstruction_loss(x, x_hat, weights)
  np.testing.assert_allclose(got, 0.875)


# 0.06 of 255 is 15.3: a departure of 15 is none, one of 16 is.
FRAMES = np.array([[[100, 115, 116], [84, 85, 0]]], np.uint8)
MEDIAN = np.full((1, 2, 3), 100, np.uint8)


def test_moving_pixels_depart_in_either_direction():
  # Unsigned subtraction would wrap around on the second row.
  got = losses.moving_pixels(FRAMES, MEDIAN, 0.06)
  assert got.dtype == jnp.float32
  np.testing.assert_array_equal(got, [[[0, 0, 1], [1, 0, 1]]])


def test_motion_weights_add_to_one():
  got = losses.motion_weights(FRAMES, MEDIAN, weight=20.0, threshold=0.06)
  np.testing.assert_array_equal(got, [[[1, 1, 21], [21, 1, 21]]])


@pytest.mark.parametrize(
  ('counts', 'expected'),
  [
    ([5, 5, 5, 5], 4.0),
    ([0, 7, 0, 0], 1.0),
    ([3, 3, 0, 0], 2.0),
    # exp(-(3/4 ln 3/4 + 1/4 ln 1/4))
    ([3, 1, 0, 0], 4 / 3**0.75),
  ],
)
def test_perplexity_counts_codes_in_use(counts, expected):
  got = losses.perplexity(jnp.array(counts))
  np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_perplexity_of_no_codes_is_finite():
  assert np.isfinite(losses.perplexity(jnp.zeros(4, int)))
