"""Batches made ahead of their use, in background threads."""

import collections
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

from jowa_jax import processes
from jowa_jax.data.feed import dataset as dataset_lib
from jowa_jax.data.feed import sampler as sampler_lib
from jowa_jax.data.store import mapped


def batches(
  dataset: dataset_lib.SegmentDataset,
  sampler: sampler_lib.Sampler,
  start_step: int,
  num_steps: int,
  prefetch: int | None = None,
  put: Callable[[Any], Any] = lambda segment: segment,
  process: int = 0,
  num_processes: int = 1,
) -> Iterator[tuple[int, Any]]:
  """Yields the batch of every step, in order.

  Threads decode the frames and call `put`, some steps ahead; the
  decoder lets them run beside each other. They end when the iterator is
  exhausted, closed or dropped.

  Args:
    dataset: where segments come from.
    sampler: which segments a step takes.
    start_step: the first step.
    num_steps: how many steps to give.
    prefetch: see `make_ahead`.
    put: what becomes of a batch, `jax.device_put` with a sharding say.
    process: which part of every batch to read, see `Sampler.indices`.
    num_processes: in how many parts a batch is read.

  Yields:
    (step, what `put` returned for the `types.Segment` of that step).

  Raises:
    ValueError: `prefetch` is not positive.
    Exception: whatever a thread raised, when its step's turn comes.
  """

  def make(step: int) -> Any:
    mapped.release_pages()
    indices = sampler.indices(step, process, num_processes)
    return put(dataset.batch(indices))

  steps = range(start_step, start_step + num_steps)
  return make_ahead(make, steps, prefetch)


def make_ahead(
  make: Callable[[int], Any], items: range, prefetch: int | None = None
) -> Iterator[tuple[int, Any]]:
  """Yields (item, make(item)) in order, made in threads ahead of their turn.

  Args:
    make: called in threads.
    items: what for.
    prefetch: results in the making or waiting; one per core, and two, if None.

  Raises:
    ValueError: `prefetch` is not positive.
    Exception: whatever `make` raised, when its item's turn comes.
  """
  cores = processes.num_cores()
  prefetch = cores + 2 if prefetch is None else prefetch
  if prefetch < 1:
    raise ValueError(f'prefetch is {prefetch}, not positive')
  return _make_ahead(make, items, prefetch, min(prefetch, cores))


def _make_ahead(
  make: Callable[[int], Any], items: range, prefetch: int, workers: int
) -> Iterator[tuple[int, Any]]:
  executor = futures.ThreadPoolExecutor(workers, 'segments')
  ahead: collections.deque[futures.Future] = collections.deque()
  try:
    ahead.extend(executor.submit(make, item) for item in items[:prefetch])
    for place, item in enumerate(items):
      result = ahead.popleft().result()
      if place + prefetch < len(items):
        ahead.append(executor.submit(make, items[place + prefetch]))
      yield item, result
  finally:
    executor.shutdown(cancel_futures=True)
