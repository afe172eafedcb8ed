"""Behaviour cloning's loss."""

import jax.numpy as jnp
import numpy as np

from jowa_jax.losses.policy import action_nll


def test_mean_of_heads_at_the_actions_of_the_data():
  # Two heads, two steps, two actions; logits are log-probabilities.
  probs = np.array([[[0.25, 0.75], [0.5, 0.5]], [[0.5, 0.5], [0.9, 0.1]]])
  got = action_nll(jnp.log(probs), jnp.array([1, 0]))
  expected = [
    -(np.log(0.75) + np.log(0.5)) / 2,
    -(np.log(0.5) + np.log(0.9)) / 2,
  ]
  np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_unnormalised_logits_give_the_same():
  logits = jnp.log(jnp.array([[[0.2, 0.3, 0.5]]]))
  actions = jnp.array([2])
  shifted = action_nll(logits + 7.0, actions)
  np.testing.assert_allclose(shifted, [-np.log(0.5)], rtol=1e-5)
