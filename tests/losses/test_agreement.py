"""How well codes tell actions, by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from jowa_jax.losses import agreement


def test_mutual_information():
  # Of one bit: every action has a code of its own.
  counts = np.zeros((1, 2, 3))
  counts[0, 0, 0] = counts[0, 1, 2] = 5
  found = agreement.mutual_information(jnp.asarray(counts))
  np.testing.assert_allclose(found, np.log(2), rtol=1e-6)
  # Of nothing: the code is the same share of both actions.
  counts[0] = [[4, 2, 0], [8, 4, 0]]
  found = agreement.mutual_information(jnp.asarray(counts))
  np.testing.assert_allclose(found, 0, atol=1e-7)
  # p(a, k) = .5, .25, .25; p(a) = .75, .25; p(k) = .5, .5.
  counts[0] = [[2, 1, 0], [0, 1, 0]]
  expected = 0.5 * np.log(0.5 / 0.375) + 0.25 * np.log(0.25 / 0.375)
  expected += 0.25 * np.log(0.25 / 0.125)
  found = agreement.mutual_information(jnp.asarray(counts))
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  assert agreement.mutual_information(jnp.zeros((2, 3, 4))) == 0


def test_information_is_within_games():
  # Each game has an action and a code of its own: within it they tell nothing.
  counts = np.zeros((2, 2, 2))
  counts[0, 0, 0] = counts[1, 1, 1] = 7
  assert agreement.mutual_information(jnp.asarray(counts)) == 0
  # A game of 10 transitions with a bit, and one of 30 without.
  counts[0] = [[5, 0], [0, 5]]
  counts[1] = [[30, 0], [0, 0]]
  found = agreement.mutual_information(jnp.asarray(counts))
  np.testing.assert_allclose(found, np.log(2) / 4, rtol=1e-6)


def test_values_change_places_within_their_group():
  groups = jnp.array([3, 1, 3, 1, 3, 1, 3, 3])
  values = jnp.arange(8)
  mask = jnp.array([1, 1, 1, 1, 1, 0, 1, 1], bool)
  orders = set()
  for seed in range(8):
    found = agreement.shuffled_within(
      jax.random.key(seed), groups, values, mask
    )
    orders.add(tuple(found.tolist()))
    assert found[5] == 5
    assert sorted(found.tolist()) == values.tolist()
    np.testing.assert_array_equal(groups[found], groups)
  assert len(orders) > 4


def test_perplexity():
  counts = jnp.array([[[2.0, 0, 0, 2]], [[2, 2, 0, 0]]])
  # Shares of a half and two quarters.
  expected = np.exp(0.5 * np.log(2) + 0.5 * np.log(4))
  np.testing.assert_allclose(agreement.perplexity(counts), expected, rtol=1e-6)
