"""Collects real play of Atari games as RLDS data sets, in many processes."""

import dataclasses
import json
import logging
import multiprocessing
import os
import pathlib
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from multiprocessing import connection
from typing import Any

import tqdm

from jowa_jax import games as game_tables
from jowa_jax.collect import play, policies
from jowa_jax.configuration import build
from jowa_jax.data import formats, writer
from jowa_jax.data.sources import Part

# Where finished checkpoints wait until their game is complete.
_WORK = '.jowa_atari_pieces'


@dataclasses.dataclass(frozen=True)
class SplitStats:
  """How the play of one checkpoint went."""

  game: str
  checkpoint: int
  epsilon: float
  episodes: int  # the cut ones included
  full_episodes: int
  steps: int  # decisions
  mean_return: float | None  # unclipped, of full episodes; None without any
  seconds: float  # of one process

  def __str__(self) -> str:
    score = 'no full episode'
    if self.mean_return is not None:
      score = f'mean return {self.mean_return:.1f}'
    return (
      f'{self.game} checkpoint_{self.checkpoint:02d} (epsilon '
      f'{self.epsilon:g}): {self.episodes} episodes ({self.full_episodes} '
      f'full), {self.steps} steps, {score}, {self.seconds:.0f} s'
    )


def collect(
  output: str | os.PathLike,
  games: str | Sequence[str],
  epsilons: Sequence[float],
  steps_per_checkpoint: int,
  seed: int = 0,
  num_processes: int | None = None,
  progress: bool = True,
  *,
  run: int = 1,
  sticky: float = 0.0,
  search: policies.Search | None = None,
) -> list[SplitStats]:
  """Plays every game at every epsilon and writes one data set per game.

  A data set `<output>/jowa_atari/<Game>_run_<run>/1.0.0` has the layout of
  TFDS's `rlu_atari_checkpoints_ordered`, with the split `checkpoint_<i>` for
  the i-th epsilon; `jowa_atari_frames` beside it holds the same play for
  training. What is finished is not played again after a restart.

  Args:
    output: the directory to write to.
    games: games or a list of them, as `games.parse_games` takes them.
    epsilons: the share of random decisions of each checkpoint, poor to good.
    steps_per_checkpoint: decisions played for each.
    seed: equal seeds give equal data sets, however many processes play.
    num_processes: one per core if None.
    progress: whether to show a progress bar.
    run: the number in the data set's name; runs differ in their play.
    sticky: the sticky-action chance; DQN-Replay was made with 0.25.
    search: the look-ahead teacher's settings, its defaults if None.

  Returns:
    The statistics of every split, games in the order given.

  Raises:
    ValueError: an argument is out of range, or a data set of the same name
      was made with other settings.
  """
  output = pathlib.Path(output)
  names = game_tables.parse_games(games)
  _check_arguments(epsilons, steps_per_checkpoint, sticky, num_processes)
  specs = {
    name: [
      play.Checkpoint(
        name,
        run,
        checkpoint,
        float(epsilon),
        steps_per_checkpoint,
        seed,
        float(sticky),
        search or policies.Search(),
      )
      for checkpoint, epsilon in enumerate(epsilons)
    ]
    for name in names
  }
  finished = {
    name: stats
    for name in names
    if (stats := _read_record(output, specs[name])) is not None
  }
  pieces = {
    spec: _piece_path(output, spec)
    for name in names
    if name not in finished
    for spec in specs[name]
  }
  missing = {name: len(epsilons) for name in names}
  for spec in _play_all(pieces, num_processes, progress):
    missing[spec.game] -= 1
    if not missing[spec.game]:
      finished[spec.game] = _finish(output, specs[spec.game], pieces)
  return [stats for name in names for stats in finished[name]]


def collect_from_config(
  config: Mapping[str, Any], output: str | os.PathLike, progress: bool = True
) -> list[SplitStats]:
  """Calls `collect` as a config of `configs/collect.py` says."""
  return collect(
    output,
    config['games'],
    config['epsilons'],
    config['steps_per_checkpoint'],
    config['seed'],
    config['num_processes'] or None,
    progress,
    run=config['run'],
    sticky=config['sticky'],
    search=build(policies.Search, config['search'], 'search'),
  )


def _check_arguments(epsilons, steps, sticky, num_processes) -> None:
  if not epsilons:
    raise ValueError('epsilons is empty: give one per checkpoint')
  if steps < 1:
    raise ValueError(f'steps_per_checkpoint is {steps}, not positive')
  if num_processes is not None and num_processes < 1:
    raise ValueError(f'num_processes is {num_processes}, not positive')
  for chance in (*epsilons, sticky):
    if not 0 <= chance <= 1:
      raise ValueError(
        f'epsilons {tuple(epsilons)} and sticky {sticky} must be in [0, 1]'
      )


def _piece_path(output: pathlib.Path, spec: play.Checkpoint) -> pathlib.Path:
  folder = output / _WORK / f'{spec.game}_run_{spec.run}'
  return folder / spec.file_name()


def _settings(specs: Sequence[play.Checkpoint]) -> list[dict]:
  """Returns the settings as JSON gives them back."""
  return json.loads(json.dumps([dataclasses.asdict(spec) for spec in specs]))


def _read_record(
  output: pathlib.Path, specs: Sequence[play.Checkpoint]
) -> list[SplitStats] | None:
  """Returns the statistics of a finished data set, None if there is none."""
  path = formats.data_set_path(
    output, specs[0].game, specs[0].run, formats.FRAMES
  )
  if not path.exists():
    return None
  try:
    record = json.loads((path / formats.RECORD).read_text())
  except FileNotFoundError:
    record = {}
  if record.get('settings') != _settings(specs):
    raise ValueError(
      f'{path} was made with other settings: remove it, or choose another '
      'output directory or run number'
    )
  return [SplitStats(**stats) for stats in record['splits']]


def _finish(
  output: pathlib.Path,
  specs: Sequence[play.Checkpoint],
  pieces: dict[play.Checkpoint, pathlib.Path],
) -> list[SplitStats]:
  """Turns a game's pieces into its data set and removes them."""
  work = pieces[specs[0]].parent
  stats, parts = [], []
  for spec in specs:
    played = play.load(pieces[spec])
    stats.append(_stats(spec, played))
    parts.append(Part(spec.game, spec.run, spec.checkpoint))
    writer.write_part(work / 'data', parts[-1], enumerate(played.episodes))
  record = {
    'source': 'played by a look-ahead search mixed with random decisions',
    'settings': _settings(specs),
    'splits': [dataclasses.asdict(split) for split in stats],
  }
  writer.finish_run(output, work / 'data', parts, record)
  shutil.rmtree(work)
  if not any(work.parent.iterdir()):
    work.parent.rmdir()
  return stats


def _stats(spec: play.Checkpoint, played: play.Played) -> SplitStats:
  returns = [
    float(episode.rewards.sum())
    for episode in played.episodes
    if episode.terminated
  ]
  return SplitStats(
    spec.game,
    spec.checkpoint,
    spec.epsilon,
    len(played.episodes),
    len(returns),
    sum(len(episode.actions) for episode in played.episodes),
    sum(returns) / len(returns) if returns else None,
    round(played.seconds, 3),
  )


def _play_all(
  pieces: dict[play.Checkpoint, pathlib.Path],
  num_processes: int | None,
  progress: bool,
) -> Iterator[play.Checkpoint]:
  """Plays what is missing; yields every checkpoint once its file is there."""
  missing = [spec for spec, path in pieces.items() if not path.exists()]
  for spec in pieces:
    if spec not in missing:
      logging.info('%s %s was played before', spec.game, spec.split)
      yield spec
  if not missing:
    return
  # The longest first, so that no process is left alone with it at the end.
  missing.sort(key=lambda spec: -spec.cost)
  context = multiprocessing.get_context('spawn')
  done, stop = context.SimpleQueue(), context.Event()
  workers = min(num_processes or os.cpu_count() or 1, len(missing))
  bar = _Progress(missing, progress)
  executor = futures.ProcessPoolExecutor(
    workers, context, initializer=_start_worker, initargs=(done, stop)
  )
  try:
    running = {
      executor.submit(_play_to_file, number, spec, pieces[spec]): spec
      for number, spec in enumerate(missing)
    }
    while running:
      finished, _ = futures.wait(
        running, timeout=0.2, return_when=futures.FIRST_COMPLETED
      )
      while not done.empty():
        bar.update(*done.get())
      for future in finished:
        future.result()
        yield running.pop(future)
  finally:
    stop.set()
    executor.shutdown(cancel_futures=True)
    bar.close()


# In a worker: the queue that progress goes to, and the event that ends it.
_reports = _stop = None


def _start_worker(reports, stop) -> None:
  """Prepares a process: it must not outlive the one that started it."""
  global _reports, _stop
  _reports, _stop = reports, stop
  # Ctrl-C reaches the whole group; the parent alone handles it.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  parent = multiprocessing.parent_process()

  def follow_parent():
    connection.wait([parent.sentinel])
    os._exit(1)

  threading.Thread(target=follow_parent, daemon=True).start()


def _play_to_file(
  number: int, spec: play.Checkpoint, path: pathlib.Path
) -> None:
  last = time.monotonic()

  def report(decisions: int) -> None:
    nonlocal last
    if time.monotonic() - last > 0.5:
      last = time.monotonic()
      _reports.put((number, decisions))
      if _stop.is_set():
        raise RuntimeError('The collection was stopped')

  _reports.put((number, 0))
  play.save(path, play.play(spec, report))
  _reports.put((number, spec.steps))


class _Progress:
  """One bar over all processes: what runs, and how long is left."""

  def __init__(self, specs: Sequence[play.Checkpoint], shown: bool):
    self._specs = specs
    self._done: dict[int, int] = {}
    self._start = time.monotonic()
    self._bar = tqdm.tqdm(
      total=sum(spec.steps for spec in specs),
      disable=not shown,
      desc='Collecting',
      bar_format=(
        '{desc} {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} decisions '
        '[{elapsed}{postfix}]'
      ),
    )

  def update(self, number: int, decisions: int) -> None:
    self._bar.update(decisions - self._done.get(number, 0))
    self._done[number] = decisions
    running = [
      f'{self._specs[i].game} {self._specs[i].split}'
      for i, done in self._done.items()
      if done < self._specs[i].steps
    ]
    self._bar.set_postfix_str(', '.join([self._time_left(), *running]))

  def _time_left(self) -> str:
    """Foretells by emulator steps: random decisions cost far fewer."""
    done = sum(
      self._specs[i].cost * decisions / self._specs[i].steps
      for i, decisions in self._done.items()
    )
    if not done:
      return 'time left unknown'
    total = sum(spec.cost for spec in self._specs)
    seconds = (time.monotonic() - self._start) * (total / done - 1)
    return f'{tqdm.tqdm.format_interval(seconds)} left'

  def close(self) -> None:
    self._bar.close()
