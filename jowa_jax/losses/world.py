"""Losses of the world part (JOWA section 4.1.2, equations 4 to 7).

Written for one sequence; callers `vmap`, and average over the valid entries
of the whole batch with `masked_mean`.
"""

import chex
import jax.numpy as jnp
import optax


def observation_nll(
  logits_t: chex.Array, tokens_t: chex.Array, mask_t: chex.Array
) -> tuple[chex.Array, chex.Array]:
  """Negative log-likelihood of every token but the segment's first.

  Args:
    logits_t: [T, K, V]; place k < K-1 of step t predicts token k+1 of frame t,
      the last place (the action token) predicts token 0 of frame t+1.
    tokens_t: [T, K] int32.
    mask_t: [T] bool, valid steps.

  Returns:
    The loss of each predicted token and whether it counts, [T * K - 1] each.
  """
  chex.assert_rank([logits_t, tokens_t, mask_t], [3, 2, 1])
  logits = logits_t.reshape(-1, logits_t.shape[-1])[:-1]
  labels = tokens_t.reshape(-1)[1:]
  keep = jnp.repeat(mask_t, tokens_t.shape[1])[1:]
  nll = optax.softmax_cross_entropy_with_integer_labels(
    logits.astype(jnp.float32), labels
  )
  return nll, keep


def reward_nll(logits_t: chex.Array, rewards_t: chex.Array) -> chex.Array:
  """Negative log-likelihood of each reward's sign, [T].

  Args:
    logits_t: [T, 3] for the signs -1, 0, 1.
    rewards_t: [T] float32.
  """
  chex.assert_rank([logits_t, rewards_t], [2, 1])
  labels = jnp.sign(rewards_t).astype(jnp.int32) + 1
  return optax.softmax_cross_entropy_with_integer_labels(
    logits_t.astype(jnp.float32), labels
  )


def end_nll(logits_t: chex.Array, ends_t: chex.Array) -> chex.Array:
  """Negative log-likelihood of termination, [T].

  Args:
    logits_t: [T, 2].
    ends_t: [T] bool.
  """
  chex.assert_rank([logits_t, ends_t], [2, 1])
  return optax.softmax_cross_entropy_with_integer_labels(
    logits_t.astype(jnp.float32), ends_t.astype(jnp.int32)
  )
