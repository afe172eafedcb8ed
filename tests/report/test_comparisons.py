"""Agents against each other: hand-computed cases."""

import numpy as np
import pytest

from jowa_jax.report import statistics
from jowa_jax.report.comparisons import compare
from jowa_jax.report.statistics import Estimate


def _compare(x, y, **kwargs):
  return compare(x, y, **{'noise': 'rollouts', 'reps': 200, **kwargs})


def test_probability_by_hand():
  better = _compare({'Pong': [3, 4, 5]}, {'Pong': [1, 2]})
  # Every resample wins, which so few runs do not make certain.
  assert better.probability == Estimate(1, None)
  assert better.runs == (3, 2)
  worse = _compare({'Pong': [1, 2]}, {'Pong': [3, 4, 5]})
  assert worse.probability == Estimate(0, None)
  same = _compare({'Pong': [1, 2]}, {'Pong': [1, 2]})
  assert same.probability.value == 0.5
  # Pong: 3 wins and a tie of 4. AirRaid, without reference scores: 0.
  mixed = _compare(
    {'Pong': [3, 2], 'AirRaid': [0, 0]}, {'Pong': [2, 1], 'AirRaid': [5, 5]}
  )
  assert mixed.games == ('AirRaid', 'Pong')
  assert mixed.probability.value == pytest.approx(3.5 / 4 / 2)
  assert mixed.mean is None and mixed.interquartile_mean is None


def test_differences_by_hand():
  # Human less random: Assault 519.6, Pong 35.3, Boxing 12.
  x = {
    'Assault': [222.4 + 519.6] * 2,
    'Pong': [-20.7 + 35.3, -20.7],
    'Boxing': [0.1 + 2 * 12.0] * 2,
    'Krull': [1598.0] * 2,
  }
  y = {
    'Assault': [222.4] * 2,
    'Pong': [-20.7] * 2,
    'Boxing': [0.1] * 2,
    'Krull': [1598.0] * 2,
  }
  found = _compare(x, y)
  # Means of games: 1, .5, 2 and 0, against 0.
  assert found.mean.value == pytest.approx(3.5 / 4)
  assert found.interquartile_mean.value == pytest.approx(0.75)
  # Pong's two runs are both low, or both high, in a quarter of the draws.
  assert found.mean.interval == pytest.approx((3 / 4, 1))
  assert found.interquartile_mean.interval == pytest.approx((0.5, 1))
  back = _compare(y, x)
  assert back.mean.value == -found.mean.value
  assert back.mean.interval == pytest.approx((-1, -3 / 4))
  bare = found.without_intervals()
  assert bare.mean == Estimate(found.mean.value, None)
  assert bare.probability.interval is None


def test_the_interval_is_that_of_two_independent_means():
  rng = np.random.default_rng(0)
  x = {'Boxing': rng.normal(12, 4, 200)}
  y = {'Boxing': rng.normal(6, 6, 100)}
  found = _compare(x, y, reps=2000).mean
  error = np.sqrt(4**2 / 200 + 6**2 / 100) / 12
  width = found.interval[1] - found.interval[0]
  assert width == pytest.approx(2 * 1.96 * error, rel=0.15)
  assert found.value == pytest.approx(0.5, abs=3 * error)


def test_one_run_has_no_interval():
  one = {'Assault': [742.0], 'Pong': [14.6]}
  many = {'Assault': [1.0, 2.0], 'Pong': [1.0, 2.0]}
  for x, y in ((one, many), (many, one)):
    found = _compare(x, y, noise='seeds')
    assert found == found.without_intervals()


def test_agents_are_compared_in_the_games_of_both():
  x = {'Pong': [3, 4], 'Assault': [1.0]}  # Not of equal counts, but not used.
  y = {'Pong': [1, 2], 'Zaxxon': [1, 2]}
  result = _compare(x, y)
  assert result.games == ('Pong',)
  assert result.probability.value == 1
  assert statistics.on_common_games({'x': x, 'y': y}) == {
    'x': {'Pong': [3, 4]},
    'y': {'Pong': [1, 2]},
  }
  with pytest.raises(ValueError, match='No game in common: x, y'):
    _compare(x, {'Zaxxon': [1]})
  with pytest.raises(ValueError, match='no agents'):
    statistics.on_common_games({})


def test_bad_arguments():
  scores = {'Pong': [1, 2]}
  with pytest.raises(ValueError, match='noise is'):
    _compare(scores, scores, noise='luck')
  with pytest.raises(ValueError, match='reps is 0'):
    _compare(scores, scores, reps=0)
