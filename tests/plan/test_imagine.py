"""Rollouts in the world model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax.methods.jowa_dreams import imagine
from tests.methods.test_jowa_dreams import (
  CONFIG,
  COUNT,
  TASKS,
  contexts,
  greedy_dream,
  params,
)

__all__ = ['params']


@functools.partial(jax.jit, static_argnums=(2, 3))
def rollout(params, context, policy, horizon, key=None):
  return imagine(CONFIG, params, context, policy, horizon, key)


def greedy(step, q, key):
  del step, key
  return jnp.argmax(q, axis=-1)


@pytest.mark.slow
def test_a_greedy_rollout_equals_uncached_decoding(params):
  context = contexts(5)
  found = rollout(params, context, greedy, 2)
  assert found.actions.shape == found.rewards.shape == (4, 2)
  assert found.tokens.shape == (4, 2, 3) and found.q.shape == (4, 3, 18)
  for env, count in enumerate(COUNT):
    steps = greedy_dream(
      params,
      context.seen[env, -count:],
      context.actions[env, -count:],
      found.actions[env].tolist(),
      TASKS[env],
    )
    for step, (frame, reward, q) in enumerate(steps):
      assert found.actions[env, step] == found.q[env, step].argmax()
      np.testing.assert_array_equal(found.tokens[env, step], frame)
      assert found.rewards[env, step] == reward
      np.testing.assert_allclose(found.q[env, step + 1], q, atol=1e-4)


@pytest.mark.slow
def test_a_policy_gets_its_own_key_at_every_step(params):
  def random(step, q, key):
    return jax.random.randint(key, q.shape[:1], 0, 18)

  one, same, other = (
    rollout(params, contexts(6), random, 2, jax.random.key(seed))
    for seed in (0, 0, 1)
  )
  np.testing.assert_array_equal(one.actions, same.actions)
  np.testing.assert_array_equal(one.tokens, same.tokens)
  assert (one.actions[:, 0] != one.actions[:, 1]).any()
  assert (one.actions != other.actions).any()


def test_no_steps(params):
  found = rollout(params, contexts(6), greedy, 0)
  assert found.actions.shape == (4, 0) and found.tokens.shape == (4, 0, 3)
  assert found.q.shape == (4, 1, 18)


@pytest.mark.parametrize('horizon', [-1, 3])
def test_no_room(params, horizon):
  with pytest.raises(ValueError, match=f'4 blocks and horizon={horizon} .* 6 '):
    rollout(params, contexts(6), greedy, horizon)
