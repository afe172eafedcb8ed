"""Batches made ahead of their use, in background threads."""

import collections
import os
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

from jowa_jax.data import dataset as dataset_lib
from jowa_jax.data import sampler as sampler_lib


def batches(
  dataset: dataset_lib.SegmentDataset,
  sampler: sampler_lib.Sampler,
  start_step: int,
  num_steps: int,
  prefetch: int = 2,
  put: Callable[[Any], Any] = lambda segment: segment,
) -> Iterator[tuple[int, Any]]:
  """Yields the batch of every step, in order.

  Threads decode the frames and call `put`, up to `prefetch` steps ahead; the
  decoder lets them run beside each other. They end when the iterator is
  exhausted, closed or dropped.

  Args:
    dataset: where segments come from.
    sampler: which segments a step takes.
    start_step: the first step.
    num_steps: how many steps to give.
    prefetch: batches in the making or waiting; at least 1.
    put: what becomes of a batch, `jax.device_put` with a sharding say.

  Yields:
    (step, what `put` returned for the `types.Segment` of that step).

  Raises:
    ValueError: `prefetch` is not positive.
    Exception: whatever a thread raised, when its step's turn comes.
  """
  if prefetch < 1:
    raise ValueError(f'prefetch is {prefetch}, not positive')
  return _batches(
    lambda step: put(dataset.batch(sampler.indices(step))),
    range(start_step, start_step + num_steps),
    prefetch,
  )


def _batches(
  make: Callable[[int], Any], steps: range, prefetch: int
) -> Iterator[tuple[int, Any]]:
  workers = min(prefetch, os.cpu_count() or 1)
  executor = futures.ThreadPoolExecutor(workers, 'segments')
  ahead: collections.deque[futures.Future] = collections.deque()
  try:
    ahead.extend(executor.submit(make, step) for step in steps[:prefetch])
    for step in steps:
      batch = ahead.popleft().result()
      if step + prefetch < steps.stop:
        ahead.append(executor.submit(make, step + prefetch))
      yield step, batch
  finally:
    executor.shutdown(cancel_futures=True)
