"""Episodes on disk, read by random access: what `writer` wrote.

Nothing but the table of episodes is held in memory: actions and rewards are
memory-mapped, frames are read by chunks from array_record files. TensorFlow is
not imported: TFDS reads these files without it.
"""

import functools
import json
import os
import pathlib
import re
import resource
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jowa_jax import games as game_tables
from jowa_jax.data.episodes import DataError, Episode
from jowa_jax.data.store import examples, formats, mapped

_RUN = re.compile(r'(?P<game>[A-Za-z]+)_run_(?P<run>\d+)')
_REMEDY = 'prepare or collect the data again'


class StoredRun:
  """The data set of one run of one game, open for reading."""

  def __init__(self, path: pathlib.Path, game: str, run: int):
    """Opens it; frames are not touched until they are asked for.

    Args:
      path: of the data set of kind `formats.FRAMES`.
      game: a name in `games.GAMES`.
      run: the run's number.

    Raises:
      DataError: a file is missing or damaged.
    """
    self.path, self.game, self.run = path, game, run
    self.record = self._read_record()
    if not {'parts', 'columns'} <= set(self.record):
      raise DataError(
        f'{path / formats.RECORD} does not say what is there: {_REMEDY}'
      )
    self.missing = tuple(self.record.get('missing', ()))
    self.table = self._load('episodes')
    self.actions = self._load('actions')
    self.rewards = self._load('rewards')
    lengths = self.table['length'].astype(np.int64)
    self.first_step = np.cumsum(lengths) - lengths
    chunks = -(-lengths // formats.CHUNK)
    self.first_chunk = np.cumsum(chunks) - chunks

  def _read_record(self) -> dict[str, Any]:
    path = self.path / formats.RECORD
    try:
      return json.loads(path.read_text())
    except (OSError, ValueError) as error:
      raise DataError(f'{path} cannot be read ({error}): {_REMEDY}') from error

  def _load(self, name: str) -> np.ndarray:
    path = self.path / f'{name}.npy'
    try:
      array = mapped.open_array(path)
    except (OSError, ValueError, EOFError) as error:
      raise DataError(f'{path} cannot be read ({error}): {_REMEDY}') from error
    if formats.checksum(array) != self.record['columns'].get(name):
      raise DataError(f'{path} is not what was written: {_REMEDY}')
    mapped.release_pages()
    return array

  @functools.cached_property
  def _chunks(self) -> Any:
    """The source of chunks of frames, over all checkpoints."""
    import tensorflow_datasets as tfds

    try:
      builder = tfds.builder_from_directory(self.path)
      _allow_open_files()
      splits = sorted(builder.info.splits, key=_checkpoint)
      source = builder.as_data_source(
        split='+'.join(splits),
        deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES,
      )
    except Exception as error:
      raise DataError(
        f'{self.path} is not a complete TFDS data set ({error}): {_REMEDY}'
      ) from error
    expected = int(-(-self.table['length'].astype(int) // formats.CHUNK).sum())
    if len(source) != expected:
      raise DataError(
        f'{self.path} has {len(source)} chunks of frames instead of '
        f'{expected}: {_REMEDY}'
      )
    return source

  def chunk(self, place: int) -> Sequence[bytes]:
    """The frames of a chunk as PNG files.

    Raises:
      DataError: they cannot be read.
    """
    try:
      return examples.bytes_of(self._chunks[place], 'frames')
    except DataError:
      raise
    except Exception as error:  # whatever a damaged record makes of itself
      raise DataError(
        f'Chunk {place} of the frames in {self.path} is damaged ({error}): '
        f'{_REMEDY}'
      ) from error

  def close_frames(self) -> None:
    """Closes the files of frames, some 45 bytes a chunk of memory."""
    self.__dict__.pop('_chunks', None)

  def episodes(self, first_id: int, checkpoints=None) -> Iterator[Episode]:
    """Yields the episodes, numbered from `first_id`, by checkpoint."""
    task = game_tables.task_id(self.game)
    for place, row in enumerate(self.table.tolist()):
      checkpoint, _, length, score, terminated, digest = row
      if checkpoints is not None and checkpoint not in checkpoints:
        continue
      first = int(self.first_step[place])
      yield Episode(
        game=self.game,
        task=task,
        run=self.run,
        checkpoint=checkpoint,
        episode_id=first_id,
        frames=_Frames(self, int(self.first_chunk[place]), length),
        actions=self.actions[first : first + length],
        rewards=self.rewards[first : first + length],
        score=score,
        terminated=terminated,
        digest=digest,
        missing=self.missing,
      )
      first_id += 1


class _Frames(Sequence):
  """The frames of an episode, read when they are asked for."""

  __slots__ = ('_first', '_length', '_run')

  def __init__(self, run: StoredRun, first: int, length: int):
    self._run, self._first, self._length = run, first, length

  def __len__(self) -> int:
    return self._length

  def close(self) -> None:
    self._run.close_frames()

  def __getitem__(self, key):
    if not isinstance(key, slice):
      return self[key : key + 1][0]
    start, stop, step = key.indices(self._length)
    if step != 1:
      raise ValueError('Frames are read in order')
    frames: list[bytes] = []
    if stop <= start:
      return frames
    size = formats.CHUNK
    for chunk in range(start // size, (stop - 1) // size + 1):
      begin = chunk * size
      frames += self._run.chunk(self._first + chunk)[
        max(start - begin, 0) : stop - begin
      ]
    if len(frames) != stop - start:
      raise DataError(
        f'The frames in {self._run.path} are not those of its episodes: '
        f'{_REMEDY}'
      )
    return frames


def _checkpoint(split: str) -> int:
  return int(split.removeprefix('checkpoint_'))


def _allow_open_files() -> None:
  """Raises the soft limit: every shard that is read stays open."""
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  if soft < hard:
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def close_frames(episodes: Sequence[Episode]) -> None:
  """Closes what reading frames has opened; it is opened again on demand."""
  for episode in episodes:
    if isinstance(episode.frames, _Frames):
      episode.frames.close()


def find_runs(
  data_dir: str | os.PathLike,
) -> dict[str, dict[int, pathlib.Path]]:
  """The data sets below a directory, by game and run."""
  root = pathlib.Path(data_dir)
  found: dict[str, dict[int, pathlib.Path]] = {}
  for folder in sorted(root.glob(f'{formats.FRAMES}/*/')):
    match = _RUN.fullmatch(folder.name)
    path = folder / formats.VERSION
    if match and path.is_dir():
      found.setdefault(match['game'], {})[int(match['run'])] = path
  return found


def open_runs(
  data_dir: str | os.PathLike,
  games: str | Sequence[str],
  runs: Sequence[int] | None = None,
) -> list[StoredRun]:
  """Opens runs of some games.

  Args:
    data_dir: what `launch.prepare_data` or `launch.collect` wrote.
    games: games or a list of them, as `games.parse_games` takes them.
    runs: which runs of every game; all there are if None.

  Returns:
    The runs, by game in the order given and number.

  Raises:
    DataError: the directory, a game or a run is not there, or is damaged.
    ValueError: a game is unknown.
  """
  root = pathlib.Path(data_dir)
  if not root.is_dir():
    raise DataError(
      f'{root} is no directory: collect data there first, or give the '
      'directory of a data set'
    )
  found = find_runs(root)
  opened = []
  for name in game_tables.parse_games(games):
    if name not in found:
      raise DataError(
        f'{root} has no data of {name} to train on (found: '
        f'{", ".join(sorted(found)) or "none"}): collect it, or prepare what '
        'is there in another format with launch.prepare_data'
      )
    for run in sorted(found[name]) if runs is None else runs:
      if run not in found[name]:
        raise DataError(
          f'{root} has no run {run} of {name} (found: {sorted(found[name])})'
        )
      opened.append(StoredRun(found[name][run], name, run))
  return opened


def load_episodes(
  data_dir: str | os.PathLike,
  games: str | Sequence[str],
  runs: Sequence[int] | None = None,
  checkpoints: Sequence[int] | None = None,
) -> list[Episode]:
  """The episodes of some games; frames stay on disk.

  Args:
    data_dir: what `launch.prepare_data` or `launch.collect` wrote.
    games: games or a list of them, as `games.parse_games` takes them.
    runs: which runs of every game; all there are if None.
    checkpoints: which checkpoints of every run; all there are if None.

  Returns:
    The episodes, by game in the order given, run, checkpoint and place.
    Actions are in the 18-action vocabulary, rewards clipped to [-1, 1].

  Raises:
    DataError: the directory, a game, a run or a checkpoint is not there, or
      a file is damaged.
    ValueError: a game is unknown.
  """
  episodes: list[Episode] = []
  for run in open_runs(data_dir, games, runs):
    there = {part['checkpoint'] for part in run.record['parts']}
    for checkpoint in set(checkpoints or ()) - there:
      raise DataError(
        f'{run.path} has no checkpoint {checkpoint} (found: {sorted(there)})'
      )
    episodes += run.episodes(len(episodes), checkpoints)
  return episodes
