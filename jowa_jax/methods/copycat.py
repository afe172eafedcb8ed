"""Against the copycat problem: actions that a policy shall not copy.

A policy that reads past actions, cloned from play that holds them, learns to
repeat the last one and nothing else (de Haan et al., "Causal Confusion in
Imitation Learning", 2019). Drawn ones in their place tell it nothing.
"""

import chex
import jax
import jax.numpy as jnp

from jowa_jax import games


def count_hidden(share: float, rows: int) -> int:
  """How many rows `hide_actions` hides.

  Of a share between 0 and 1 some are hidden and some are not.

  Args:
    share: of the rows, in [0, 1].
    rows: of a batch, or of a micro-batch.

  Raises:
    ValueError: there is one row to be divided.
  """
  if not 0 < share < 1:
    return int(share * rows)
  if rows < 2:
    raise ValueError(
      f'losses.hide_actions={share} divides a batch, and there is one segment '
      'to divide: raise run.batch_size, or lower run.accumulate'
    )
  return min(max(round(share * rows), 1), rows - 1)


def hide_actions(
  share: float, actions: chex.Array, key: chex.PRNGKey
) -> tuple[chex.Array, chex.Array]:
  """Actions of which some rows are drawn at random, and which these are.

  Args:
    share: of the rows, in [0, 1].
    actions: [B, T] integers of the 18-action vocabulary.
    key: for the choice of rows and for what stands there.

  Returns:
    The actions to read [B, T], and whether a row's are hidden [B] bool.

  Raises:
    ValueError: see `count_hidden`.
  """
  rows_key, key = jax.random.split(key)
  order = jax.random.permutation(rows_key, len(actions))
  rows = order < count_hidden(share, len(actions))
  drawn = jax.random.randint(key, actions.shape, 0, games.NUM_ACTIONS)
  drawn = drawn.astype(actions.dtype)
  return jnp.where(rows[:, None], drawn, actions), rows
