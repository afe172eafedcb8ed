"""Writes episodes as the two kinds of data set of `formats`, in one pass.

Checkpoints are written independently of each other to a working folder; a
run's data sets appear when all its checkpoints are there. Everything but the
shards in the making may be on a remote file system.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from jowa_jax import games
from jowa_jax.data.episodes import DataError, RawEpisode, digest
from jowa_jax.data.play_stats import PlayStats
from jowa_jax.data.source import Split
from jowa_jax.data.store.formats import (
  CHUNK,
  EPISODE_DTYPE,
  EPISODES,
  FILE_FORMATS,
  FRAMES,
  RECORD,
  VERSION,
  checksum,
  data_set_path,
  features,
  rlds_episode,
  serializers,
)

_COLUMNS = ('actions', 'rewards', 'episodes')
# Of an unfinished run: what says that a checkpoint is complete, and columns.
_SPLITS = 'parts'


@dataclasses.dataclass(frozen=True)
class WrittenSplit:
  """What was written of one checkpoint."""

  checkpoint: int
  episodes: int
  full_episodes: int  # that ended in game over
  steps: int
  mean_return: float | None  # of full episodes, unclipped if the source is
  chunks: int  # of frames
  num_bytes: dict[str, int]  # in the shards of each kind


def _kinds(missing: Sequence[str]) -> tuple[str, ...]:
  """The kinds of data set of a run, in the order in which they appear.

  The frames last: a run is there when they are. Of play without actions there
  is no exchange set, which has no way to say so.
  """
  return (FRAMES,) if missing else (EPISODES, FRAMES)


def write_split(
  work: epath.PathLike,
  split: Split,
  episodes: Iterable[tuple[int, RawEpisode]],
  missing: Sequence[str] = (),
) -> WrittenSplit:
  """Writes one checkpoint, with one episode at a time in memory.

  Args:
    work: the working folder of the run.
    split: whose play it is.
    episodes: numbers in the source and episodes, in the order wanted.
    missing: columns that the source does not know, see `source.MISSING`.

  Returns:
    What was written; from now on `read_split` returns it too.

  Raises:
    DataError: an episode is not of this game.
    OSError: the disk is full or cannot be written.
  """
  work = epath.Path(work)
  with _local_folder(work) as local:
    shards = {
      kind: local / _shard_name(kind, split) for kind in _kinds(missing)
    }
    stats, columns = _write_shards(shards, split, episodes)
    for kind, shard in shards.items():
      _move(shard, work / kind / shard.name)
    for name, column in columns.items():
      np.save(local / name, column)
      _move(local / f'{name}.npy', _column_path(work, split, name))
    write_json(_stats_path(work, split), dataclasses.asdict(stats))
  return stats


def read_split(work: epath.PathLike, split: Split) -> WrittenSplit | None:
  """What `write_split` wrote, None if it has not (yet)."""
  path = _stats_path(epath.Path(work), split)
  return WrittenSplit(**json.loads(path.read_text())) if path.exists() else None


def _stats_path(work: epath.Path, split: Split) -> epath.Path:
  return work / _SPLITS / f'{split.checkpoint_name}.json'


def _column_path(work: epath.Path, split: Split, name: str) -> epath.Path:
  return work / _SPLITS / f'{split.checkpoint_name}.{name}.npy'


def _shard_name(kind: str, split: Split) -> str:
  return f'{kind}-{split.checkpoint_name}.{FILE_FORMATS[kind]}-00000-of-00001'


def _is_remote(path: epath.Path) -> bool:
  return '://' in os.fspath(path)


@contextlib.contextmanager
def _local_folder(work: epath.Path) -> Iterator[pathlib.Path]:
  """Gives an empty folder that is removed at the end; beside `work`'s files if
  these are local, for what is written there to be moved without copying."""
  parent = None
  if not _is_remote(work):
    work.mkdir(parents=True, exist_ok=True)
    parent = os.fspath(work)
  folder = pathlib.Path(tempfile.mkdtemp(prefix='.part.', dir=parent))
  try:
    yield folder
  finally:
    shutil.rmtree(folder, ignore_errors=True)


def _move(local: pathlib.Path, target: epath.Path) -> None:
  target.parent.mkdir(parents=True, exist_ok=True)
  if _is_remote(target):
    epath.Path(local).copy(target, overwrite=True)
  else:
    os.replace(local, target)


def write_json(path: epath.Path, value: Any) -> None:
  """Writes a JSON file whole."""
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  temporary.write_text(json.dumps(value, indent=2) + '\n')
  temporary.replace(path)


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
  """Turns what the shard writers raise, on a full disk say, into OSError."""
  from jowa_jax.data.tf_libraries import tf

  try:
    yield
  except (tf.errors.OpError, RuntimeError) as error:
    raise OSError(str(error)) from error


class _ShardWriters:
  """Writes to the shards of both kinds and counts."""

  def __init__(self, shards: Mapping[str, pathlib.Path]):
    from array_record.python import array_record_module

    from jowa_jax.data.tf_libraries import tf

    self._serialize = serializers()
    self._writers = {}
    with _as_os_error():
      if EPISODES in shards:
        self._writers[EPISODES] = tf.io.TFRecordWriter(str(shards[EPISODES]))
      # PNG files do not compress any further.
      self._writers[FRAMES] = array_record_module.ArrayRecordWriter(
        str(shards[FRAMES]), 'group_size:1,uncompressed'
      )
    self.count = dict.fromkeys(shards, 0)
    self.num_bytes = dict.fromkeys(shards, 0)

  def write(self, kind: str, example: dict[str, Any]) -> None:
    data = self._serialize[kind].serialize_example(example)
    with _as_os_error():
      self._writers[kind].write(data)
    self.count[kind] += 1
    self.num_bytes[kind] += len(data)

  def __enter__(self):
    return self

  def __exit__(self, kind, error, traceback):
    failures = []
    for writer in self._writers.values():
      try:
        writer.close()
      except Exception as failure:
        failures.append(failure)
    # What failed before is why closing fails too.
    if failures and error is None:
      with _as_os_error():
        raise failures[0]


def _write_shards(
  shards: Mapping[str, pathlib.Path],
  split: Split,
  episodes: Iterable[tuple[int, RawEpisode]],
) -> tuple[WrittenSplit, dict[str, np.ndarray]]:
  """Writes both shards; returns what they hold and the columns."""
  table, actions, rewards = [], [], []
  legal = np.array(games.LEGAL_ACTIONS[split.game], np.uint8)
  with _ShardWriters(shards) as writers:
    for number, raw in episodes:
      _check(split, number, raw, len(legal))
      length = len(raw.actions)
      if EPISODES in shards:
        writers.write(EPISODES, rlds_episode(raw, split.checkpoint, number))
      for start in range(0, length, CHUNK):
        stop = min(start + CHUNK, length)
        writers.write(FRAMES, {'frames': raw.frames[start:stop]})
      score = raw.rewards.sum(dtype=np.float64)
      what = (raw.terminated, digest(raw))
      table.append((split.checkpoint, number, length, score, *what))
      actions.append(legal[raw.actions])
      rewards.append(np.clip(raw.rewards, -1, 1).astype(np.int8))
  columns = {
    'episodes': np.array(table, EPISODE_DTYPE),
    'actions': np.concatenate([*actions, np.zeros(0, np.uint8)]),
    'rewards': np.concatenate([*rewards, np.zeros(0, np.int8)]),
  }
  written = columns['episodes']
  played = PlayStats.of(
    written['length'], written['score'], written['terminated']
  )
  stats = WrittenSplit(
    checkpoint=split.checkpoint,
    **played._asdict(),
    chunks=writers.count[FRAMES],
    num_bytes=writers.num_bytes,
  )
  return stats, columns


def _check(split: Split, number: int, raw: RawEpisode, actions: int) -> None:
  """Raises DataError if the columns cannot hold an episode."""
  where = f'Episode {number} of {split}'
  if not len(raw.actions):
    raise DataError(f'{where} has no transitions')
  if raw.actions.min() < 0 or raw.actions.max() >= actions:
    raise DataError(
      f'{where} has action indices {raw.actions.min()}..{raw.actions.max()}, '
      f'but {split.game} has {actions} minimal actions: is it of another game?'
    )
  clipped = np.clip(raw.rewards, -1, 1)
  # Written so that NaN does not pass.
  if not (clipped == np.rint(clipped)).all():
    raise DataError(
      f'{where} has rewards that clipping does not bring to -1, 0 or 1: '
      "Atari's are whole numbers, so were these normalised?"
    )


def finish_run(
  output: epath.PathLike,
  work: epath.PathLike,
  splits: Sequence[Split],
  record: Mapping[str, Any],
  missing: Sequence[str] = (),
) -> list[WrittenSplit]:
  """Makes the data sets of a run of which every checkpoint is written.

  If it is interrupted, it can be called again.

  Args:
    output: where the data sets go.
    work: the working folder of the run; what is in it is moved.
    splits: the checkpoints, all of one run of one game.
    record: where the play is from, for `record.json`; what was written of
      each checkpoint is added to it as 'parts'.
    missing: as the checkpoints were written with; added to `record`, if any.

  Raises:
    DataError: there are no episodes; or a data set of other play is there.
    OSError: the disk is full or cannot be written.
  """
  work, splits = epath.Path(work), sorted(splits)
  stats = [read_split(work, split) for split in splits]
  if not sum(split.episodes for split in stats):
    raise DataError(f'{splits[0].run_name}: there are no episodes to write')
  record = {**record, 'parts': [dataclasses.asdict(split) for split in stats]}
  if missing:
    record['missing'] = list(missing)
  for kind in _kinds(missing):
    final = data_set_path(output, splits[0].game, splits[0].run, kind)
    if (final / RECORD).exists():
      _check_same(final / RECORD, record)
      continue
    if (work / kind / RECORD).exists():  # of a move that was interrupted
      _publish(work / kind, final)
      continue
    _describe(work / kind, kind, splits, stats)
    columns = _join_columns(work, splits) if kind == FRAMES else {}
    write_json(work / kind / RECORD, {**record, 'columns': columns})
    _publish(work / kind, final)
  return stats


def _check_same(path: epath.Path, record: Mapping[str, Any]) -> None:
  """Raises DataError if a data set that is there is of other play."""
  theirs = json.loads(path.read_text())
  theirs.pop('columns')
  if theirs != json.loads(json.dumps(record)):
    raise DataError(
      f'{path.parent} is there already and of other play: remove it, or give '
      'another output directory'
    )


def _publish(folder: epath.Path, final: epath.Path) -> None:
  """Moves a data set to where it is looked for, its record last."""
  final.parent.mkdir(parents=True, exist_ok=True)
  if not _is_remote(final):
    folder.rename(final)
    return
  # Remote folders do not move in one go.
  final.mkdir(parents=True, exist_ok=True)
  for path in sorted(folder.iterdir(), key=lambda path: path.name == RECORD):
    path.replace(final / path.name)


def _join_columns(work: epath.Path, splits: Sequence[Split]) -> dict[str, str]:
  """Writes the columns of all splits; returns their checksums."""
  checksums = {}
  for name in _COLUMNS:
    columns = []
    for split in splits:
      with _column_path(work, split, name).open('rb') as stream:
        columns.append(np.load(stream))
    joined = np.concatenate(columns)
    with (work / FRAMES / f'{name}.npy').open('wb') as stream:
      np.save(stream, joined)
    checksums[name] = checksum(joined)
  return checksums


def _describe(
  folder: epath.Path,
  kind: str,
  splits: Sequence[Split],
  stats: Sequence[WrittenSplit],
) -> None:
  """Writes TFDS's description of a data set whose shards are there."""
  from jowa_jax.data.tf_libraries import tfds

  info = tfds.core.DatasetInfo(
    builder=tfds.core.DatasetIdentity(
      name=kind,
      version=tfds.core.Version(VERSION),
      data_dir=os.fspath(folder),
      module_name=__name__,
      config_name=splits[0].run_name,
    ),
    description=(
      f'{splits[0].game}, Atari 2600. One split per checkpoint of the agent '
      f'that played; {RECORD} says where it is from.'
    ),
    features=features()[kind],
    disable_shuffling=True,
  )
  info.set_file_format(FILE_FORMATS[kind])
  splits = [
    tfds.core.SplitInfo(
      name=split.checkpoint_name,
      shard_lengths=[some.episodes if kind == EPISODES else some.chunks],
      num_bytes=some.num_bytes[kind],
    )
    for split, some in zip(splits, stats, strict=True)
  ]
  info.set_splits(tfds.core.SplitDict(splits))
  info.write_to_directory(folder)
