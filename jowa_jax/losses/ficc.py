"""FICC's forward-inverse cycle losses (Ye et al., 2023), of one sequence.

Every loss has a value for each step, [T] or [T - 1]; callers mask and `vmap`.
"""

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
from jax import lax

# Logarithms are cut there, as the authors' framework does.
LOWEST_LOG = -100.0
# Norms of vectors that are compared are no smaller.
LOWEST_NORM = 1e-5


def excess_bce(logits: chex.Array, targets: chex.Array) -> chex.Array:
  """Binary cross-entropy less what the target itself has, elementwise.

  Args:
    logits: of the predicted shares.
    targets: shares in [0, 1], of the same shape; exact ones have a loss of 0.
  """
  chex.assert_equal_shape([logits, targets])

  def nll(log_on, log_off):
    log_on, log_off = (
      jnp.maximum(each, LOWEST_LOG) for each in (log_on, log_off)
    )
    return -(targets * log_on + (1 - targets) * log_off)

  least = nll(jnp.log(targets), jnp.log(1 - targets))
  return nll(jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)) - least


def frame_loss(logits_t: chex.Array, frames_t: chex.Array) -> chex.Array:
  """The excess cross-entropy of whole frames, [T].

  Args:
    logits_t: [T, S, S].
    frames_t: [T, S, S], pixels in [0, 1].
  """
  chex.assert_rank([logits_t, frames_t], 3)
  return excess_bce(logits_t, frames_t).sum((1, 2))


def changes(frames_t: chex.Array, scales: int) -> list[chex.Array]:
  """What brightens and what darkens, the coarsest scale first.

  Args:
    frames_t: [T, S, S], pixels in [0, 1].
    scales: how many; each is the maximum over 2x2 of the next one.

  Returns:
    For every scale [T - 1, S', S', 2], the last of S' = S.
  """
  chex.assert_rank(frames_t, 3)
  change = frames_t[1:] - frames_t[:-1]
  found = [jnp.clip(jnp.stack([change, -change], axis=-1), 0, 1)]
  for _ in range(scales - 1):
    steps, side = found[-1].shape[:2]
    half = side // 2
    found.append(found[-1].reshape(steps, half, 2, half, 2, 2).max(axis=(2, 4)))
  return found[::-1]


def change_loss(
  logits_t: Sequence[chex.Array], frames_t: chex.Array, finest_only: bool
) -> chex.Array:
  """The excess cross-entropy of changes, summed over scales, [T - 1].

  Args:
    logits_t: of every scale, as `changes` orders them.
    frames_t: [T, S, S], pixels in [0, 1].
    finest_only: whether coarser scales are left out.
  """
  pairs = zip(logits_t, changes(frames_t, len(logits_t)), strict=True)
  losses = [excess_bce(*pair).sum((1, 2, 3)) for pair in pairs]
  return losses[-1] if finest_only else sum(losses)


def cycle_loss(predicted_t: chex.Array, targets_t: chex.Array) -> chex.Array:
  """One less the cosine of predictions and targets [T, P], [T].

  The targets get no gradients.
  """
  chex.assert_rank([predicted_t, targets_t], 2)

  def unit(x):
    squared = jnp.square(x).sum(-1, keepdims=True)
    # Of a vector of zeros the root has no gradient.
    floor = LOWEST_NORM**2
    return x / jnp.sqrt(jnp.maximum(squared, floor))

  return 1 - (unit(predicted_t) * unit(lax.stop_gradient(targets_t))).sum(-1)


def code_loss(
  latents_t: chex.Array, rows_t: chex.Array, commitment: float = 1.0
) -> chex.Array:
  """Pulls codes to latents, and these to their codes, [T].

  Args:
    latents_t: [T, D], before they are quantised.
    rows_t: [T, D], the codes nearest to them.
    commitment: weight of the second.
  """
  chex.assert_rank([latents_t, rows_t], 2)
  codes = jnp.square(rows_t - lax.stop_gradient(latents_t)).mean(-1)
  latents = jnp.square(lax.stop_gradient(rows_t) - latents_t).mean(-1)
  return codes + commitment * latents
