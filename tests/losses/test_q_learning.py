"""Temporal-difference losses on arrays worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax.losses import q_learning
from tests.parity import fixtures

ATOMS = jnp.array([-1.0, 0.0, 1.0])


@pytest.mark.parametrize(
  ('mask', 'ends', 'expected'),
  [
    # A whole segment: the last step has nothing to bootstrap from.
    ([1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 0]),
    # Right padding after an episode that was cut, and one that ended.
    ([1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]),
    ([1, 1, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0]),
    # Left padding.
    ([0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 1, 0]),
    ([0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 1, 1]),
    # An end on a padded step counts for nothing; one valid step.
    ([0, 0, 0, 1], [1, 1, 1, 0], [0, 0, 0, 0]),
  ],
)
def test_which_steps_have_a_target_one_step_later(mask, ends, expected):
  rewards = jnp.array([3.0, -1.0, 0.5, 2.0])
  discounts = 0.9 * (1 - jnp.array(ends, jnp.float32))
  returns, bootstrapped, got = q_learning.n_step(
    rewards, discounts, jnp.array(mask), 1
  )
  assert got.dtype == bool
  np.testing.assert_array_equal(got, np.array(expected, bool))
  # One step's return is its reward, to the bit.
  np.testing.assert_array_equal(returns, rewards)
  np.testing.assert_array_equal(bootstrapped, discounts)


def n_step(rewards, mask, ends=(), n=3, gamma=0.5):
  """Returns (returns, discounts, has_target) with the ends at some steps."""
  discounts = np.full(len(rewards), gamma, np.float32)
  discounts[list(ends)] = 0
  found = jax.jit(q_learning.n_step, static_argnums=3)(
    jnp.array(rewards, jnp.float32),
    jnp.array(discounts),
    jnp.array(mask, bool),
    n,
  )
  return [x.tolist() for x in found]


def test_three_steps_of_a_segment_that_goes_on():
  """The last three steps have nothing three steps later."""
  returns, discounts, has_target = n_step([1, 2, 4, 8, 16], [1] * 5)
  assert returns[:2] == [1 + 1 + 1, 2 + 2 + 2]
  assert discounts[:2] == [0.125, 0.125]
  assert has_target == [True, True, False, False, False]


def test_three_steps_across_an_end():
  """Nothing is summed after it, not even what padding holds."""
  returns, discounts, has_target = n_step(
    [1, 2, 4, 8, 99, 99, 99], [1, 1, 1, 1, 0, 0, 0], ends=[3]
  )
  # Step 0 bootstraps from step 3; the others end before.
  assert returns[:4] == [1 + 1 + 1, 2 + 2 + 2, 4 + 4, 8]
  assert discounts[:4] == [0.125, 0, 0, 0]
  assert has_target == [True] * 4 + [False] * 3


def test_three_steps_of_an_episode_that_was_cut():
  """Without an end, no target where the step three later is missing."""
  returns, discounts, has_target = n_step(
    [1, 2, 4, 8, 99, 99], [1, 1, 1, 1, 0, 0]
  )
  assert (returns[0], discounts[0]) == (3, 0.125)
  assert has_target == [True] + [False] * 5


def test_three_steps_with_padding_on_both_sides():
  """Ends that stand on padding count for nothing."""
  returns, discounts, has_target = n_step(
    [99, 99, 1, 2, 4, 99, 99], [0, 0, 1, 1, 1, 0, 0], ends=[0, 1, 4, 6]
  )
  assert returns[2:5] == [1 + 1 + 1, 2 + 2, 4]
  assert discounts[2:5] == [0, 0, 0]
  assert has_target == [False] * 2 + [True] * 3 + [False] * 2
  _, _, has_target = n_step(
    [99, 99, 1, 2, 4, 99, 99], [0, 0, 1, 1, 1, 0, 0], ends=[0, 1, 5, 6]
  )
  assert not any(has_target)


def test_more_steps_than_a_segment_has():
  returns, _, has_target = n_step([1, 2], [1, 1], ends=[1], n=4)
  assert returns == [2, 2] and has_target == [True, True]
  assert not any(n_step([1, 2], [1, 1], n=4)[2])
  with pytest.raises(ValueError, match='n=0'):
    n_step([1, 2], [1, 1], n=0)


@pytest.mark.slow
def test_recorded_returns():
  data = fixtures.load('nstep', fixtures.Q_LEARNING)
  discounts = data['gamma'] * (1 - data['ends'].astype(np.float32))
  n = int(data['n'])
  returns, discounts, has_target = jax.vmap(
    lambda *x: q_learning.n_step(*x, n)
  )(data['rewards'], discounts, data['valid'])
  np.testing.assert_array_equal(has_target, data['has_target'])
  there = data['has_target']
  assert there.any() and not there[data['valid']].all()
  np.testing.assert_allclose(
    returns[there], data['n_step_return'][there], atol=1e-5
  )
  np.testing.assert_allclose(
    discounts[there], data['discount'][there], atol=1e-6
  )


def test_steps_later():
  x = jnp.arange(8.0).reshape(4, 2)
  later = q_learning.steps_later(x, 3)
  np.testing.assert_array_equal(later[0], x[3])
  # A distribution where there is none to have: that of the first steps.
  np.testing.assert_array_equal(later[1:], x[:3])


@pytest.mark.parametrize(
  ('value', 'expected'),
  [
    (0.0, [0, 1, 0]),
    (1.0, [0, 0, 1]),
    (0.25, [0, 0.75, 0.25]),
    (-0.9, [0.9, 0.1, 0]),
    (-7.0, [1, 0, 0]),
    (7.0, [0, 0, 1]),
  ],
)
def test_projection_of_one_mass(value, expected):
  got = q_learning.categorical_projection(
    jnp.array([1.0, 0.0, 0.0]), jnp.array([value, 50.0, -50.0]), ATOMS
  )
  np.testing.assert_allclose(got, expected, atol=1e-6)


def test_projection_conserves_mass_and_inner_means():
  rng = np.random.default_rng(0)
  atoms = jnp.linspace(-10, 30, 51)
  probs = rng.dirichlet(np.ones(51)).astype(np.float32)
  support = 1 + 0.99 * np.asarray(atoms)
  got = q_learning.categorical_projection(
    jnp.asarray(probs), jnp.asarray(support), atoms
  )
  np.testing.assert_allclose(got.sum(), 1, rtol=1e-5)
  mean = probs @ np.clip(support, -10, 30)
  np.testing.assert_allclose(got @ atoms, mean, rtol=1e-4)
  assert (np.asarray(got) >= 0).all()


def test_bootstrap_takes_the_best_legal_action():
  probs = jnp.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
  q = probs @ ATOMS  # 1, -1, 0
  dist, value = q_learning.bootstrap_targets(
    probs, q, jnp.array([True, True, True])
  )
  np.testing.assert_array_equal(dist, probs[0])
  assert value == 1
  dist, value = q_learning.bootstrap_targets(
    probs, q, jnp.array([False, True, True])
  )
  np.testing.assert_array_equal(dist, probs[2])
  assert value == 0


def c51(a_t=(0, 1), legal=(False, True), ended=(False, True)):
  """Two steps, two actions; the second step ends the episode."""
  probs = jnp.array(
    [[[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]], [[0.8, 0.1, 0.1], [0.1, 0.4, 0.5]]]
  )
  # At step 1 action 0 is sure of 1 and action 1 of -1.
  target = jnp.array([[[0, 1, 0], [0, 1, 0]], [[0, 0, 1], [1, 0, 0]]]) * 1.0
  greedy, _ = jax.vmap(q_learning.bootstrap_targets, (0, 0, None))(
    target, target @ ATOMS, jnp.array(legal)
  )
  return q_learning.c51_loss(
    probs,
    jnp.array(a_t),
    jnp.array([0.75, 0.5]),
    0.5 * (1 - jnp.array(ended, jnp.float32)),
    q_learning.steps_later(greedy, 1),
    ATOMS,
  )


def test_c51_bootstraps_from_the_legal_action():
  # 0.75 + 0.5 * -1 = 0.25: three quarters on atom 0, one on atom 1.
  expected = -(0.75 * np.log(0.3) + 0.25 * np.log(0.5))
  np.testing.assert_allclose(c51()[0], expected, rtol=1e-5)


def test_c51_clips_to_the_support():
  # 0.75 + 0.5 * 1 = 1.25, clipped to 1.
  got = c51(legal=(True, True))[0]
  np.testing.assert_allclose(got, -np.log(0.5), rtol=1e-5)


def test_c51_of_an_ended_step_is_the_reward_alone():
  # 0.5: half on atom 0, half on atom 1, of the action taken.
  expected = -(0.5 * np.log(0.4) + 0.5 * np.log(0.5))
  for legal in ((False, True), (True, True)):
    np.testing.assert_allclose(c51(legal=legal)[1], expected, rtol=1e-5)


def test_c51_reads_the_action_taken():
  expected = -(0.75 * np.log(0.3) + 0.25 * np.log(0.1))
  np.testing.assert_allclose(c51(a_t=(1, 1))[0], expected, rtol=1e-5)


def test_c51_of_two_steps():
  """What is bootstrapped from stands two steps later, with its discount."""
  returns, discounts, has_target = q_learning.n_step(
    jnp.array([0.5, -0.5, 0.0]), jnp.full(3, 0.5), jnp.ones(3, bool), 2
  )
  assert has_target.tolist() == [True, False, False]
  # The target is sure of 1 at step 2: 0.5 - 0.25 + 0.25 * 1 = 0.5.
  sure = jnp.eye(3)[jnp.array([0, 1, 2])]
  probs = jnp.tile(jnp.array([0.2, 0.3, 0.5]), (3, 1, 1))
  got = q_learning.c51_loss(
    probs,
    jnp.zeros(3, jnp.int32),
    returns,
    discounts,
    q_learning.steps_later(sure, 2),
    ATOMS,
  )
  expected = -(0.5 * np.log(0.3) + 0.5 * np.log(0.5))
  np.testing.assert_allclose(got[0], expected, rtol=1e-5)


def mse(q, target_q, legal=(True, True)):
  _, best = jax.vmap(q_learning.bootstrap_targets, (0, 0, None))(
    target_q[..., None], target_q, jnp.array(legal)
  )
  return q_learning.mse_loss(
    q,
    jnp.array([1, 0]),
    jnp.array([1.0, -1.0]),
    jnp.array([0.5, 0.0]),
    q_learning.steps_later(best, 1),
  )


def test_mse_loss():
  q = jnp.array([[9.0, 2.0], [3.0, 9.0]])
  target_q = jnp.array([[9.0, 9.0], [4.0, 6.0]])
  # Targets: 1 + 0.5 * 6 = 4, and -1 alone.
  np.testing.assert_allclose(mse(q, target_q), [2.0, 8.0])
  # Without action 1: 1 + 0.5 * 4 = 3.
  np.testing.assert_allclose(mse(q, target_q, (True, False)), [0.5, 8.0])


def test_no_gradient_reaches_the_targets():
  q = jnp.array([[9.0, 2.0], [3.0, 9.0]])
  to_q, to_target = jax.grad(lambda *x: mse(*x).sum(), (0, 1))(q, q)
  # Prediction less target at the taken actions: 2 - (1 + 4.5), 3 - (-1).
  np.testing.assert_allclose(to_q, [[0.0, -3.5], [4.0, 0.0]])
  np.testing.assert_array_equal(to_target, np.zeros((2, 2)))

  def c51_total(target):
    return q_learning.c51_loss(
      jnp.full((2, 2, 3), 1 / 3),
      jnp.array([0, 1]),
      jnp.zeros(2),
      jnp.full(2, 0.5),
      target,
      ATOMS,
    ).sum()

  assert not np.any(jax.grad(c51_total)(jnp.full((2, 3), 1 / 3)))


def test_cql_terms():
  q = jnp.log(jnp.array([[1.0, 2.0, 5.0], [4.0, 3.0, 1.0]]))
  logsumexp, taken = q_learning.cql_terms(q, jnp.array([2, 1]))
  np.testing.assert_allclose(logsumexp, [np.log(8)] * 2, rtol=1e-6)
  np.testing.assert_allclose(taken, np.log([5, 3]), rtol=1e-6)


def test_cql_terms_are_stable_for_large_values():
  logsumexp, _ = q_learning.cql_terms(
    jnp.array([[1000.0, 1000.0]]), jnp.array([0])
  )
  np.testing.assert_allclose(logsumexp, [1000 + np.log(2)], rtol=1e-6)
