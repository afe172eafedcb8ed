"""Rare events by hand."""

import numpy as np
import pytest

from jowa_jax.eval.detection import detection_metrics, over_thresholds


def test_by_hand():
  scores = np.array([0.9, 0.8, 0.3, 0.3, 0.2, 0.1])
  real = np.array([1, 0, 1, 0, 1, 0], bool)
  fired = scores > 0.5
  # The first was foreseen with the wrong sign, the fifth was not called an
  # event, but would be right.
  right = np.array([0, 0, 0, 1, 0, 1], bool)
  assert detection_metrics(scores, right, fired, real) == {
    'share': 0.5,
    'precision': 0.0,
    'recall': 0.0,
    # Thresholds 0.9, 0.8, 0.3, 0.2 and 0.1 name 1, 2, 4, 5 and 6 steps, of
    # which 1, 1, 2, 3 and 3 are events.
    'average_precision': pytest.approx((1 / 1 + 2 / 4 + 3 / 5) / 3),
    # Half of what 0.9, 0.8 and 0.3 name are events, and more of what 0.2 does.
    'recall_at_half': 1.0,
    'best_f1': pytest.approx(2 * 3 / (5 + 3)),
    'best_threshold': 0.2,
  }


def test_a_head_that_never_fires_may_still_rank_perfectly():
  scores = np.array([0.01, 0.2, 0.02, 0.3])
  real = np.array([0, 1, 0, 1], bool)
  none = np.zeros(4, bool)
  found = detection_metrics(scores, ~real, none, real)
  assert found['recall'] == 0 and 'precision' not in found
  assert found['average_precision'] == found['best_f1'] == 1
  assert found['best_threshold'] == 0.2
  guessing = detection_metrics(np.full(4, 0.5), ~real, none, real)
  assert guessing['average_precision'] == guessing['share'] == 0.5


def test_half_of_what_is_named_may_be_out_of_reach():
  real = np.array([0, 0, 1, 0, 1, 1, 0, 0], bool)
  found = over_thresholds(-np.arange(8.0), real)
  assert found['recall_at_half'] == 1
  found = over_thresholds(-np.arange(8.0), np.roll(real, 2))
  assert found['recall_at_half'] == 0
  found = over_thresholds(-np.arange(8.0), np.arange(8) % 7 == 0)
  assert found['recall_at_half'] == 0.5


def test_without_events():
  none = np.zeros(3, bool)
  assert detection_metrics(np.ones(3), ~none, none, none) == {'share': 0}
  fired = np.array([1, 0, 0], bool)
  assert detection_metrics(np.ones(3), ~fired, fired, none) == {
    'share': 0,
    'precision': 0,
  }
