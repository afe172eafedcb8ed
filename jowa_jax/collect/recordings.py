"""Recorded play: what gives episodes back, a byte or less for a decision.

The emulator is deterministic, so that the actions are all that must be kept.
A recording is one compressed `.npz` file without pickles: `contents`, JSON in
bytes, which lists checkpoints of one or more games and how they were played,
and columns that hold the episodes of all of them, one after the other. Those
are the actions as ale-py numbers them (the shared vocabulary of 18), and of
each episode its length, whether it ended in game over, its score and a
checksum of its last frame, by which a replay is verified.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import zlib
from collections.abc import Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import ale_py
import cv2
import numpy as np

from jowa_jax import archives, files, games
from jowa_jax.collect import play
from jowa_jax.data.episodes import DataError, RawEpisode
from jowa_jax.data.places import locate
from jowa_jax.data.play_stats import PlayStats

FORMAT = 'jowa_jax recorded play'
FORMAT_VERSION = 1
# The columns, and of what type they are in a file: [T] actions, [E] the rest.
_COLUMNS = {
  'actions': np.uint8,
  'lengths': np.int32,
  'terminated': np.bool_,
  'scores': np.int64,
  'checksums': np.uint32,
}
# What every checkpoint's settings say, whoever played it.
_SETTINGS = {
  'game': str,
  'run': int,
  'checkpoint': int,
  'epsilon': int | float,
  'sticky': int | float,
}


@dataclasses.dataclass(frozen=True, eq=False)
class Recorded:
  """The play of one checkpoint of one game, of E episodes and T decisions.

  With sticky actions the emulator rolls dice that run on from one episode to
  the next: then the episodes must be all that one emulator played, in order.
  """

  # The fields of `play.Checkpoint`, of which the game, run, checkpoint,
  # epsilon and sticky are read; the others say how it was played.
  settings: Mapping[str, Any]
  emulator_seed: int
  seconds: float  # that playing took one process
  actions: np.ndarray  # [T] uint8, in the shared 18-action vocabulary
  lengths: np.ndarray  # [E] int32, decisions
  terminated: np.ndarray  # [E] bool: the game was over, not cut off
  scores: np.ndarray  # [E] int64, unclipped
  checksums: np.ndarray  # [E] uint32, of the last frame that is kept

  @property
  def game(self) -> str:
    return self.settings['game']

  @property
  def run(self) -> int:
    return self.settings['run']

  @property
  def checkpoint(self) -> int:
    return self.settings['checkpoint']

  @property
  def name(self) -> str:
    return f'{self.game}, run {self.run}, checkpoint {self.checkpoint}'

  @property
  def digest(self) -> str:
    """What identifies the play: 32 hexadecimal digits."""
    state = hashlib.blake2b(digest_size=16)
    settings = [dict(self.settings), self.emulator_seed]
    state.update(json.dumps(settings, sort_keys=True).encode())
    for name, dtype in _COLUMNS.items():
      state.update(np.ascontiguousarray(getattr(self, name), dtype))
    return state.hexdigest()

  @property
  def stats(self) -> PlayStats:
    """How the play went, unclipped."""
    return PlayStats.of(self.lengths, self.scores, self.terminated)


@dataclasses.dataclass(frozen=True, eq=False)
class Recording:
  """Checkpoints that were played with one version of ale-py."""

  ale_py: str
  checkpoints: tuple[Recorded, ...]

  @property
  def games(self) -> tuple[str, ...]:
    """The games, in the order in which they are first met."""
    return tuple(dict.fromkeys(some.game for some in self.checkpoints))

  @property
  def digest(self) -> str:
    """What identifies the play: 32 hexadecimal digits."""
    state = hashlib.blake2b(self.ale_py.encode(), digest_size=16)
    for some in self.checkpoints:
      state.update(some.digest.encode())
    return state.hexdigest()


def frame_checksum(episode: RawEpisode) -> int:
  """The CRC-32 of the pixels of the last frame of an episode.

  Of one that ended in game over it is the frame after the last action; of one
  that was cut off, the frame on which the last action was decided.
  """
  png = np.frombuffer(episode.frames[-1], np.uint8)
  return zlib.crc32(cv2.imdecode(png, cv2.IMREAD_GRAYSCALE).tobytes())


def score(episode: RawEpisode) -> int:
  """The unclipped score of an episode."""
  return int(episode.rewards.sum(dtype=np.float64))


def of_played(spec: play.Checkpoint, played: play.Played) -> Recorded:
  """The recording of a checkpoint that `play.play(spec)` played."""
  episodes = played.episodes
  game = games.parse_variant(spec.game).game
  legal = np.array(games.LEGAL_ACTIONS[game], np.uint8)
  return Recorded(
    settings=spec.settings(),
    emulator_seed=play.emulator_seed(spec),
    seconds=round(played.seconds, 3),
    actions=legal[np.concatenate([episode.actions for episode in episodes])],
    lengths=np.array([len(episode.actions) for episode in episodes], np.int32),
    terminated=np.array([episode.terminated for episode in episodes], bool),
    scores=np.array([score(episode) for episode in episodes], np.int64),
    checksums=np.array(
      [frame_checksum(episode) for episode in episodes], np.uint32
    ),
  )


def of_now(checkpoints: Sequence[Recorded]) -> Recording:
  """What was played just now, with the ale-py that is installed."""
  return Recording(ale_py.__version__, tuple(checkpoints))


def merge(recordings: Sequence[Recording]) -> Recording:
  """Joins recordings, of several games or of several teachers, in order.

  Raises:
    DataError: they are of different versions of ale-py, or a checkpoint of
      a run of a game is there twice.
  """
  versions = sorted({recording.ale_py for recording in recordings})
  if len(versions) != 1:
    raise DataError(
      f'Recordings of ale-py {" and ".join(versions)} cannot be joined: '
      'record all of them with one version'
    )
  joined = tuple(
    some for recording in recordings for some in recording.checkpoints
  )
  merged = Recording(versions[0], joined)
  _check(merged, 'The joined recordings')
  return merged


def write(path: str | os.PathLike, recording: Recording) -> None:
  """Writes a recording, whole; one of the same name is replaced.

  Raises:
    DataError: it is not what `load` would take.
    OSError: the disk is full or cannot be written.
  """
  _check(recording, 'The recording')
  contents = {
    'format': FORMAT,
    'version': FORMAT_VERSION,
    'ale_py': recording.ale_py,
    'checkpoints': [
      {
        'settings': dict(some.settings),
        'emulator_seed': some.emulator_seed,
        'seconds': some.seconds,
        'episodes': some.stats.episodes,
        'steps': some.stats.steps,
        'mean_return': some.stats.mean_return,
      }
      for some in recording.checkpoints
    ],
  }
  columns = {
    name: np.concatenate(
      [getattr(some, name) for some in recording.checkpoints], dtype=dtype
    )
    for name, dtype in _COLUMNS.items()
  }
  archives.write(path, contents, columns)


def load(path: str | os.PathLike | Traversable) -> Recording:
  """Reads a recording and checks that it can be played.

  Raises:
    DataError: it is not there, cut short, damaged, no recording, of an unknown
      game, or has an action that is not legal; the message names the file.
  """
  if not isinstance(path, Traversable):
    path = pathlib.Path(path)
  try:
    data = path.read_bytes()
  except FileNotFoundError as error:
    raise DataError(f'{path}: there is no such recording') from error
  try:
    contents, arrays = archives.parse(data)
    found = contents['format'], contents['version']
  except (ValueError, KeyError) as error:
    raise DataError(
      f'{path} is no recording, or one that was cut short or damaged: get it '
      'again'
    ) from error
  if found != (FORMAT, FORMAT_VERSION):
    raise DataError(
      f'{path} is of format {found[0]!r}, version {found[1]}, not '
      f'{FORMAT!r}, version {FORMAT_VERSION}'
    )
  try:
    recording = _assemble(contents, arrays)
  except (KeyError, IndexError, ValueError, TypeError) as error:
    raise DataError(
      f'{path} is damaged: its arrays do not fit its contents; get it again'
    ) from error
  _check(recording, str(path))
  return recording


def _assemble(
  contents: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> Recording:
  """Cuts the columns of a file into checkpoints; ValueError if they misfit."""
  if {name: column.dtype for name, column in arrays.items()} != _COLUMNS:
    raise ValueError('other columns')
  described = contents['checkpoints']
  stops = {
    name: np.cumsum(
      [some['steps' if name == 'actions' else 'episodes'] for some in described]
    )
    for name in _COLUMNS
  }
  for name, column in arrays.items():
    if column.shape != (stops[name][-1],):
      raise ValueError(f'{name} of shape {column.shape}')
  cut = {
    name: np.split(column, stops[name][:-1]) for name, column in arrays.items()
  }
  checkpoints = tuple(
    Recorded(
      settings=dict(some['settings']),
      emulator_seed=int(some['emulator_seed']),
      seconds=float(some['seconds']),
      **{name: cut[name][row] for name in _COLUMNS},
    )
    for row, some in enumerate(described)
  )
  return Recording(str(contents['ale_py']), checkpoints)


def _check(recording: Recording, where: str) -> None:
  """Raises DataError, beginning with `where`, if it cannot be played."""
  if not recording.checkpoints:
    raise DataError(f'{where}: there are no checkpoints in it')
  seen = set()
  for some in recording.checkpoints:
    for name, kind in _SETTINGS.items():
      if not isinstance(some.settings.get(name), kind):
        raise DataError(
          f'{where}: the setting {name} of a checkpoint is '
          f'{some.settings.get(name)!r}'
        )
    if some.name in seen:
      raise DataError(f'{where}: {some.name} is there twice')
    seen.add(some.name)
    _check_play(some, where)


def _check_play(some: Recorded, where: str) -> None:
  """Raises DataError if a checkpoint's columns cannot be."""
  try:
    legal = games.LEGAL_ACTIONS[games.parse_variant(some.game).game]
  except ValueError as error:
    raise DataError(f'{where}: {error}') from error
  where = f'{where}: {some.name}'
  count = len(some.lengths)
  columns = (some.terminated, some.scores, some.checksums)
  if not count or any(len(column) != count for column in columns):
    raise DataError(f'{where} has columns of different lengths, or no episodes')
  if some.lengths.min() < 1 or some.lengths.sum() != len(some.actions):
    raise DataError(
      f'{where} has {len(some.actions)} actions for episodes of '
      f'{some.lengths.sum()} decisions: was it cut short?'
    )
  wrong = ~np.isin(some.actions, legal)
  if wrong.any():
    place = int(np.argmax(wrong))
    episode, step = locate(np.cumsum(some.lengths), place)
    raise DataError(
      f'{where}, episode {episode}: the action {some.actions[place]} of '
      f'decision {step} is not legal in {some.game}, which has {legal}'
    )


def check_version(recording: Recording, where: str) -> None:
  """Raises DataError if another ale-py than this one played a recording."""
  if recording.ale_py != ale_py.__version__:
    raise DataError(
      f'{where} was recorded with ale-py {recording.ale_py}, and '
      f'{ale_py.__version__} is installed: pip install '
      f'ale-py=={recording.ale_py}, or try with --config.replay.any_version, '
      'which still checks scores and last frames'
    )


def packaged() -> dict[str, Traversable]:
  """The recordings that the package ships, by name."""
  folder = resources.files('jowa_jax') / 'recordings'
  if not folder.is_dir():
    return {}
  return {
    file.name.removesuffix('.npz'): file
    for file in sorted(folder.iterdir(), key=lambda file: file.name)
    if file.name.endswith('.npz')
  }


def find(names: str) -> dict[str, pathlib.Path | Traversable]:
  """Recordings by name: of files, and of games that are shipped.

  Args:
    names: names separated by commas.

  Raises:
    DataError: there is no such recording; the message says which are shipped.
  """
  shipped, found = packaged(), {}
  for name in filter(None, (name.strip() for name in names.split(','))):
    if name in shipped:
      found[name] = shipped[name]
    elif (path := pathlib.Path(files.typed_path(name))).is_file():
      found[name] = path
    else:
      raise DataError(
        f'There is no recording {name!r}: give a file, or one of those that '
        f'are shipped ({", ".join(shipped) or "none"})'
      )
  if not found:
    raise DataError('No recording is named')
  return found
