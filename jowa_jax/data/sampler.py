"""Which segments a step trains on: a pure function of (seed, step, process).

No order is ever stored: the place of a segment in the shuffled epoch is
computed when it is asked for, so that data sets of any size cost nothing.
"""

from collections.abc import Sequence

import numpy as np

_ROUNDS = 6
# How finely weights of groups are told apart.
_TICKETS = 10_000


class Sampler:
  """Draws batches of segments without replacement within an epoch.

  Every segment comes once per epoch, in an order that `seed` and the epoch's
  number decide; a batch may span two epochs. Nothing is kept from step to
  step, so a run that resumes at a step continues exactly, and processes that
  share the work together see the batches that one would.
  """

  def __init__(
    self,
    sizes: Sequence[int],
    batch_size: int,
    seed: int,
    weights: Sequence[float] | None = None,
  ):
    """Describes the sampling.

    Args:
      sizes: segments in each group (game); group g owns the indices from
        sum(sizes[:g]) on.
      batch_size: segments in a batch, over all processes.
      seed: decides the order.
      weights: how often each group is drawn, in any unit; each group then has
        epochs of its own. All segments are drawn equally often if None.

    Raises:
      ValueError: there is nothing to draw from, or the arguments do not fit.
    """
    sizes = list(sizes)
    if batch_size < 1 or not sizes or min(sizes) < 1:
      raise ValueError(
        f'Cannot draw batches of {batch_size} from groups of {sizes} segments: '
        'all must be at least 1'
      )
    if weights is None:
      sizes, weights = [sum(sizes)], [1.0]
    if len(weights) != len(sizes) or min(weights) <= 0:
      raise ValueError(
        f'{len(sizes)} groups need as many positive weights, not {weights}'
      )
    self.batch_size = batch_size
    self._seed = seed
    self._sizes = sizes
    self._firsts = np.cumsum([0, *sizes[:-1]])
    # Group of every draw of a cycle, and draws of it earlier in the cycle.
    self._cycle = _interleave(weights)
    self._earlier = np.empty_like(self._cycle)
    for group in range(len(sizes)):
      mine = self._cycle == group
      self._earlier[mine] = np.arange(mine.sum())

  def indices(
    self, step: int, process: int = 0, num_processes: int = 1
  ) -> np.ndarray:
    """Returns the segments of a step, [batch_size / num_processes] int64.

    Args:
      step: counted from 0.
      process: which of the processes asks; each gets consecutive rows of the
        batch, in the order of their numbers.
      num_processes: how many share the batch.

    Raises:
      ValueError: the batch does not divide over the processes.
    """
    if self.batch_size % num_processes or not 0 <= process < num_processes:
      raise ValueError(
        f'A batch of {self.batch_size} does not divide over {num_processes} '
        f'processes, of which this is number {process}'
      )
    rows = self.batch_size // num_processes
    first = step * self.batch_size + process * rows
    cycles, place = np.divmod(np.arange(first, first + rows), len(self._cycle))
    groups = self._cycle[place]
    indices = np.empty(rows, np.int64)
    for group in np.unique(groups):
      mine = groups == group
      per_cycle = int((self._cycle == group).sum())
      draws = cycles[mine] * per_cycle + self._earlier[place[mine]]
      epochs, places = np.divmod(draws, self._sizes[group])
      for epoch in np.unique(epochs):
        now = np.flatnonzero(mine)[epochs == epoch]
        indices[now] = self._firsts[group] + shuffled(
          places[epochs == epoch],
          self._sizes[group],
          (self._seed, int(group), int(epoch)),
        )
    return indices


def _interleave(weights: Sequence[float]) -> np.ndarray:
  """Returns groups in proportion to their weights, evenly spread."""
  shares = np.array(weights, np.float64) / np.sum(weights)
  if np.allclose(shares, shares[0]):
    return np.arange(len(shares))
  counts = np.maximum(np.round(shares * _TICKETS).astype(int), 1)
  times = np.concatenate([(np.arange(n) + 0.5) / n for n in counts])
  groups = np.repeat(np.arange(len(counts)), counts)
  return groups[np.argsort(times, kind='stable')]


def shuffled(places: np.ndarray, size: int, key: Sequence[int]) -> np.ndarray:
  """Returns what stands at some places of a shuffled range(size).

  A Feistel network on the smallest even number of bits that holds the range;
  what falls outside of it is sent through again until it falls inside (Black
  and Rogaway, 2002, cycle walking).

  Args:
    places: [N] integers in [0, size).
    size: length of the range.
    key: numbers that decide the order.
  """
  half = max((int(size - 1).bit_length() + 1) // 2, 1)
  keys = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64)
  values = np.asarray(places, np.uint64)
  values = _feistel(values, half, keys)
  outside = np.flatnonzero(values >= size)
  while outside.size:
    values[outside] = _feistel(values[outside], half, keys)
    outside = outside[values[outside] >= size]
  return values.astype(np.int64)


def _feistel(values: np.ndarray, half: int, keys: np.ndarray) -> np.ndarray:
  """Permutes numbers of 2 * half bits."""
  bits, mask = np.uint64(half), np.uint64((1 << half) - 1)
  left, right = values >> bits, values & mask
  for key in keys:
    left, right = right, left ^ (_mix(right ^ key) & mask)
  return (left << bits) | right


def _mix(x: np.ndarray) -> np.ndarray:
  """The finalizer of SplitMix64 (Steele, Lea and Flood, 2014)."""
  x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return x ^ (x >> np.uint64(31))
