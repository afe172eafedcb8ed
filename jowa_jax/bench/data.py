"""How fast data comes, from every layout on disk to batches.

Each measurement runs in a process of its own, for its peak of memory above
that of the idle process to be its own. All read the same real play.
"""

import dataclasses
import itertools
import multiprocessing
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np

from jowa_jax.bench import raw_logs
from jowa_jax.data.feed import pipeline, tokens
from jowa_jax.data.feed.dataset import SegmentDataset
from jowa_jax.data.feed.sampler import Sampler
from jowa_jax.data.prepare import prepare
from jowa_jax.data.source import Split
from jowa_jax.data.store import formats, stored, writer

GAMES = ('Assault', 'Carnival')
LENGTH, STRIDE = 8, 4
_TOKENS = 36


@dataclasses.dataclass(frozen=True)
class Setup:
  """What is measured.

  Attributes:
    root: where the data sets of the measurement are.
    steps: transitions played of each game.
    log_rows: rows of the raw log that is converted.
    batch_size: segments in a batch.
    seconds: how long a rate is measured, at least.
  """

  root: str
  steps: int
  log_rows: int
  batch_size: int
  seconds: float


def measure(
  steps: int = 20_000,
  log_rows: int = 20_000,
  batch_size: int = 128,
  seconds: float = 5.0,
) -> dict[str, dict[str, float]]:
  """All measurements: name -> what was measured, with its unit.

  Args:
    steps: transitions played of each of two games.
    log_rows: rows of the raw log that is converted; real ones have 1,000,000.
    batch_size: segments in a batch.
    seconds: how long each rate is measured, at least.
  """
  with tempfile.TemporaryDirectory(prefix='jowa_bench.') as root:
    setup = Setup(root, steps, log_rows, batch_size, seconds)
    _alone(_make, setup)
    results = {
      one.__name__.strip('_'): _alone(one, setup)
      for one in (
        _png_decoding,
        _frames,
        _naive_reader,
        _tokens,
        _first_batch,
        _conversion,
      )
    }
  naive = results['naive_reader']['segments_per_second']
  for name in ('frames', 'tokens'):
    rate = results[name]['segments_per_second']
    results[name]['times_naive_reader'] = rate / naive
  return results


def _alone(one: Callable[[Setup], Any], setup: Setup) -> dict[str, float]:
  """Calls a function in a new process; adds its memory above idle."""
  context = multiprocessing.get_context('spawn')
  results = context.SimpleQueue()
  process = context.Process(target=_child, args=(one, setup, results))
  process.start()
  process.join()
  if process.exitcode:
    raise RuntimeError(f'{one.__name__} failed, see above')
  return results.get()


def _child(one: Callable[[Setup], Any], setup: Setup, results: Any) -> None:
  # What is imported is idle memory.
  import apache_beam  # noqa: F401
  from array_record.python import array_record_module  # noqa: F401

  from jowa_jax.data import tf_libraries  # noqa: F401

  cv2.setNumThreads(1)
  # The highest memory so far is forgotten.
  pathlib.Path('/proc/self/clear_refs').write_text('5')
  idle = _memory('VmRSS')
  result = one(setup) or {}
  result['peak_mb_above_idle'] = _memory('VmHWM') - idle
  results.put(result)


def _memory(field: str) -> float:
  """A field of /proc/self/status in MB."""
  status = pathlib.Path('/proc/self/status').read_text()
  return int(re.search(rf'{field}:\s+(\d+) kB', status)[1]) / 1024


def _rate(steps: Iterator[int], seconds: float) -> float:
  """The sum of what is yielded per second, the first time aside."""
  next(steps)
  total, start = 0, time.perf_counter()
  for count in steps:
    total += count
    if time.perf_counter() - start > seconds:
      break
  return total / (time.perf_counter() - start)


# What is measured. All read what `_make` wrote.


def _make(setup: Setup) -> None:
  """Plays, and writes the play in all layouts."""
  root = pathlib.Path(setup.root)
  for game in GAMES:
    split = Split(game, 1, 0)
    episodes = raw_logs.random_play(game, setup.steps)
    writer.write_split(root / f'work_{game}', split, enumerate(episodes))
    writer.finish_run(root / 'data', root / f'work_{game}', [split], {})
  tokens.encode_episodes(
    stored.load_episodes(root / 'data', GAMES),
    lambda frames: frames.reshape(len(frames), _TOKENS, -1).max(-1),
    root / 'tokens',
    'maximum',
    progress=False,
  )
  # A log of any length: the play of one game over and over.
  full = [episode for episode in episodes if episode.terminated]
  rows = itertools.chain.from_iterable(
    ([raw_logs.ZERO] * 3 + list(raw_logs.transitions(episode)))
    for episode in itertools.cycle(full)
  )
  raw_logs.write_log(
    root / 'logs',
    *(game, 1, 1),
    itertools.islice(rows, setup.log_rows),
    setup.log_rows,
    setup.log_rows,
    level=1,
  )


def _png_decoding(setup: Setup) -> dict[str, float]:
  """One thread decodes frames that are in memory."""
  frames = [
    png
    for episode in stored.load_episodes(setup.root + '/data', GAMES)[:20]
    for png in episode.frames[:]
  ]

  def decode():
    for png in itertools.cycle(frames):
      cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
      yield 1

  return {'frames_per_second': _rate(decode(), setup.seconds)}


def _batches(setup: Setup, with_tokens: bool) -> Iterator[int]:
  episodes = stored.load_episodes(setup.root + '/data', GAMES)
  if with_tokens:
    episodes = tokens.read_tokens(episodes, setup.root + '/tokens', 'maximum')
  data = SegmentDataset(episodes, LENGTH, STRIDE)
  sampler = Sampler(list(data.games.values()), setup.batch_size, 0, (1, 1))
  for _, batch in pipeline.batches(data, sampler, 0, 10**9, prefetch=4):
    yield len(batch.task)


def _frames(setup: Setup) -> dict[str, float]:
  """Shuffled segments from array_record files, decoded and padded."""
  rate = _rate(_batches(setup, with_tokens=False), setup.seconds)
  return {'segments_per_second': rate, 'frames_per_second': rate * LENGTH}


def _tokens(setup: Setup) -> dict[str, float]:
  """Shuffled segments from memory-mapped tokens."""
  rate = _rate(_batches(setup, with_tokens=True), setup.seconds)
  return {'segments_per_second': rate}


def _naive_reader(setup: Setup) -> dict[str, float]:
  """The same from RLDS episodes as TFDS and rlds are meant to be used."""
  from jowa_jax.data.tf_libraries import rlds, tf, tfds

  def read(game):
    path = formats.data_set_path(setup.root + '/data', game, 1)
    episodes = tfds.builder_from_directory(path).as_dataset(split='all')
    return episodes.flat_map(
      lambda episode: rlds.transformations.batch(
        episode[rlds.STEPS], size=LENGTH, shift=STRIDE, drop_remainder=True
      )
    )

  data = tf.data.Dataset.sample_from_datasets([read(g).repeat() for g in GAMES])
  data = data.shuffle(1000, seed=0).batch(setup.batch_size).prefetch(4)
  batches = (len(batch[rlds.ACTION]) for batch in tfds.as_numpy(data))
  rate = _rate(batches, setup.seconds)
  return {'segments_per_second': rate, 'frames_per_second': rate * LENGTH}


_FIRST_BATCH = """
import sys
from jowa_jax.data.feed.training import DataConfig, TrainingData
from jowa_jax.methods.base import BatchSpec
config = DataConfig(sys.argv[1], tuple(sys.argv[3:]))
data = TrainingData(config, BatchSpec(8), int(sys.argv[2]), 0)
next(data.batches(0, 1, put=lambda batch: batch))
"""


def _first_batch(setup: Setup) -> dict[str, float]:
  """From opening a data set, and from a process' start, to a first batch."""
  start = time.perf_counter()
  next(_batches(setup, with_tokens=False))
  frames = time.perf_counter() - start
  start = time.perf_counter()
  next(_batches(setup, with_tokens=True))
  tokens_read = time.perf_counter() - start
  start = time.perf_counter()
  arguments = [setup.root + '/data', str(setup.batch_size), *GAMES]
  subprocess.run([sys.executable, '-c', _FIRST_BATCH, *arguments], check=True)
  return {
    'seconds_to_frames': frames,
    'seconds_to_tokens': tokens_read,
    'seconds_from_process_start_to_frames': time.perf_counter() - start,
  }


def _conversion(setup: Setup) -> dict[str, float]:
  """A raw log to both kinds of data set, in one process."""
  request = prepare.Request('dqn_replay', setup.root + '/logs', (GAMES[-1],))
  start = time.perf_counter()
  manifest = prepare.prepare(
    request,
    setup.root + '/prepared',
    [
      '--runner=FnApiRunner',
      '--direct_num_workers=1',
      '--direct_running_mode=in_memory',
    ],
    progress=False,
  )
  steps = manifest['games'][GAMES[-1]]['steps']
  return {'steps_per_second': steps / (time.perf_counter() - start)}


def describe(results: dict[str, dict[str, float]]) -> str:
  """The measurements as text."""
  return '\n'.join(
    f'{name}: '
    + ', '.join(
      f'{value:,.2f} {unit}' if value < 10 else f'{value:,.0f} {unit}'
      for unit, value in measured.items()
    )
    for name, measured in results.items()
  )
