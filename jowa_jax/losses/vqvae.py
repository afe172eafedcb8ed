"""Losses of the VQ-VAE tokenizer, in the [-1, 1] pixel range.

JOWA section 4.1.1: equally weighted reconstruction, commitment and (when
weights are at hand) perceptual terms.
"""

import chex
import jax.numpy as jnp
from jax import lax


def straight_through(z: chex.Array, quantized: chex.Array) -> chex.Array:
  """`quantized` with the gradient of `z`."""
  chex.assert_equal_shape([z, quantized])
  return z + lax.stop_gradient(quantized - z)


def commitment_loss(z: chex.Array, quantized: chex.Array) -> chex.Array:
  """Pulls codes to latents and latents to codes (van den Oord 2017, eq. 3)."""
  chex.assert_equal_shape([z, quantized])
  to_codes = jnp.mean((lax.stop_gradient(z) - quantized) ** 2)
  to_latents = jnp.mean((z - lax.stop_gradient(quantized)) ** 2)
  return to_codes + to_latents


def reconstruction_loss(
  x: chex.Array, reconstruction: chex.Array, weights: chex.Array | None = None
) -> chex.Array:
  """Mean absolute error of pixels, optionally weighted.

  Args:
    x: [N, H, W] in [-1, 1].
    reconstruction: [N, H, W].
    weights: [N, H, W], used as they are (not normalised); None weighs all
      pixels 1.
  """
  chex.assert_equal_shape([x, reconstruction])
  error = jnp.abs(x - reconstruction)
  return jnp.mean(error if weights is None else error * weights)


def motion_weights(
  frames: chex.Array,
  median: chex.Array,
  weight: float,
  threshold: float,
) -> chex.Array:
  """1 + weight where a frame departs from its game's median frame.

  Args:
    frames: [N, H, W] uint8.
    median: [N, H, W] uint8, the median frame of each frame's game.
    weight: extra weight of moving pixels.
    threshold: departure that counts as motion, in units of the full range.
  """
  chex.assert_equal_shape([frames, median])
  return 1 + weight * moving_pixels(frames, median, threshold)


def moving_pixels(
  frames: chex.Array, median: chex.Array, threshold: float
) -> chex.Array:
  """Where frames depart from the median frame, as float32 0 or 1."""
  departure = jnp.abs(frames.astype(jnp.float32) - median.astype(jnp.float32))
  return (departure > 255 * threshold).astype(jnp.float32)


def perplexity(counts: chex.Array) -> chex.Array:
  """Exp(entropy) of code usage: how many codes are in effective use.

  Args:
    counts: [V], how often each code was chosen.
  """
  p = counts / jnp.maximum(counts.sum(), 1)
  return jnp.exp(-jnp.sum(jnp.where(p > 0, p * jnp.log(p + 1e-30), 0.0)))
