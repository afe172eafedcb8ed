"""Attention block by block is attention, and so are its gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax.models import attention
from jowa_jax.models.dropout import keep_mask, keep_rows, words
from tests.cases import quick

BATCH, HEADS, TOKENS, DIM = 3, 2, 11, 4
SHAPE = (BATCH, HEADS, TOKENS, TOKENS)
KEY = jax.random.key(5)
PADDING = np.array([0, 4, 7])


@pytest.fixture(scope='module')
def arrays():
  rng = np.random.default_rng(0)
  shape = (4, BATCH, HEADS, TOKENS, DIM)
  return jnp.asarray(rng.normal(size=shape), jnp.float32)


def plain(q, k, v, valid, rate):
  """Everything at once, in the textbook's words."""
  mask = np.tril(np.ones((TOKENS, TOKENS), bool))[None, None]
  if valid is not None:
    mask = mask & valid[:, None, None]
  logits = jnp.where(mask, q @ k.swapaxes(2, 3), -1e30)
  weights = jax.nn.softmax(logits)
  if rate:
    weights = jnp.where(keep_mask(KEY, rate, SHAPE), weights / (1 - rate), 0)
  return weights @ v


def blockwise(q, k, v, valid, rate, size):
  drawn = words(KEY) if rate else None
  return attention.causal(q, k, v, valid, drawn, rate, size)


@pytest.mark.parametrize('size', quick((1, 4, 11, 16), 4, 16))
@pytest.mark.parametrize('rate', [0.0, 0.3])
@pytest.mark.parametrize('padded', [False, True])
def test_blocks_are_exact(arrays, size, rate, padded):
  """11 tokens are no whole number of blocks of 4."""
  q, k, v, dy = arrays
  valid = jnp.arange(TOKENS) >= PADDING[:, None] if padded else None
  read = jnp.ones(dy.shape) if valid is None else valid[:, None, :, None]

  def values(fn):
    def masked(*arrays):
      y = jnp.where(read, fn(*arrays), 0)  # answers to padding are not read
      return jnp.sum(y * dy), y

    both = jax.value_and_grad(masked, (0, 1, 2), has_aux=True)
    (_, y), grads = jax.jit(both)(q, k, v)
    return y, *grads

  ours = values(functools.partial(blockwise, valid=valid, rate=rate, size=size))
  theirs = values(functools.partial(plain, valid=valid, rate=rate))
  for a, b in zip(ours, theirs, strict=True):
    assert np.abs(b).max() > 0.1
    np.testing.assert_allclose(a, b, atol=2e-6)


@pytest.mark.slow
def test_what_may_read_nothing_is_answered_with_zeros(arrays):
  q, k, v, dy = arrays
  valid = jnp.arange(TOKENS) >= PADDING[:, None]

  @jax.jit
  def run(q, k, v, dy):
    y, pull = jax.vjp(lambda *x: blockwise(*x, valid, 0.3, 4), q, k, v)
    return y, pull(dy)

  y, grads = run(q, k, v, dy)
  assert all(np.isfinite(x).all() for x in (y, *grads))
  padding = ~np.asarray(valid)
  for x in (y, *grads):
    assert not np.swapaxes(x, 1, 2)[padding].any()


def test_logits_may_be_large(arrays):
  q, k, v, dy = arrays

  @jax.jit
  def run(q, k, v, dy):
    y, pull = jax.vjp(lambda *x: blockwise(*x, None, 0.0, 4), q, k, v)
    return y, pull(dy)

  y, grads = run(1e4 * q, 1e4 * k, v, dy)
  np.testing.assert_allclose(y, plain(1e4 * q, 1e4 * k, v, None, 0), atol=1e-6)
  assert all(np.isfinite(x).all() for x in grads)


@pytest.mark.slow
@pytest.mark.parametrize('rate', [0.0, 0.3])
def test_half_precision_is_close(arrays, rate):
  def values(dtype):
    q, k, v, dy = (x.astype(dtype) for x in arrays)
    y, pull = jax.vjp(lambda *x: blockwise(*x, None, rate, 4), q, k, v)
    found = (y, *pull(dy))
    assert all(x.dtype == dtype for x in found)
    return found

  for half, full in zip(values(jnp.bfloat16), values(jnp.float32), strict=True):
    assert np.abs(np.asarray(half, np.float32) - full).mean() < 0.03


@pytest.mark.slow
def test_score_matrices_are_not_kept(arrays):
  """Nothing that the backward pass is given is as large as all scores."""
  q, k, v, _ = (jnp.repeat(x, 40, axis=2) for x in arrays)
  _, pull = jax.vjp(lambda *x: blockwise(*x, None, 0.0, 88), q, k, v)
  kept = [x.size for x in jax.tree.leaves(pull)]
  assert kept and max(kept) <= q.size < q.shape[2] ** 2


@pytest.mark.slow
def test_parts_of_a_mask_are_parts_of_the_mask():
  whole = np.asarray(keep_mask(KEY, 0.5, SHAPE))
  for rows, end in ((slice(0, 4), 4), (slice(4, 9), 9), (slice(2, 3), 11)):
    part = keep_rows(words(KEY), 0.5, SHAPE, rows, end)
    np.testing.assert_array_equal(part, whole[:, :, rows, :end])
