"""Collects real play of Atari games as RLDS data sets, in many processes."""

import contextlib
import functools
import logging
import os
import pathlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jowa_jax import games as game_tables
from jowa_jax import ownership
from jowa_jax.collect import pieces, play, policies, pool, recordings
from jowa_jax.collect.networks import NetworkFile
from jowa_jax.collect.pieces import SplitStats
from jowa_jax.collect.replay import replay
from jowa_jax.configuration import build

_SEARCHED = 'played by a look-ahead search mixed with random decisions'
_BY_NETWORKS = 'played by networks mixed with random decisions'


def collect(
  output: str | os.PathLike | None,
  games: str | Sequence[str],
  epsilons: Sequence[float],
  steps_per_checkpoint: int,
  seed: int = 0,
  num_processes: int | None = None,
  progress: bool = True,
  *,
  run: int = 1,
  sticky: float = 0.0,
  search: policies.LookaheadConfig | None = None,
  max_episode_steps: int = 0,
  record: str | os.PathLike | None = None,
  players: str | os.PathLike | None = None,
) -> list[SplitStats]:
  """Plays every game at every epsilon and writes one data set per game.

  A data set `<output>/jowa_atari/<Game>_run_<run>/1.0.0` has the layout of
  TFDS's `rlu_atari_checkpoints_ordered`, with the split `checkpoint_<i>` for
  the i-th epsilon; `jowa_atari_frames` beside it holds the same play for
  training. What is finished is not played again after a restart.

  Args:
    output: the directory to write to; None writes the recording alone.
    games: games, variants or lists of them, as `games.parse_games` takes
      them; a variant's play is its game's, of the same name.
    epsilons: the share of random decisions of each checkpoint, poor to good.
    steps_per_checkpoint: decisions played for each.
    seed: equal seeds give equal data sets, however many processes play.
    num_processes: one per core if None.
    progress: whether to show a progress bar.
    run: the number in the data set's name; runs differ in their play.
    sticky: the sticky-action chance; DQN-Replay was made with 0.25.
    search: the look-ahead teacher's settings, its defaults if None.
    max_episode_steps: decisions after which an episode is cut off, so that
      the play has many beginnings; 0 leaves that to the emulator.
    record: the file to record the play in, if any (see `recordings`).
    players: directory of the networks `<Game>/*.npz` that play instead of the
      search (see `networks`), one for each epsilon, in the order of names,
      or one for all.

  Returns:
    The statistics of every split, games in the order given.

  Raises:
    ValueError: an argument is out of range, there is neither one network nor
      one for each epsilon, or a data set of the same name was made with other
      settings.
    DataError: a file of `players` is no network of the game.
    FileExistsError: there is a recording of the same name, of other play.
    InUseError: another process plays one of them for the same output.
  """
  names = game_tables.parse_games(games, variants=True)
  _check_names(names)
  _check_arguments(
    epsilons, steps_per_checkpoint, sticky, num_processes, max_episode_steps
  )
  if output is None and record is None:
    raise ValueError('Nothing would be written: give an output or a recording')
  search = search or policies.LookaheadConfig()
  runs = [
    [
      play.Checkpoint(
        *(name, run, checkpoint, float(epsilon), steps_per_checkpoint),
        *(seed, float(sticky), search, max_episode_steps, network),
      )
      for checkpoint, (epsilon, network) in enumerate(
        zip(epsilons, _networks(players, name, len(epsilons)), strict=True)
      )
    ]
    for name in names
  ]
  output = None if output is None else pathlib.Path(output)
  record = None if record is None else pathlib.Path(record)
  with contextlib.ExitStack() as stack:
    if output:
      stack.enter_context(pieces.owned(output, runs))
    if record:
      stack.enter_context(ownership.owned(_recorded_pieces(record) / '.owner'))
    return _collect(output, record, runs, num_processes, progress)


def _collect(
  output: pathlib.Path | None,
  record: pathlib.Path | None,
  runs: Sequence[Sequence[play.Checkpoint]],
  num_processes: int | None,
  progress: bool,
) -> list[SplitStats]:
  """Plays what is neither finished nor waiting; returns how all went."""
  specs = [spec for some in runs for spec in some]
  stats: dict[play.Checkpoint, SplitStats] = {}
  unfinished = []
  for some in runs if output else ():
    finished = pieces.read_finished(output, some)
    if finished is None:
      unfinished.append(some)
    else:
      stats.update(zip(some, finished, strict=True))
  kept = {
    spec: pieces.path_of(output, spec) for some in unfinished for spec in some
  }
  recording = record and _read_recording(record, specs)
  if not record or recording:
    recorded = {}
  else:
    recorded = {spec: _recorded_piece(record, spec) for spec in specs}

  def played():
    missing = []
    for spec in specs:
      paths = [at[spec] for at in (kept, recorded) if spec in at]
      if not all(path.exists() for path in paths):
        missing.append(spec)
      elif paths:
        logging.info('%s %s was played before', spec.game, spec.checkpoint_name)
        yield spec
    work = functools.partial(_play_to_files, kept, recorded)
    for spec, _ in pool.each_done(work, missing, num_processes, progress):
      yield spec

  stats |= pieces.finish_runs(
    *(output, unfinished, played()),
    lambda spec: _BY_NETWORKS if spec.network else _SEARCHED,
  )
  if record:
    if not recording:
      paths = list(recorded.values())
      recording = recordings.merge([recordings.load(path) for path in paths])
      recordings.write(record, recording)
    shutil.rmtree(_recorded_pieces(record), ignore_errors=True)
    for spec, some in zip(specs, recording.checkpoints, strict=True):
      stats.setdefault(spec, pieces.stats_of_recorded(some))
  return [stats[spec] for spec in specs]


def _play_to_files(
  kept: Mapping[play.Checkpoint, pathlib.Path],
  recorded: Mapping[play.Checkpoint, pathlib.Path],
  spec: play.Checkpoint,
  report: Callable[[int], None],
) -> None:
  """Plays a checkpoint and keeps it where it is wanted."""
  piece = kept.get(spec)
  # If it is there, what was recorded of it is not.
  if piece and piece.exists():
    played = play.load(piece)
  else:
    played = play.play(spec, report)
    if piece:
      play.save(piece, played)
  if spec in recorded:
    recording = recordings.of_now([recordings.of_played(spec, played)])
    recordings.write(recorded[spec], recording)


def collect_from_config(
  config: Mapping[str, Any],
  output: str | os.PathLike | None,
  progress: bool = True,
  record: str | os.PathLike | None = None,
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
    search=build(policies.LookaheadConfig, config['search'], 'search'),
    max_episode_steps=config['max_episode_steps'],
    record=record,
    players=config['players'] or None,
  )


def replay_from_config(
  config: Mapping[str, Any],
  names: str,
  output: str | os.PathLike | None,
  games: str = '',
  progress: bool = True,
) -> list[SplitStats]:
  """Calls `replay` as the section `replay` of a config says.

  Of the rest of the config, `num_processes` alone counts.
  """
  return replay(
    names,
    output,
    games,
    num_processes=config['num_processes'] or None,
    progress=progress,
    **config['replay'],
  )


def _networks(
  players: str | os.PathLike | None, game: str, count: int
) -> list[NetworkFile | None]:
  """Who plays the checkpoints of a game, None where the search does."""
  if not players:
    return [None] * count
  folder = pathlib.Path(players, game_tables.parse_variant(game).game)
  found = sorted(folder.glob('*.npz'))
  if len(found) == 1:
    found *= count
  if len(found) != count:
    raise ValueError(
      f'{folder} holds {len(found)} networks (*.npz) for {count} epsilons: '
      'keep one, which plays with every epsilon, give one epsilon for each '
      '(--config.epsilons), or train others (launch.train_player, '
      'launch.distill_player)'
    )
  return [NetworkFile.of(path, game) for path in found]


def _check_names(names: Sequence[str]) -> None:
  """Raises ValueError if two of them would be the same run of a game."""
  by_game: dict[str, str] = {}
  for name in names:
    game = game_tables.parse_variant(name).game
    if (other := by_game.setdefault(game, name)) != name:
      raise ValueError(
        f'{other} and {name} would both be a run of {game} of the same number: '
        'collect one after the other, with another run (--config.run)'
      )


def _check_arguments(
  epsilons, steps, sticky, num_processes, max_episode_steps
) -> None:
  if not epsilons:
    raise ValueError('epsilons is empty: give one per checkpoint')
  if steps < 1:
    raise ValueError(f'steps_per_checkpoint is {steps}, not positive')
  if max_episode_steps < 0:
    raise ValueError(
      f'max_episode_steps is {max_episode_steps}: give 0 for no limit'
    )
  if num_processes is not None and num_processes < 1:
    raise ValueError(f'num_processes is {num_processes}, not positive')
  for chance in (*epsilons, sticky):
    if not 0 <= chance <= 1:
      raise ValueError(
        f'epsilons {tuple(epsilons)} and sticky {sticky} must be in [0, 1]'
      )


def _recorded_piece(
  record: pathlib.Path, spec: play.Checkpoint
) -> pathlib.Path:
  """Where a checkpoint waits until all of a recording are there."""
  name = f'{spec.game}_run_{spec.run}-{pieces.file_name(spec)}'
  return _recorded_pieces(record) / name


def _recorded_pieces(record: pathlib.Path) -> pathlib.Path:
  return record.with_name(f'.{record.name}.pieces')


def _read_recording(
  record: pathlib.Path, specs: Sequence[play.Checkpoint]
) -> recordings.Recording | None:
  """A finished recording, None if there is none."""
  if not record.exists():
    return None
  recording = recordings.load(record)
  found = [dict(some.settings) for some in recording.checkpoints]
  if found != [spec.settings() for spec in specs]:
    raise FileExistsError(
      f'{record}: is there already, with play of other settings; give another '
      'name, or remove it first'
    )
  recordings.check_version(recording, str(record))
  return recording
