"""Expert sampling and percentiles, by hand."""

import jax
import numpy as np
import pytest

from jowa_jax.methods.return_sampling import (
  above_percentile,
  expert_scores,
  gumbel,
  percentile,
)


def test_expert_scores_tilt_log_probabilities():
  logits = np.log(np.array([0.5, 0.3, 0.2], np.float32)) + 7
  found = expert_scores(logits, 10.0)
  expected = np.log([0.5, 0.3, 0.2]) + np.array([0.0, 5.0, 10.0])
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  np.testing.assert_allclose(
    expert_scores(logits, 0.0), np.log([0.5, 0.3, 0.2]), rtol=1e-5
  )


@pytest.mark.parametrize('percent', [0, 15, 50, 73, 100])
def test_percentile_is_numpys(percent):
  rng = np.random.default_rng(0)
  values = rng.normal(size=(6, 18)).astype(np.float32)
  counted = rng.random((6, 18)) < 0.5
  counted[:, 0] = True
  counted[0] = True
  found = percentile(values, counted, percent)
  for row in range(6):
    expected = np.percentile(values[row, counted[row]], percent)
    np.testing.assert_allclose(found[row], expected, rtol=1e-5, atol=1e-6)


def test_ties_with_the_percentile_are_dropped():
  legal = np.ones(5, bool)
  logits = np.array([1.0, 2.0, 2.0, 2.0, 3.0], np.float32)
  # The median is 2: what equals it is not above it.
  np.testing.assert_array_equal(
    above_percentile(logits, legal, 50), [False, False, False, False, True]
  )


def test_the_likeliest_stay_where_none_is_above():
  legal = np.array([True, True, False, True])
  logits = np.array([2.0, 2.0, 9.0, 1.0], np.float32)
  np.testing.assert_array_equal(
    above_percentile(logits, legal, 50), [True, True, False, False]
  )
  alone = np.array([False, True, False, False])
  np.testing.assert_array_equal(above_percentile(logits, alone, 50), alone)


def test_noise_is_each_environments_own():
  keys = jax.random.split(jax.random.key(0), 3)
  noise = gumbel(keys, (2, 4))
  assert noise.shape == (3, 2, 4)
  np.testing.assert_array_equal(noise[1:2], gumbel(keys[1:2], (2, 4)))
  assert len(np.unique(noise)) == noise.size
