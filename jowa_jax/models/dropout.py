"""Dropout whose mask is a hash of a key and of the place in the array.

A generator for cryptography or simulation makes a mask about as costly as the
layer it follows: threefry took a fifth of a training step on a CPU. A mask
needs less: the integer hash `lowbias32` (Wellons, "Prospecting for Hash
Functions", 2018), applied twice, is a dozen operations that the compiler fuses
into what reads the mask. It is the same however the array is sharded.
"""

import math

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


def _mix(x: chex.Array) -> chex.Array:
  """lowbias32: every bit of x moves about half of the bits of the result."""
  x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
  x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
  return x ^ (x >> 16)


def words(key: chex.PRNGKey) -> chex.Array:
  """What a mask is a hash of besides the place, [2] uint32."""
  return jax.random.bits(key, (2,), jnp.uint32)


def keep_rows(
  words: chex.Array, rate: float, shape: tuple[int, ...], rows: slice, end: int
) -> chex.Array:
  """A part of a mask of `shape`, which it never makes.

  Args:
    words: what the mask is a hash of, from `words`.
    rate: probability of false.
    shape: [..., N, S] of the whole mask.
    rows: the part's rows of the N, with start and stop.
    end: columns of the part, the first ones of the S.
  """
  part = (*shape[:-2], rows.stop - rows.start, end)
  first = rows.start * shape[-1] % 2**32
  place = jnp.full(part, first, jnp.uint32)
  for axis in range(len(shape)):
    stride = math.prod(shape[axis + 1 :]) % 2**32
    place += lax.broadcasted_iota(jnp.uint32, part, axis) * jnp.uint32(stride)
  bits = _mix(_mix(place ^ words[0]) + words[1])
  return bits >= jnp.uint32(min(round(rate * 2**32), 2**32 - 1))


def keep_mask(key: chex.PRNGKey, rate: float, shape: tuple[int, ...]):
  """A bool array [..., N, S] that is false with probability `rate`."""
  matrix = (1,) * (2 - len(shape)) + tuple(shape)
  rows = slice(0, matrix[-2])
  return keep_rows(words(key), rate, matrix, rows, matrix[-1]).reshape(shape)


class Dropout(nn.Module):
  """Zeroes entries with probability `rate` and scales up the others.

  As `nn.Dropout`, of which it takes the rng stream 'dropout'.
  """

  rate: float

  def __call__(self, x: chex.Array, deterministic: bool) -> chex.Array:
    if deterministic or not self.rate:
      return x
    keep = keep_mask(self.make_rng('dropout'), self.rate, x.shape)
    return jnp.where(keep, x / (1 - self.rate), jnp.zeros_like(x))

  def words(self, deterministic: bool) -> chex.Array | None:
    """Those of the mask that a call would draw; None without one."""
    if deterministic or not self.rate:
      return None
    return words(self.make_rng('dropout'))
