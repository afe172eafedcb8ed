"""Temporal-difference losses of the action part (JOWA section 4.1.3, eq. 8).

C51 (Bellemare et al. 2017) or squared error, and the penalties of CQL (Kumar
et al. 2020) and COMBO (Yu et al. 2021). Written for one sequence; callers
`vmap`.
"""

import chex
import jax
import jax.numpy as jnp
from jax import lax


def td_mask(mask_t: chex.Array, ends_t: chex.Array) -> chex.Array:
  """Returns which steps have a TD target, [T] bool.

  A valid step has one if the step after it is valid too, or if it ended the
  episode.

  Args:
    mask_t: [T] bool, valid steps.
    ends_t: [T] bool.
  """
  chex.assert_rank([mask_t, ends_t], 1)
  mask_t = mask_t.astype(bool)
  has_next = jnp.append(mask_t[1:], False)
  return mask_t & (has_next | ends_t.astype(bool))


def categorical_projection(
  probs: chex.Array, support: chex.Array, atoms: chex.Array
) -> chex.Array:
  """Projects a distribution onto equally spaced atoms, [M].

  Mass outside the atoms' range goes to the nearest end; the rest is shared
  linearly between the two neighbours (Bellemare et al. 2017, eq. 7).

  Args:
    probs: [M] masses.
    support: [M] values the masses sit at.
    atoms: [M], increasing, equally spaced.
  """
  chex.assert_rank([probs, support, atoms], 1)
  spacing = atoms[1] - atoms[0]
  support = jnp.clip(support, atoms[0], atoms[-1])
  distance = jnp.abs(support[None] - atoms[:, None]) / spacing
  return jnp.clip(1 - distance, 0, 1) @ probs


def bootstrap_targets(
  probs_tp1: chex.Array,
  q_tp1: chex.Array,
  allowed: chex.Array,
) -> tuple[chex.Array, chex.Array]:
  """Returns the distribution and the value of the greedy allowed action.

  Args:
    probs_tp1: [A, M] target heads' distributions ([A, 1] scalars for MSE).
    q_tp1: [A] their means.
    allowed: [A] bool.
  """
  chex.assert_rank([probs_tp1, q_tp1, allowed], [2, 1, 1])
  greedy = jnp.argmax(jnp.where(allowed, q_tp1, -jnp.inf))
  return probs_tp1[greedy], q_tp1[greedy]


def c51_loss(
  probs_t: chex.Array,
  a_t: chex.Array,
  r_t: chex.Array,
  discount_t: chex.Array,
  target_probs_t: chex.Array,
  target_q_t: chex.Array,
  allowed: chex.Array,
  atoms: chex.Array,
) -> chex.Array:
  """Cross-entropy to the projected Bellman target, [T].

  Step t bootstraps from step t+1, the last step from nothing: its target is
  right only where its discount is 0, so mask the result with `td_mask`.

  Args:
    probs_t: [T, A, M] predicted distributions, heads mixed.
    a_t: [T] int32 actions taken.
    r_t: [T] float32 rewards.
    discount_t: [T], gamma, or 0 where the episode ended.
    target_probs_t: [T, A, M] of the target heads, at the same steps.
    target_q_t: [T, A] their means.
    allowed: [A] or [T, A] bool, the actions to bootstrap from.
    atoms: [M] support.
  """
  chex.assert_rank([probs_t, a_t, r_t, discount_t], [3, 1, 1, 1])
  chex.assert_equal_shape([probs_t, target_probs_t])
  greedy_t, _ = jax.vmap(bootstrap_targets)(
    target_probs_t, target_q_t, jnp.broadcast_to(allowed, target_q_t.shape)
  )
  greedy_tp1 = jnp.roll(greedy_t, -1, axis=0)
  support = r_t[:, None] + discount_t[:, None] * atoms
  target = jax.vmap(categorical_projection, (0, 0, None))(
    greedy_tp1, support, atoms
  )
  taken = jnp.take_along_axis(probs_t, a_t[:, None, None], axis=1)[:, 0]
  return -jnp.sum(lax.stop_gradient(target) * jnp.log(taken + 1e-8), axis=-1)


def mse_loss(
  q_t: chex.Array,
  a_t: chex.Array,
  r_t: chex.Array,
  discount_t: chex.Array,
  target_q_t: chex.Array,
  allowed: chex.Array,
) -> chex.Array:
  """Half the squared TD error of a scalar Q, [T]; arguments as `c51_loss`."""
  chex.assert_rank([q_t, a_t, r_t, discount_t], [2, 1, 1, 1])
  best_t = jnp.max(jnp.where(allowed, target_q_t, -jnp.inf), axis=-1)
  target = r_t + discount_t * jnp.roll(best_t, -1)
  taken = jnp.take_along_axis(q_t, a_t[:, None], axis=1)[:, 0]
  return 0.5 * (taken - lax.stop_gradient(target)) ** 2


def cql_terms(
  q_t: chex.Array, a_t: chex.Array
) -> tuple[chex.Array, chex.Array]:
  """Returns (logsumexp over all actions, value of the data's action), [T].

  CQL's penalty is the mean of the first less the mean of the second (Kumar
  et al. 2020, eq. 4); COMBO takes the second over real segments alone.

  Args:
    q_t: [T, A].
    a_t: [T] int32.
  """
  chex.assert_rank([q_t, a_t], [2, 1])
  taken = jnp.take_along_axis(q_t, a_t[:, None], axis=1)[:, 0]
  return jax.nn.logsumexp(q_t, axis=-1), taken
