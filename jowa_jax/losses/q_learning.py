"""Temporal-difference losses of the action part (JOWA section 4.1.3, eq. 8).

C51 (Bellemare et al. 2017) or squared error, of n-step returns, and the
penalties of CQL (Kumar et al. 2020) and COMBO (Yu et al. 2021). Written for one
sequence; callers `vmap`. They shift, too: a loss is given what it bootstraps
from, see `n_step` and `steps_later`.
"""

import chex
import jax
import jax.numpy as jnp
from jax import lax


def n_step(
  r_t: chex.Array, discount_t: chex.Array, mask_t: chex.Array, n: int
) -> tuple[chex.Array, chex.Array, chex.Array]:
  """Discounted rewards of n steps, and what bootstraps from the n-th after.

  The target of step t is `returns[t] + discounts[t] * value[t + n]`. A valid
  step has one if the episode ends within its n steps, or else if the step n
  later is valid too: after an end nothing is summed, and where an episode was
  cut, or the segment stops, nothing is assumed.

  Args:
    r_t: [T] float32 rewards; any finite number on padding.
    discount_t: [T], gamma, or 0 where the episode ended.
    mask_t: [T] bool, valid steps.
    n: steps, at least 1; a segment needs as many of lookahead for all its
      trained steps to have a target.

  Returns:
    returns: [T] float32.
    discounts: [T], products of n discounts.
    has_target: [T] bool; the other two count for nothing where it is false.
  """
  chex.assert_rank([r_t, discount_t, mask_t], 1)
  chex.assert_equal_shape([r_t, discount_t, mask_t])
  if n < 1:
    raise ValueError(f'n={n}: a return is of at least 1 step')
  steps = r_t.shape[0]

  def later(x, k):
    return jnp.pad(x, (0, k))[k : k + steps]

  returns = jnp.zeros_like(r_t)
  discounts = jnp.ones_like(discount_t)
  valid = mask_t.astype(bool)
  there, ended = valid, jnp.zeros_like(valid)
  for k in range(n):
    returns += discounts * later(r_t, k)
    discounts *= later(discount_t, k)
    ended |= there & (later(discount_t, k) == 0)
    there &= later(valid, k + 1)
  return returns, discounts, ended | there


def steps_later(x_t: chex.Array, n: int) -> chex.Array:
  """What stands n steps later, [T, ...].

  The last n steps get what the first ones have: `n_step` gives them no target,
  or a discount of 0, of which only a sound distribution is asked.
  """
  return jnp.roll(x_t, -n, axis=0)


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
  """The distribution and the value of the greedy allowed action.

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
  atoms: chex.Array,
) -> chex.Array:
  """Cross-entropy to the projected Bellman target, [T].

  To be masked with `n_step`'s `has_target`.

  Args:
    probs_t: [T, A, M] predicted distributions, heads mixed.
    a_t: [T] int32 actions taken.
    r_t: [T] float32 returns of n steps.
    discount_t: [T], of what is bootstrapped from, n steps later.
    target_probs_t: [T, M], that: the target's distribution n steps later.
    atoms: [M] support.
  """
  chex.assert_rank(
    [probs_t, a_t, r_t, discount_t, target_probs_t], [3, 1, 1, 1, 2]
  )
  support = r_t[:, None] + discount_t[:, None] * atoms
  target = jax.vmap(categorical_projection, (0, 0, None))(
    target_probs_t, support, atoms
  )
  taken = jnp.take_along_axis(probs_t, a_t[:, None, None], axis=1)[:, 0]
  return -jnp.sum(lax.stop_gradient(target) * jnp.log(taken + 1e-8), axis=-1)


def mse_loss(
  q_t: chex.Array,
  a_t: chex.Array,
  r_t: chex.Array,
  discount_t: chex.Array,
  target_v_t: chex.Array,
) -> chex.Array:
  """Half the squared TD error of a scalar Q, [T].

  Args:
    q_t: [T, A] predicted values.
    a_t: see `c51_loss`, as `r_t` and `discount_t`.
    r_t: [T].
    discount_t: [T].
    target_v_t: [T], the target's value n steps later.
  """
  chex.assert_rank([q_t, a_t, r_t, discount_t, target_v_t], [2, 1, 1, 1, 1])
  target = r_t + discount_t * target_v_t
  taken = jnp.take_along_axis(q_t, a_t[:, None], axis=1)[:, 0]
  return 0.5 * (taken - lax.stop_gradient(target)) ** 2


def cql_terms(
  q_t: chex.Array, a_t: chex.Array
) -> tuple[chex.Array, chex.Array]:
  """(logsumexp over all actions, value of the data's action), [T].

  CQL's penalty is the mean of the first less the mean of the second (Kumar
  et al. 2020, eq. 4); COMBO takes the second over real segments alone.

  Args:
    q_t: [T, A].
    a_t: [T] int32.
  """
  chex.assert_rank([q_t, a_t], [2, 1])
  taken = jnp.take_along_axis(q_t, a_t[:, None], axis=1)[:, 0]
  return jax.nn.logsumexp(q_t, axis=-1), taken
