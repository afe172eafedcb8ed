"""Which segments a step trains on: a pure function of (seed, step)."""

import functools
from collections.abc import Sequence

import numpy as np


class Sampler:
  """Draws batches of segments without replacement within an epoch.

  Every segment comes once per epoch, in an order that `seed` and the epoch's
  number decide; a batch may span two epochs. Nothing is kept from step to
  step, so a run that resumes at a step continues exactly.
  """

  def __init__(
    self,
    num_segments: int,
    batch_size: int,
    seed: int,
    groups: Sequence[int] | np.ndarray | None = None,
  ):
    """Describes the sampling.

    Args:
      num_segments: segments to draw from.
      batch_size: segments in a batch.
      seed: decides the order.
      groups: [num_segments] the group (game) of each segment. If given, all
        groups are drawn equally often, whatever their sizes, and each has
        epochs of its own.

    Raises:
      ValueError: there is nothing to draw from, or the sizes do not fit.
    """
    if num_segments < 1 or batch_size < 1:
      raise ValueError(
        f'Cannot draw batches of {batch_size} from {num_segments} segments: '
        'both must be at least 1'
      )
    if groups is None:
      groups = np.zeros(num_segments, np.int32)
    groups = np.asarray(groups)
    if groups.shape != (num_segments,):
      raise ValueError(
        f'groups has shape {groups.shape}, not ({num_segments},)'
      )
    self.batch_size = batch_size
    self._seed = seed
    self._members = [
      np.flatnonzero(groups == group) for group in np.unique(groups)
    ]
    # The orders in use: two epochs of each group, when a batch spans them.
    self._order = functools.lru_cache(maxsize=2 * len(self._members))(
      self._shuffle
    )

  def indices(self, step: int) -> np.ndarray:
    """Returns the segments of a step, [batch_size] int64."""
    draws = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
    count = len(self._members)
    batch = np.empty(self.batch_size, np.int64)
    for group, members in enumerate(self._members):
      chosen = draws % count == group
      epochs, places = np.divmod(draws[chosen] // count, len(members))
      picked = np.empty(len(places), np.int64)
      for epoch in np.unique(epochs):
        now = epochs == epoch
        picked[now] = self._order(group, int(epoch))[places[now]]
      batch[chosen] = picked
    return batch

  def _shuffle(self, group: int, epoch: int) -> np.ndarray:
    rng = np.random.default_rng((self._seed, group, epoch))
    return rng.permutation(self._members[group])
