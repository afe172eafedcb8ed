"""Which segments a step trains on: a pure function of (seed, step, process).

No order is ever stored: the place of a segment in the shuffled epoch is
computed when it is asked for, so that data sets of any size cost nothing.
"""

import fractions
from collections.abc import Sequence

import numpy as np

_ROUNDS = 6
# How finely weights of groups are told apart.
_TICKETS = 10_000
# Marks that are counted together.
_BLOCK = 64


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
    stream: tuple[int, ...] = (),
  ):
    """Describes the sampling.

    Args:
      sizes: segments in each group (game); group g owns the indices from
        sum(sizes[:g]) on.
      batch_size: segments in a batch, over all processes.
      seed: decides the order.
      weights: how often each group is drawn, in any unit; each group then has
        epochs of its own. All segments are drawn equally often if None.
      stream: positive numbers that tell the orders of one seed apart.

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
    self._seed, self._stream = seed, stream
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
    """The segments of a step, [batch_size / num_processes] int64.

    Args:
      step: counted from 0.
      process: which of the processes asks; each gets consecutive rows of the
        batch, in the order of their numbers.
      num_processes: how many share the batch.

    Raises:
      ValueError: the batch does not divide over the processes.
    """
    rows = _rows(self.batch_size, process, num_processes)
    return self.draw(step * self.batch_size + rows)

  def draw(self, draws: np.ndarray) -> np.ndarray:
    """The segments of draws [N], counted from 0 over all batches."""
    cycles, place = np.divmod(draws, len(self._cycle))
    groups = self._cycle[place]
    indices = np.empty(len(draws), np.int64)
    for group in np.unique(groups):
      mine = groups == group
      per_cycle = int((self._cycle == group).sum())
      drawn = cycles[mine] * per_cycle + self._earlier[place[mine]]
      epochs, places = np.divmod(drawn, self._sizes[group])
      for epoch in np.unique(epochs):
        now = np.flatnonzero(mine)[epochs == epoch]
        indices[now] = self._firsts[group] + shuffled(
          places[epochs == epoch],
          self._sizes[group],
          (self._seed, int(group), int(epoch), *self._stream),
        )
    return indices


class Marked:
  """Some of many places, in an eighth of a byte each, found by their rank."""

  def __init__(self, marks: np.ndarray):
    """Keeps which of the places, [N] bool, are marked."""
    padded = np.zeros(-(-len(marks) // _BLOCK) * _BLOCK, bool)
    padded[: len(marks)] = marks
    blocks = padded.reshape(-1, _BLOCK)
    self._bits = np.packbits(blocks, axis=1)
    self._stops = np.cumsum(blocks.sum(1, dtype=np.int64))

  def __len__(self) -> int:
    return int(self._stops[-1]) if len(self._stops) else 0

  def find(self, ranks: np.ndarray) -> np.ndarray:
    """The places of the marks of ranks [N] in [0, len(self))."""
    block = np.searchsorted(self._stops, ranks, side='right')
    bits = np.unpackbits(self._bits[block], axis=1)
    earlier = self._stops[block] - bits.sum(1, dtype=np.int64)
    counts = np.cumsum(bits, axis=1, dtype=np.int64)
    found = (counts == (ranks - earlier + 1)[:, None]).argmax(1)
    return block * _BLOCK + found


class MarkedShareSampler:
  """Draws a share of every batch from marked segments, the rest from all.

  The rest is what `Sampler` draws, marked segments among it. Both come without
  replacement within an epoch of their own, and their groups in the same
  proportions. A batch has its share of marked draws exactly, rounded up or
  down so that all batches together have it, in random rows. It is a pure
  function of the step as that of `Sampler` is.
  """

  def __init__(
    self,
    sizes: Sequence[int],
    batch_size: int,
    seed: int,
    weights: Sequence[float] | None,
    marks: np.ndarray,
    share: float,
  ):
    """Describes the sampling.

    Args:
      sizes: number of segments in each group, as for `Sampler`.
      batch_size: over all processes.
      seed: decides the order.
      weights: how often each group is drawn, as for `Sampler`; if None, the
        marked draws are of a group as often as it has segments, marked or not.
      marks: segments that are marked, [sum(sizes)] bool, some of every group.
      share: part of every batch that is of marked draws, in (0, 1].

    Raises:
      ValueError: a group has no marks, or see `Sampler`.
    """
    self.batch_size = batch_size
    self._seed = seed
    self._all = Sampler(sizes, batch_size, seed, weights)
    firsts = np.cumsum([0, *sizes[:-1]])
    self._marked = Marked(marks)
    self._among = Sampler(
      np.add.reduceat(marks, firsts, dtype=np.int64).tolist(),
      batch_size,
      seed,
      sizes if weights is None else weights,
      stream=(1,),
    )
    self._share = fractions.Fraction(share).limit_denominator(_TICKETS)

  def indices(
    self, step: int, process: int = 0, num_processes: int = 1
  ) -> np.ndarray:
    """The segments of a step, see `Sampler.indices`."""
    rows = _rows(self.batch_size, process, num_processes)
    # What divides a batch by its rows must not divide it by its marks.
    rows = shuffled(rows, self.batch_size, (self._seed, step, 2))
    draws = step * self.batch_size + rows
    parts, whole = self._share.numerator, self._share.denominator
    marked_before = draws * parts // whole
    marked = (draws + 1) * parts // whole > marked_before
    indices = np.empty(len(rows), np.int64)
    indices[marked] = self._marked.find(self._among.draw(marked_before[marked]))
    indices[~marked] = self._all.draw((draws - marked_before)[~marked])
    return indices


def _rows(batch_size: int, process: int, num_processes: int) -> np.ndarray:
  """The rows of a batch that are a process's, in their order.

  Raises:
    ValueError: the batch does not divide over the processes.
  """
  if batch_size % num_processes or not 0 <= process < num_processes:
    raise ValueError(
      f'A batch of {batch_size} does not divide over {num_processes} '
      f'processes, of which this is number {process}'
    )
  count = batch_size // num_processes
  return np.arange(process * count, (process + 1) * count)


def _interleave(weights: Sequence[float]) -> np.ndarray:
  """Groups in proportion to their weights, evenly spread."""
  shares = np.array(weights, np.float64) / np.sum(weights)
  if np.allclose(shares, shares[0]):
    return np.arange(len(shares))
  counts = np.maximum(np.round(shares * _TICKETS).astype(int), 1)
  times = np.concatenate([(np.arange(n) + 0.5) / n for n in counts])
  groups = np.repeat(np.arange(len(counts)), counts)
  return groups[np.argsort(times, kind='stable')]


def shuffled(places: np.ndarray, size: int, key: Sequence[int]) -> np.ndarray:
  """What stands at some places of a shuffled range(size).

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
