"""Batches arrive in order, errors arrive at all, and no thread stays."""

import subprocess
import sys
import threading

import numpy as np
import pytest

from jowa_jax.data.episodes import DataError
from jowa_jax.data.feed import dataset, pipeline, sampler


@pytest.fixture
def data(make_episode):
  return dataset.SegmentDataset(
    [make_episode(9, number=i) for i in range(4)], 4, 2, fields={'t'}
  )


def _workers():
  return [
    thread
    for thread in threading.enumerate()
    if thread.name.startswith('segments')
  ]


@pytest.mark.parametrize('prefetch', [1, 3, 20])
def test_gives_every_step_in_order(data, prefetch):
  draw = sampler.Sampler([data.num_segments], 3, seed=0)
  steps = []
  for step, batch in pipeline.batches(data, draw, 5, 7, prefetch):
    expected = data.batch(draw.indices(step))
    np.testing.assert_array_equal(batch.observations, expected.observations)
    np.testing.assert_array_equal(batch.t, expected.t)
    steps.append(step)
  assert steps == [5, 6, 7, 8, 9, 10, 11]
  assert not _workers()


def test_put_runs_in_the_threads(data):
  draw = sampler.Sampler([data.num_segments], 3, seed=0)
  names = [
    name
    for _, name in pipeline.batches(
      data, draw, 0, 3, put=lambda batch: threading.current_thread().name
    )
  ]
  assert len(names) == 3
  assert all(name.startswith('segments') for name in names)


def test_raises_what_a_thread_raised(data):
  draw = sampler.Sampler([data.num_segments], data.num_segments, seed=0)
  data.episodes[2].frames[3] = b'no image'
  with pytest.raises(DataError, match='Frame 3 of episode 2'):
    list(pipeline.batches(data, draw, 0, 3))
  assert not _workers()


def test_closing_early_leaves_no_thread(data):
  draw = sampler.Sampler([data.num_segments], 3, seed=0)
  batches = pipeline.batches(data, draw, 0, 1000, prefetch=4)
  assert next(batches)[0] == 0
  assert _workers()
  batches.close()
  assert not _workers()


def test_prefetch_must_be_positive(data):
  draw = sampler.Sampler([data.num_segments], 3, seed=0)
  with pytest.raises(ValueError, match='prefetch is 0'):
    pipeline.batches(data, draw, 0, 3, prefetch=0)


@pytest.mark.slow
def test_needs_no_tensorflow():
  code = (
    'import sys, jowa_jax.data.feed.pipeline, jowa_jax.data.episodes, '
    'jowa_jax.collect.collect; sys.exit("tensorflow" in sys.modules)'
  )
  assert subprocess.run([sys.executable, '-c', code]).returncode == 0
