"""Plays recordings again: data sets without a policy, at emulator speed."""

import dataclasses
import functools
import os
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import ale_py

from jowa_jax import games as game_tables
from jowa_jax.collect import pieces, play, pool, recordings
from jowa_jax.data.episodes import DataError, RawEpisode
from jowa_jax.envs import ale


class ReplayError(DataError):
  """What was played again is not what was recorded."""


@dataclasses.dataclass(frozen=True, eq=False)
class Replay:
  """A recorded checkpoint and how much of it is played again."""

  recorded: recordings.Recorded
  steps: int  # decisions
  where: str  # the recording's name, for messages and records
  source: str  # what a data set's record says of where it is from

  @property
  def game(self) -> str:
    return self.recorded.game

  @property
  def run(self) -> int:
    return self.recorded.run

  @property
  def checkpoint(self) -> int:
    return self.recorded.checkpoint

  @property
  def epsilon(self) -> float:
    return self.recorded.settings['epsilon']

  @property
  def checkpoint_name(self) -> str:
    return f'checkpoint_{self.checkpoint:02d}'

  @property
  def cost(self) -> float:
    return self.steps

  def settings(self) -> dict[str, Any]:
    """How it was played, and how much of that is played again."""
    return {
      **self.recorded.settings,
      'recording': self.recorded.digest,
      'replayed_steps': self.steps,
    }

  def play(self, report: Callable[[int], None]) -> play.Played:
    """Plays the recorded actions again.

    An episode that `steps` cuts short is not verified: its score and last
    frame were not recorded.

    Raises:
      ReplayError: an episode ends otherwise than was recorded.
    """
    start = time.monotonic()
    some = self.recorded
    env = ale.AleEnv(self.game, some.emulator_seed, some.settings['sticky'])
    variant = game_tables.parse_variant(self.game)
    legal = game_tables.LEGAL_ACTIONS[variant.game]
    index = {action: row for row, action in enumerate(legal)}
    actions = [index[action] for action in some.actions[: self.steps].tolist()]
    episodes, done = [], 0
    for number, length in enumerate(some.lengths.tolist()):
      if done == self.steps:
        break
      limit = min(length, self.steps - done)
      recorded = iter(actions[done : done + limit])
      episode = play.play_episode(
        env,
        lambda env, first, recorded=recorded: next(recorded),
        limit,
        lambda t, before=done: report(before + t),
      )
      self._verify(number, episode, limit, limit == length)
      episodes.append(episode)
      done += limit
    return play.Played(episodes, time.monotonic() - start)

  def _verify(
    self, number: int, episode: RawEpisode, limit: int, whole: bool
  ) -> None:
    """Raises ReplayError if an episode is not the recorded one."""
    some = self.recorded
    pairs = [('decisions', len(episode.actions), limit)]
    if whole:
      pairs += [
        ('a game over', episode.terminated, bool(some.terminated[number])),
        ('a score', recordings.score(episode), int(some.scores[number])),
        (
          'a last frame of checksum',
          recordings.frame_checksum(episode),
          int(some.checksums[number]),
        ),
      ]
    for what, found, expected in pairs:
      if found != expected:
        raise ReplayError(
          f'{self.where}: {some.name}, episode {number} is not what was '
          f'recorded: {what}: expected {expected}, found {found}'
        )


def replay(
  names: str,
  output: str | os.PathLike | None = None,
  games: str | Sequence[str] = '',
  *,
  checkpoints: Sequence[int] = (),
  steps_per_checkpoint: int = 0,
  any_version: bool = False,
  num_processes: int | None = None,
  progress: bool = True,
) -> list[pieces.SplitStats]:
  """Plays recordings again and writes the data sets of the play recorded.

  They are what the collection wrote, or would have written, bit for bit, but
  for the record of their source. Every whole episode's score and last frame is
  verified; if one differs, no data set of that run is written. What is
  finished is not played again after a restart.

  Args:
    names: recordings as `recordings.find` takes them, separated by commas.
    output: the directory to write to; None verifies and writes nothing.
    games: restricts what is played, as `games.parse_games` takes it.
    checkpoints: restricts it to checkpoints of these numbers.
    steps_per_checkpoint: decisions of each after which it is cut off, 0 for
      all; the episode cut by it is not verified.
    any_version: whether to try recordings of another ale-py, too.
    num_processes: one per core if None.
    progress: whether to show a progress bar.

  Returns:
    The statistics of every split, as recorded in order.

  Raises:
    DataError: a recording is not there or cannot be played, or (`ReplayError`)
      an episode is not what was recorded.
    ValueError: an argument is out of range, or a data set of the same name
      was made with other settings.
  """
  if steps_per_checkpoint < 0:
    raise ValueError(
      f'replay.steps_per_checkpoint is {steps_per_checkpoint}, negative'
    )
  if num_processes is not None and num_processes < 1:
    raise ValueError(f'num_processes is {num_processes}, not positive')
  specs = _specs(names, steps_per_checkpoint, any_version)
  specs = _restrict(specs, games, checkpoints)
  each_done = functools.partial(
    pool.each_done,
    num_processes=num_processes,
    progress=progress,
    verb='Replaying',
  )
  if output is None:
    stats = dict(each_done(_verify_only, specs))
  else:
    stats = _write(pathlib.Path(output), specs, each_done)
  return [stats[spec] for spec in specs]


def _specs(names: str, cap: int, any_version: bool) -> list[Replay]:
  """All that the recordings hold."""
  specs, seen = [], {}
  for name, path in recordings.find(names).items():
    recording = recordings.load(path)
    if not any_version:
      recordings.check_version(recording, name)
    source = (
      f'replayed with ale-py {ale_py.__version__} from the recording '
      f'{os.path.basename(name)} of ale-py {recording.ale_py}, digest '
      f'{recording.digest}'
    )
    for some in recording.checkpoints:
      if seen.setdefault(some.name, name) != name:
        raise DataError(f'{some.name} is in {seen[some.name]} and in {name}')
      steps = min(cap or len(some.actions), len(some.actions))
      specs.append(Replay(some, steps, name, source))
  return specs


def _restrict(
  specs: Sequence[Replay], games: str | Sequence[str], checkpoints
) -> list[Replay]:
  """Leaves out other games and checkpoints; DataError for one not there."""
  wanted = game_tables.parse_games(games, variants=True) if games else ()
  asked = (
    ('game', wanted, {spec.game for spec in specs}),
    ('checkpoint', tuple(checkpoints), {spec.checkpoint for spec in specs}),
  )
  for what, named, there in asked:
    missing = [str(name) for name in named if name not in there]
    if missing:
      raise DataError(
        f'The {what} {", ".join(missing)} is not recorded, only '
        f'{", ".join(map(str, sorted(there)))}'
      )
  left = [
    spec
    for spec in specs
    if (not wanted or spec.game in wanted)
    and (not checkpoints or spec.checkpoint in checkpoints)
  ]
  for game in wanted:
    if all(spec.game != game for spec in left):
      named = ', '.join(map(str, checkpoints))
      raise DataError(f'{game}: no checkpoint {named} is recorded of it')
  return left


def _write(
  output: pathlib.Path, specs: Sequence[Replay], each_done: Callable
) -> dict[Replay, pieces.SplitStats]:
  """Replays runs into an output, which this process holds."""
  runs: dict[tuple[str, int], list[Replay]] = {}
  for spec in specs:
    runs.setdefault((spec.game, spec.run), []).append(spec)
  was_there = output.exists()
  try:
    with pieces.owned(output, runs.values()):
      return _write_runs(output, list(runs.values()), each_done)
  except ReplayError:
    if not was_there and not any(output.iterdir()):
      output.rmdir()
    raise


def _write_runs(
  output: pathlib.Path, runs: Sequence[Sequence[Replay]], each_done: Callable
) -> dict[Replay, pieces.SplitStats]:
  """Replays what has no data sets yet, and removes all of it if it differs."""
  stats, unfinished = {}, []
  for run in runs:
    finished = pieces.read_finished(output, run)
    if finished is None:
      unfinished.append(run)
    else:
      stats.update(zip(run, finished, strict=True))
  todo = [spec for run in unfinished for spec in run]

  def played():
    kept = [spec for spec in todo if pieces.path_of(output, spec).exists()]
    yield from kept
    missing = [spec for spec in todo if spec not in kept]
    work = functools.partial(_to_file, output)
    for spec, _ in each_done(work, missing):
      yield spec

  try:
    stats |= pieces.finish_runs(
      output, unfinished, played(), lambda spec: spec.source
    )
  except ReplayError:
    pieces.remove(output, todo)
    raise
  return stats


def _to_file(
  output: pathlib.Path, spec: Replay, report: Callable[[int], None]
) -> None:
  play.save(pieces.path_of(output, spec), spec.play(report))


def _verify_only(
  spec: Replay, report: Callable[[int], None]
) -> pieces.SplitStats:
  return pieces.stats_of(spec, spec.play(report))
