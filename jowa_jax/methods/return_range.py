"""Whether the returns that a method tells apart are those of its data."""

from collections.abc import Mapping

import chex
import jax
import numpy as np

STATISTIC = 'return_percentiles'


def check_range(
  statistics: Mapping[str, chex.Array], low: float, high: float
) -> None:
  """Raises ValueError if all returns of the data would be one to the method.

  From an episode's first step to its end, the return still to come falls or
  rises to 0.

  Args:
    statistics: of the data, `STATISTIC` among them; nothing is checked where
      they are only shapes.
    low: the lowest return that is told apart.
    high: the highest one.
  """
  found = statistics.get(STATISTIC)
  if found is None or isinstance(found, jax.core.Tracer):
    return
  found = np.asarray(found)
  least, largest = min(found.min(), 0.0), max(found.max(), 0.0)
  if largest < low or least > high:
    raise ValueError(
      f'backbone: returns are told apart from {low:g} to {high:g}, but those '
      f'of the data lie between {least:g} and {largest:g}: set '
      'backbone.return_min and what follows it so that they overlap'
    )


def outside(returns: chex.Array, low: float, high: float) -> chex.Array:
  """Which returns are beyond those that are told apart, [...] float32."""
  return ((returns < low) | (returns > high)) * 1.0
