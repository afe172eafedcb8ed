"""The cache as a data structure; its use is tested with the transformer."""

import jax.numpy as jnp
import numpy as np

from jowa_jax.models import kv_cache


def numbered_cache():
  """Two layers, three rows that hold their own number, four slots."""
  cache = kv_cache.init_cache(2, 1, 2, 4, jnp.array([0, 1, 2]), 'float32')
  rows = jnp.arange(3.0)[:, None, None, None]
  return cache.replace(
    keys=tuple(keys + rows for keys in cache.keys),
    values=tuple(values - rows for values in cache.values),
    length=jnp.int32(3),
  )


def test_fresh_cache_is_empty():
  cache = kv_cache.init_cache(2, 1, 2, 4, jnp.array([0, 1, 2]), 'bfloat16')
  assert cache.num_slots == 4 and cache.length == 0
  assert len(cache.keys) == len(cache.values) == 2
  assert cache.keys[0].shape == (3, 1, 4, 2)
  assert cache.keys[0].dtype == jnp.bfloat16


def test_take_rows_reorders_repeats_and_drops():
  taken = kv_cache.take_rows(numbered_cache(), jnp.array([2, 0, 2, 2]))
  np.testing.assert_array_equal(taken.start, [2, 0, 2, 2])
  for keys, values in zip(taken.keys, taken.values, strict=True):
    assert keys.shape == (4, 1, 4, 2)
    np.testing.assert_array_equal(keys[:, 0, 0, 0], [2, 0, 2, 2])
    np.testing.assert_array_equal(values[:, 0, 3, 1], [-2, 0, -2, -2])
  assert taken.length == 3


def test_write_fills_slots_and_leaves_the_others():
  buffer = jnp.zeros((2, 1, 5, 1))
  new = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 1, 2, 1)
  got = kv_cache.write(buffer, new, jnp.int32(2))[:, 0, :, 0]
  np.testing.assert_array_equal(got, [[0, 0, 1, 2, 0], [0, 0, 3, 4, 0]])
