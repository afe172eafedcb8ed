"""Loss of behaviour cloning."""

import chex
import jax.numpy as jnp
import optax


def action_nll(logits_t: chex.Array, a_t: chex.Array) -> chex.Array:
  """Negative log-likelihood of the data's actions, mean over heads, [T].

  Args:
    logits_t: [heads, T, A].
    a_t: [T] int32.
  """
  chex.assert_rank([logits_t, a_t], [3, 1])
  labels = jnp.broadcast_to(a_t, logits_t.shape[:2])
  nll = optax.softmax_cross_entropy_with_integer_labels(logits_t, labels)
  return nll.mean(axis=0)
