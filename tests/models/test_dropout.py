"""Masks are as good as independent coins, for what dropout needs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax.models.dropout import Dropout, keep_mask

SHAPE = (64, 32, 512)


def mask(seed, rate=0.1, shape=SHAPE):
  return np.asarray(keep_mask(jax.random.key(seed), rate, shape))


@pytest.mark.parametrize('rate', [0.01, 0.1, 0.5, 0.9])
def test_share_that_is_dropped(rate):
  for seed in range(3):
    dropped = ~mask(seed, rate)
    error = 5 * np.sqrt(rate * (1 - rate) / dropped.size)
    assert abs(dropped.mean() - rate) < error
    # Along every axis too: no row or column is spared.
    for axis in range(3):
      means = dropped.mean(axis=tuple({0, 1, 2} - {axis}))
      error = 6 * np.sqrt(rate * (1 - rate) / (dropped.size / len(means)))
      assert np.abs(means - rate).max() < error


def correlation(a, b):
  return np.corrcoef(a.reshape(-1), b.reshape(-1))[0, 1]


def test_keys_and_places_are_independent():
  """Correlations are those of chance, 1/1000 at this size."""
  one, two = mask(0), mask(1)
  assert abs(correlation(one, two)) < 0.005
  for axis in range(3):
    for lag in (1, 2, 7, 16):
      near = np.roll(one, lag, axis)
      assert abs(correlation(one, near)) < 0.005, (axis, lag)
      assert abs(correlation(near, two)) < 0.005, (axis, lag)


def test_neighbouring_keys_are_independent():
  masks = np.stack([mask(seed, 0.5, (4096,)) for seed in range(64)])
  found = np.corrcoef(masks) - np.eye(64)
  assert np.abs(found).max() < 6 / np.sqrt(4096)


def test_runs_have_the_lengths_of_chance():
  dropped = (~mask(3, 0.5, (1 << 20,))).astype(int)
  starts = np.flatnonzero(np.diff(dropped)) + 1
  lengths = np.diff(starts)
  for length in range(1, 8):
    share = (lengths == length).mean()
    assert share == pytest.approx(0.5**length, rel=0.05)


def test_the_mean_is_kept_and_gradients_follow_the_mask():
  x = jnp.ones((100, 1000))
  layer = Dropout(0.25)

  def apply(x):
    return layer.apply({}, x, False, rngs={'dropout': jax.random.key(2)})

  y = apply(x)
  assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
  assert float(y.mean()) == pytest.approx(1, abs=0.01)
  np.testing.assert_array_equal(jax.grad(lambda x: apply(x).sum())(x), y)
  np.testing.assert_array_equal(layer.apply({}, x, True), x)
