"""The world part's losses against plain loops."""

import jax.numpy as jnp
import numpy as np

from jowa_jax.losses import world


def log_softmax(logits):
  return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_observation_labels_are_the_next_tokens():
  """A model that is sure of the next token has no loss anywhere."""
  tokens = jnp.array([[0, 1, 2], [3, 0, 1]])
  # Places (0, 0), (0, 1), (0, action), (1, 0), (1, 1), (1, action).
  predicted = jnp.array([[1, 2, 3], [0, 1, 2]])
  logits = 50 * (predicted[..., None] == jnp.arange(4))
  nll, keep = world.observation_nll(logits, tokens, jnp.array([True, True]))
  assert keep.all() and nll.shape == (5,)
  np.testing.assert_allclose(nll, np.zeros(5), atol=1e-6)


def test_observation_nll_equals_a_loop():
  rng = np.random.default_rng(0)
  steps, places, vocab = 3, 4, 5
  logits = rng.normal(size=(steps, places, vocab)).astype(np.float32)
  tokens = rng.integers(0, vocab, (steps, places))
  mask = np.array([False, True, True])
  nll, keep = world.observation_nll(
    jnp.asarray(logits), jnp.asarray(tokens), jnp.asarray(mask)
  )
  expected, kept = [], []
  for t in range(steps):
    for k in range(places):
      if (t, k) == (0, 0):
        continue  # nothing comes before the segment's first token
      before = logits[t, k - 1] if k else logits[t - 1, -1]
      expected.append(-log_softmax(before)[tokens[t, k]])
      kept.append(mask[t])
  np.testing.assert_allclose(nll, expected, rtol=1e-5)
  np.testing.assert_array_equal(keep, kept)


def test_first_token_and_last_prediction_have_no_part():
  tokens = jnp.array([[0, 1], [1, 0]])
  logits = jnp.arange(12.0).reshape(2, 2, 3) % 5
  mask = jnp.array([True, True])
  base, _ = world.observation_nll(logits, tokens, mask)
  same, _ = world.observation_nll(
    logits.at[1, 1].set(jnp.array([9.0, 0.0, 0.0])),
    tokens.at[0, 0].set(2),
    mask,
  )
  np.testing.assert_array_equal(base, same)


def test_reward_nll_takes_the_sign():
  probs = np.array([[0.2, 0.3, 0.5]] * 4)
  got = world.reward_nll(jnp.log(probs), jnp.array([-0.5, 0.0, 0.25, 1.0]))
  expected = -np.log([0.2, 0.3, 0.5, 0.5])
  np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_end_nll():
  probs = np.array([[0.9, 0.1]] * 2)
  got = world.end_nll(jnp.log(probs), jnp.array([False, True]))
  np.testing.assert_allclose(got, -np.log([0.9, 0.1]), rtol=1e-5)
