"""The cache as a data structure; its use is tested with the transformer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax.models import kv_cache
from jowa_jax.models.kv_cache import KVCache, Span


def numbered(rows, tokens, first=0.0):
  """Two layers whose rows hold their own number."""
  number = first + jnp.arange(float(rows))[:, None, None, None]
  keys = jnp.zeros((rows, 1, tokens, 2)) + number
  valid = jnp.ones((rows, tokens), bool)
  return Span(keys=(keys, keys + 0.5), values=(-keys, -keys), valid=valid)


def first_key(span):
  return np.asarray(span.keys[0][:, 0, 0, 0]).tolist()


@pytest.mark.slow
def test_append_counts_and_shares():
  cache = KVCache(
    context=numbered(2, 5), frames=(), length=jnp.array([5, 3], jnp.int32)
  )
  once = kv_cache.append(cache, numbered(4, 3))
  np.testing.assert_array_equal(once.length, [8, 8, 6, 6])
  twice = kv_cache.append(once, numbered(8, 3))
  assert twice.length.tolist() == [11] * 4 + [9] * 4
  assert [len(span.valid) for span in twice.spans] == [2, 4, 8]


def test_take_rows_gathers_frames_and_leaves_the_context():
  cache = KVCache(
    context=numbered(2, 5), frames=(), length=jnp.array([5, 3], jnp.int32)
  )
  cache = kv_cache.append(cache, numbered(4, 3, 10.0))
  cache = kv_cache.append(cache, numbered(8, 3, 20.0))
  taken = kv_cache.take_rows(cache, jnp.array([3, 0, 4, 7]))
  assert first_key(taken.context) == [0, 1]
  # Rows of the frame before: each was continued by two.
  assert first_key(taken.frames[0]) == [11, 10, 12, 13]
  assert first_key(taken.frames[1]) == [23, 20, 24, 27]
  assert taken.length.tolist() == [11, 11, 9, 9]


def test_an_empty_span_holds_nothing():
  empty = kv_cache.empty_span(numbered(2, 1), 5, 3)
  assert empty.keys[1].shape == (3, 1, 5, 2) and not empty.valid.any()


@pytest.mark.slow
def test_rows_are_written_to_their_own_slots_if_they_have_room():
  empty = kv_cache.empty_span(numbered(4, 1), 4, 4)
  new = numbered(4, 2, 1.0)
  got = kv_cache.write_rows(empty, new, jnp.array([0, 2, 3, 4]))
  assert got.valid.tolist() == [
    [True, True, False, False],
    [False, False, True, True],
    [False] * 4,
    [False] * 4,
  ]
  for ours, theirs in zip(
    jax.tree.leaves((got.keys, got.values)),
    jax.tree.leaves((new.keys, new.values)),
    strict=True,
  ):
    np.testing.assert_array_equal(ours[0, :, :2], theirs[0])
    np.testing.assert_array_equal(ours[1, :, 2:], theirs[1])
    assert not ours[0, :, 2:].any() and not ours[1, :, :2].any()
    assert not ours[2:].any()
