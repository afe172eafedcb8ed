"""Losses of decision transformers, by hand."""

import numpy as np

from jowa_jax.losses.decision import class_nll, expectile_loss, first_of


def test_class_nll():
  logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]], np.float32))
  found = class_nll(logits, np.array([0, 1]))
  np.testing.assert_allclose(found, -np.log([0.5, 0.1]), rtol=1e-5)


def test_first_of():
  values = np.array([5.0, 6.0, 7.0])
  assert first_of(values, np.array([False, True, True])) == 6.0
  assert first_of(values, np.array([True, True, False])) == 5.0


def test_expectile_loss():
  values = np.array([0.0, 2.0, 1.0], np.float32)
  targets = np.array([1.0, 1.0, 1.0], np.float32)
  found = expectile_loss(values, targets, 0.9)
  np.testing.assert_allclose(found, [0.9, 0.1, 0.0], rtol=1e-5)
