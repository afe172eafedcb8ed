"""Returns that are told apart are some that the data have."""

import jax
import numpy as np
import pytest

from jowa_jax.methods.return_range import check_range, outside


def statistics(least, largest):
  rows = np.zeros((60, 101), np.float32)
  rows[3] = np.linspace(least, largest, 101)
  return {'return_percentiles': rows}


@pytest.mark.parametrize('returns', [(-21, 3), (5, 700), (101, 700), (0, 0)])
def test_ranges_that_overlap(returns):
  check_range(statistics(*returns), -20, 100)


def test_ranges_that_do_not():
  with pytest.raises(ValueError, match='from 50 to 100.*between 0 and 7.*ret'):
    check_range(statistics(2, 7), 50, 100)
  with pytest.raises(ValueError, match='from -9 to -5.*between -2 and 1'):
    check_range(statistics(-2, 1), -9, -5)


def test_shapes_are_not_checked():
  shapes = jax.eval_shape(lambda: statistics(2, 7))
  jax.eval_shape(lambda found: check_range(found, 50, 100), shapes)
  check_range({}, 50, 100)


def test_outside():
  returns = np.array([-21.0, -20.0, 100.0, 100.5])
  np.testing.assert_array_equal(outside(returns, -20, 100), [1, 0, 0, 1])
