"""Played checkpoints on disk, until those of a run become its data sets."""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence

import ale_py

from jowa_jax import games, ownership
from jowa_jax.collect import play, recordings
from jowa_jax.collect.pool import Spec
from jowa_jax.data.play_stats import PlayStats
from jowa_jax.data.source import Split
from jowa_jax.data.store import formats, writer

# Where finished checkpoints wait until their run is complete.
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


def file_name(spec: Spec) -> str:
  """A name that other settings do not share, nor other emulators."""
  # What another version of ale-py played before an interruption is no part.
  settings = json.dumps([spec.settings(), ale_py.__version__], sort_keys=True)
  digest = hashlib.sha256(settings.encode()).hexdigest()[:12]
  return f'{spec.checkpoint_name}-{digest}.npz'


def path_of(output: pathlib.Path, spec: Spec) -> pathlib.Path:
  """Where a checkpoint's play waits."""
  return _run_folder(output, spec) / file_name(spec)


@contextlib.contextmanager
def owned(
  output: pathlib.Path, runs: Iterable[Sequence[Spec]]
) -> Iterator[None]:
  """Holds what becomes data sets of runs: one process plays each.

  Raises:
    InUseError: another process plays one of them.
  """
  try:
    with contextlib.ExitStack() as stack:
      for specs in runs:
        folder = _run_folder(output, specs[0])
        lock = folder.with_name(f'.{folder.name}.owner')
        stack.enter_context(ownership.owned(lock))
      yield
  finally:
    _remove_if_empty(output / _WORK)


def _game_of(spec: Spec) -> str:
  """The game whose play it becomes: of a variant, the one it is of."""
  return games.parse_variant(spec.game).game


def _run_folder(output: pathlib.Path, spec: Spec) -> pathlib.Path:
  return output / _WORK / f'{_game_of(spec)}_run_{spec.run}'


def read_finished(
  output: pathlib.Path, specs: Sequence[Spec]
) -> list[SplitStats] | None:
  """The statistics of a run's data sets, None if there are none.

  Raises:
    ValueError: they were made with other settings.
  """
  path = formats.data_set_path(
    output, _game_of(specs[0]), specs[0].run, formats.FRAMES
  )
  if not path.exists():
    return None
  try:
    record = json.loads((path / formats.RECORD).read_text())
  except FileNotFoundError:
    record = {}
  if record.get('settings') != [spec.settings() for spec in specs]:
    raise ValueError(
      f'{path} was made with other settings: remove it, or choose another '
      'output directory or run number'
    )
  return [SplitStats(**stats) for stats in record['splits']]


def finish_runs(
  output: pathlib.Path,
  runs: Iterable[Sequence[Spec]],
  played: Iterable[Spec],
  source: Callable[[Spec], str],
) -> dict[Spec, SplitStats]:
  """Makes each run's data sets as soon as all its checkpoints are there.

  Args:
    output: where the data sets go, and where the pieces wait.
    runs: the checkpoints of each run that has no data sets yet.
    played: checkpoints as their pieces appear.
    source: from a run's first checkpoint to what the record says of where
      it is from.

  Returns:
    How it went.
  """
  run_of = {spec: specs for specs in runs for spec in specs}
  missing, stats = set(run_of), {}
  for spec in played:
    missing.discard(spec)
    specs = run_of.get(spec, ())
    if specs and missing.isdisjoint(specs):
      finished = _finish(output, specs, source(specs[0]))
      stats.update(zip(specs, finished, strict=True))
  return stats


def _finish(
  output: pathlib.Path, specs: Sequence[Spec], source: str
) -> list[SplitStats]:
  """Turns a run's pieces into its data sets and removes them."""
  work = _run_folder(output, specs[0])
  stats, splits = [], []
  for spec in specs:
    played = play.load(path_of(output, spec))
    stats.append(stats_of(spec, played))
    splits.append(Split(_game_of(spec), spec.run, spec.checkpoint))
    writer.write_split(work / 'data', splits[-1], enumerate(played.episodes))
  record = {
    'source': source,
    'settings': [spec.settings() for spec in specs],
    'splits': [dataclasses.asdict(split) for split in stats],
  }
  writer.finish_run(output, work / 'data', splits, record)
  shutil.rmtree(work)
  _remove_if_empty(work.parent)
  return stats


def remove(output: pathlib.Path, specs: Iterable[Spec]) -> None:
  """Removes the pieces of these checkpoints, and no others."""
  for spec in specs:
    path_of(output, spec).unlink(missing_ok=True)
    _remove_if_empty(_run_folder(output, spec))
  _remove_if_empty(output / _WORK)


def _remove_if_empty(folder: pathlib.Path) -> None:
  if folder.exists() and not any(folder.iterdir()):
    folder.rmdir()


def stats_of(spec: Spec, played: play.Played) -> SplitStats:
  """How the play of a checkpoint went."""
  stats = PlayStats.of(
    [len(episode.actions) for episode in played.episodes],
    [float(episode.rewards.sum()) for episode in played.episodes],
    [episode.terminated for episode in played.episodes],
  )
  return SplitStats(
    game=spec.game,
    checkpoint=spec.checkpoint,
    epsilon=spec.epsilon,
    seconds=round(played.seconds, 3),
    **stats._asdict(),
  )


def stats_of_recorded(some: recordings.Recorded) -> SplitStats:
  """How the play of a recorded checkpoint went."""
  return SplitStats(
    game=some.game,
    checkpoint=some.checkpoint,
    epsilon=some.settings['epsilon'],
    seconds=some.seconds,
    **some.stats._asdict(),
  )
