"""Reads Atari play from data sets of Minari, the standard of Farama's tools.

Minari's own library decodes them, whatever their storage. What a step of a data
set is, decides the environment that it names: its game, the frames that an
action is held for, and its set of actions.
"""

import contextlib
import dataclasses
import functools
import json
import logging
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from jowa_jax import games
from jowa_jax.data.episodes import DataError, RawEpisode, encode_png
from jowa_jax.data.source import Split
from jowa_jax.data.sources import minari_spaces
from jowa_jax.data.sources.minari_environment import (
  Environment,
  describe_environment,
)

METADATA = 'metadata.json'
# Of an episode's metadata: who of a run played it, where several did.
CHECKPOINT = 'checkpoint'
RUN_PREFIX = 'run_'
# Folders below the one given, of namespaces within namespaces.
_DEEPEST = 6
_REMEDY = 'download or make it again'


class MinariSet(NamedTuple):
  """One data set on disk."""

  path: pathlib.Path  # of its `data` folder
  name: str  # Minari's id, without the version
  version: int
  metadata: dict[str, Any]  # as its file has it
  environment: Environment


@dataclasses.dataclass(frozen=True)
class MinariSource:
  """A data set of Minari, or all below a folder, such as Minari's own.

  Of the versions of a data set the highest is read. A data set is a run of its
  game, numbered as its name says (`run_3`) or by the order of names; its
  episodes are of the checkpoint that their metadata say, else of checkpoint 0.

  An episode at a time is in memory: 100 kB a step of 210 x 160 in colour.

  Attributes:
    root: a local folder: of a data set, of a namespace, or of many.
  """

  whole_run: ClassVar[int | None] = None

  root: str

  def splits(self, game: str) -> list[Split]:
    """See `Source`."""
    games.check_game(game)
    _find.cache_clear()
    _checkpoints.cache_clear()
    splits = []
    for run, found in _runs(self.root, game).items():
      if found.environment.ends_with_lives:
        logging.warning(
          '%s: its episodes end with a life, so that none counts as one whose '
          'game was over',
          found.path,
        )
      splits += [
        Split(game, run, checkpoint)
        for checkpoint in sorted(set(_checkpoints(found.path)))
      ]
    return splits

  def doubts(self, split: Split) -> str:
    """See `Source`."""
    return ''

  def lengths(self, split: Split) -> list[int]:
    """See `Source`."""
    found = _runs(self.root, split.game)[split.run]
    with _reading(found.path):
      storage = _open(found)
      of_split = _places(found, split)
      stored = [
        int(metadata['total_steps'])
        for metadata in storage.get_episode_metadata(of_split)
      ]
    held = found.environment.steps_per_decision
    return [-(-steps // held) for steps in stored]

  def episodes(
    self, split: Split, chosen: Sequence[int]
  ) -> Iterator[RawEpisode]:
    """See `Source`."""
    found = _runs(self.root, split.game)[split.run]
    with _reading(found.path):
      storage = _open(found)
    places = _places(found, split)
    for number in chosen:
      with _reading(found.path):
        # One by one: many at once would be read ahead into memory.
        (episode,) = storage.get_episodes([places[number]])
      where = f'Episode {places[number]} of {found.path}'
      yield _convert(where, found, storage, episode)

  def files(self, split: Split) -> dict[str, int]:
    """See `Source`."""
    found = _runs(self.root, split.game)[split.run]
    folders = [found.path / str(place) for place in _places(found, split)]
    paths = [path for path in found.path.iterdir() if path.is_file()]
    for folder in folders:
      paths += folder.rglob('*') if folder.is_dir() else []
    return {
      str(path): path.stat().st_size for path in sorted(paths) if path.is_file()
    }


@contextlib.contextmanager
def _reading(path: pathlib.Path) -> Iterator[None]:
  """What the library makes of a damaged file is a DataError."""
  try:
    yield
  except (DataError, MemoryError):
    raise
  except ImportError as error:
    raise DataError(f'{path}: {error}') from error
  except Exception as error:  # it asserts, and passes on what decoders raise
    raise DataError(
      f'{path} is damaged, incomplete or no data set of Minari ({error!r}): '
      f'{_REMEDY}'
    ) from error


@functools.lru_cache(maxsize=8)
def _find(root: str) -> tuple[MinariSet, ...]:
  """The highest version of every data set at or below a folder, by name."""
  folder = pathlib.Path(root)
  if not folder.is_dir():
    raise DataError(
      f'{root} is no directory: give that of a data set of Minari, or one '
      'above; remote ones are downloaded first (minari download <id>)'
    )
  latest: dict[str, MinariSet] = {}
  for path in _data_folders(folder):
    found = _describe(path)
    other = latest.get(found.name)
    if other is not None and other.version == found.version:
      raise DataError(
        f'{root} has {found.name} twice, in {other.path} and {path}: give the '
        'directory of one'
      )
    if other is None or other.version < found.version:
      latest[found.name] = found
  return tuple(latest[name] for name in sorted(latest))


def _data_folders(
  folder: pathlib.Path, depth: int = _DEEPEST
) -> Iterator[pathlib.Path]:
  """The `data` folders at or below one, but for what is hidden."""
  if (folder / METADATA).is_file():
    # Others of this kind are in the making, by Minari's collector.
    if folder.name == 'data' or depth == _DEEPEST:
      yield folder
  elif depth:
    for below in sorted(folder.iterdir()):
      if below.is_dir() and not below.name.startswith('.'):
        yield from _data_folders(below, depth - 1)


def _describe(path: pathlib.Path) -> MinariSet:
  with _reading(path):
    metadata = json.loads((path / METADATA).read_text())
    # Of a data set in the making there is no id yet.
    name, _, version = str(metadata['dataset_id']).rpartition('-v')
    return MinariSet(
      path,
      name,
      int(version),
      metadata,
      describe_environment(str(path), name, metadata.get('env_spec')),
    )


def _runs(root: str, game: str) -> dict[int, MinariSet]:
  """The data sets of a game by number of run."""
  found = _find(root)
  of_game = [one for one in found if one.environment.game == game]
  if not of_game:
    listed = ', '.join(
      f'{one.name} ({one.environment.game or "no Atari game"})' for one in found
    )
    raise DataError(
      f'{root} has no data set of {game} (found: {listed or "none"}): download '
      'one (minari download <id>), or give the directory of one'
    )
  runs: dict[int, MinariSet] = {}
  for one in of_game:
    one.environment.check()
    number = one.name.rpartition('/')[2].removeprefix(RUN_PREFIX)
    if number.isdecimal() and int(number) not in runs:
      runs[int(number)] = one
  free = (number for number in range(1, 10**9) if number not in runs)
  runs |= {next(free): one for one in of_game if one not in runs.values()}
  return dict(sorted(runs.items()))


def _open(found: MinariSet) -> Any:
  """A data set's storage, once its spaces are as expected."""
  import minari
  from minari.dataset.minari_storage import MinariStorage

  made = found.metadata.get('minari_version')
  if made not in minari.supported_dataset_versions:
    raise DataError(
      f'{found.path} was made by Minari {made}, which Minari '
      f'{minari.__version__} does not read: pip install -U minari'
    )
  storage = MinariStorage.read(found.path)
  minari_spaces.check_observations(str(found.path), storage.observation_space)
  minari_spaces.minimal_actions(
    str(found.path), storage.action_space, found.environment.game
  )
  return storage


@functools.lru_cache(maxsize=64)
def _checkpoints(path: pathlib.Path) -> tuple[int, ...]:
  """The checkpoint of every episode of a data set."""
  found = _describe(path)
  with _reading(path):
    storage = _open(found)
    numbers = range(int(found.metadata['total_episodes']))
    if not numbers:
      raise DataError(f'{path} has no episodes: {_REMEDY}')
    return tuple(
      int(metadata.get(CHECKPOINT, 0))
      for metadata in storage.get_episode_metadata(numbers)
    )


def _places(found: MinariSet, split: Split) -> list[int]:
  """Minari's numbers of the episodes of a checkpoint."""
  return [
    place
    for place, checkpoint in enumerate(_checkpoints(found.path))
    if checkpoint == split.checkpoint
  ]


def _convert(
  where: str, found: MinariSet, storage: Any, episode: dict[str, Any]
) -> RawEpisode:
  """An episode of Minari in our alignment, a decision being four frames."""
  environment = found.environment
  frames = minari_spaces.grey_frames(where, episode['observations'])
  rewards = np.asarray(episode['rewards'], np.float64).reshape(-1)
  ends = np.asarray(episode['terminations'], bool).reshape(-1)
  length = len(rewards)
  actions = np.asarray(episode['actions']).reshape(-1)
  if not len(actions) == len(ends) == len(frames) - 1 == length:
    raise DataError(
      f'{where} has {len(frames)} observations, {len(actions)} actions, '
      f'{length} rewards and {len(ends)} terminations, where there is an '
      f'observation more than of the others: {_REMEDY}'
    )
  if ends[:-1].any():
    raise DataError(f'{where} goes on after a terminal state: {_REMEDY}')
  table = minari_spaces.minimal_actions(
    str(found.path), storage.action_space, environment.game
  )
  minimal = minari_spaces.as_minimal(where, actions, table, environment.game)
  held = environment.steps_per_decision
  firsts = np.arange(0, length, held)
  if held > 1 and length:
    if (minimal != np.repeat(minimal[firsts], held)[:length]).any():
      raise DataError(
        f'{where} has other actions within a decision: it was played at '
        f'{environment.frame_skip} frame(s) an action, and a decision here is '
        'of four frames'
      )
    rewards = np.add.reduceat(rewards, firsts)
  shown = [*firsts, length]
  if environment.joins_frames:
    # As ALE's preprocessing joins the last two frames of a decision.
    frames = [np.maximum(frames[t], frames[max(t - 1, 0)]) for t in shown]
  else:
    frames = [frames[t] for t in shown]
  return RawEpisode(
    frames=[encode_png(minari_spaces.shrink(frame)) for frame in frames],
    actions=minimal[firsts].astype(np.int32),
    rewards=rewards.astype(np.float32),
    terminated=bool(length and ends[-1] and not environment.ends_with_lives),
  )
