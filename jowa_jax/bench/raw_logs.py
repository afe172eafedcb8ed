"""Writes play in the formats of others: DQN-Replay logs and JOWA's data."""

import csv
import gzip
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import cv2
import h5py
import numpy as np

from jowa_jax.collect import play, policies
from jowa_jax.data.episodes import RawEpisode

STORES = ('observation', 'action', 'reward', 'terminal')
_TYPES = (np.uint8, np.int32, np.float32, np.uint8)
_NUM_PADDING = 3
HEADER = ('Episode index', 'Start index', 'End index', 'Environment')


class Row(NamedTuple):
  """What is logged of one transition."""

  frame: np.ndarray  # [84, 84] uint8
  action: int
  reward: float
  terminal: int


ZERO = Row(np.zeros((84, 84), np.uint8), 0, 0.0, 0)


def decode(png: bytes) -> np.ndarray:
  """The frame of a PNG file, [84, 84] uint8."""
  return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)


def transitions(episode: RawEpisode) -> Iterator[Row]:
  """Yields the rows of one episode."""
  length = len(episode.actions)
  for t in range(length):
    terminal = int(episode.terminated and t == length - 1)
    frame = decode(episode.frames[t])
    yield Row(frame, episode.actions[t], episode.rewards[t], terminal)


def log_folder(root, game: str, run: int) -> pathlib.Path:
  """Where the files of a run are."""
  return pathlib.Path(root, game, str(run), 'replay_logs')


def store_path(
  root, game: str, run: int, number: int, store: str
) -> pathlib.Path:
  """The path of one of the four stores."""
  name = f'$store$_{store}_ckpt.{number}.gz'
  return log_folder(root, game, run) / name


def write_array(
  path: pathlib.Path,
  shape: Sequence[int],
  dtype,
  pieces: Iterable[np.ndarray],
  level: int = 9,
) -> None:
  """Writes a gzipped .npy file, its data given piece by piece."""
  header = {
    'descr': np.lib.format.dtype_to_descr(np.dtype(dtype)),
    'fortran_order': False,
    'shape': tuple(shape),
  }
  path.parent.mkdir(parents=True, exist_ok=True)
  with gzip.open(path, 'wb', level) as file:
    np.lib.format.write_array_header_1_0(file, header)
    for piece in pieces:
      file.write(np.ascontiguousarray(piece, dtype).tobytes())


def write_log(
  root,
  game: str,
  run: int,
  number: int,
  rows: Iterable[Row],
  total: int,
  add_count: int,
  level: int = 9,
) -> None:
  """Writes the six files of one checkpoint.

  Args:
    root: the folder that holds the folders of games.
    game: a name in `games.GAMES`.
    run: its number.
    number: the checkpoint's, as in the files' names.
    rows: `total` of them; their frames are not held.
    total: rows in the file.
    add_count: rows written so far.
    level: of compression; the real files have 9.
  """
  columns: tuple[list, ...] = ([], [], [])

  def frames() -> Iterator[np.ndarray]:
    for frame, *rest in rows:
      for column, value in zip(columns, rest, strict=True):
        column.append(value)
      yield frame

  path = store_path(root, game, run, number, 'observation')
  write_array(path, (total, 84, 84), np.uint8, frames(), level)
  assert len(columns[0]) == total
  kinds = zip(STORES[1:], _TYPES[1:], columns, strict=True)
  for store, dtype, column in kinds:
    path = store_path(root, game, run, number, store)
    write_array(path, (total,), dtype, [np.array(column)], level)
  folder = log_folder(root, game, run)
  write_array(
    folder / f'add_count_ckpt.{number}.gz', (), np.int64, [np.array(add_count)]
  )
  cursor = add_count % total if total else 0
  invalid = np.array([(cursor + i) % max(total, 1) for i in range(-1, 4)])
  write_array(
    folder / f'invalid_range_ckpt.{number}.gz', (5,), np.int64, [invalid]
  )


def write_dqn_replay(
  root,
  game: str,
  run: int,
  checkpoints: Mapping[int, Sequence[RawEpisode]],
  *,
  rows: int | None = None,
  level: int = 9,
) -> None:
  """Writes logs whose files hold given episodes.

  Three rows of zeros come before every episode, but not at the start of a
  file if the one before it ended within an episode. What the reader is to
  ignore, the last row of a full file and those past `add_count` of another,
  is noise that says the game is over.

  Args:
    root: the folder that holds the folders of games.
    game: a name in `games.GAMES`.
    run: its number.
    checkpoints: the episodes of each file, by its number. The last one of a
      file may be cut off.
    rows: of every file. If None, as many as its episodes need, and one.
    level: of compression; the real files have 9.
  """
  rng = np.random.default_rng(0)
  padded, before = True, 0
  for number, episodes in checkpoints.items():
    needed = -_NUM_PADDING * (not padded and len(episodes) > 0)
    for episode in episodes:
      needed += _NUM_PADDING + len(episode.actions)
    total = needed + 1 if rows is None else rows
    if needed > total - 1:
      raise ValueError(f'Checkpoint {number} needs {needed + 1} rows')
    if not all(episode.terminated for episode in episodes[:-1]):
      raise ValueError('Only the last episode of a file may be cut off')
    full = needed == total - 1
    content = _file_rows(episodes, padded, total, rng)
    add_count = before + needed if full else needed
    write_log(root, game, run, number, content, total, add_count, level)
    before += total
    if episodes:
      padded = episodes[-1].terminated


def _file_rows(
  episodes: Sequence[RawEpisode],
  padded: bool,
  total: int,
  rng: np.random.Generator,
) -> Iterator[Row]:
  """Yields the rows of one file."""
  count = 0
  for episode in episodes:
    if padded:
      yield from [ZERO] * _NUM_PADDING
      count += _NUM_PADDING
    yield from transitions(episode)
    count += len(episode.actions)
    padded = True
  for _ in range(total - count):
    yield Row(rng.integers(0, 256, (84, 84), np.uint8), 1, 1.0, 1)


def write_ring(
  root,
  game: str,
  run: int,
  episodes: Iterable[RawEpisode],
  rows: int,
  *,
  first: int = 0,
  level: int = 9,
) -> None:
  """Writes logs as Dopamine does: episodes go on from one file to the next.

  A ring of rows is saved whenever all but its last row were written, that
  row being an old one, and once more at the end.

  Args:
    root: the folder that holds the folders of games.
    game: a name in `games.GAMES`.
    run: its number.
    episodes: in the order they were played, all but the last terminated.
    rows: capacity of the ring; that of the real files is 1,000,000.
    first: number of the first file.
    level: of compression; the real files have 9.
  """
  rng = np.random.default_rng(0)
  # Memory that nobody has written to.
  noise = Row(rng.integers(0, 256, (84, 84), np.uint8), 5, 7.0, 1)
  ring = [noise] * rows
  add_count, number = 0, first
  for episode in episodes:
    for row in transitions(episode):
      new = [row]
      if not add_count or ring[(add_count - 1) % rows].terminal == 1:
        new = [ZERO] * _NUM_PADDING + new
      for item in new:
        ring[add_count % rows] = item
        add_count += 1
      if add_count % rows == rows - 1:
        write_log(root, game, run, number, ring, rows, add_count, level)
        number += 1
  cursor = add_count % rows
  write_log(root, game, run, number, ring, rows, cursor, level)


def write_jowa_hdf5(
  root, game: str, episodes: Sequence[RawEpisode], *, padded: bool = True
) -> pathlib.Path:
  """Writes episodes as the JOWA authors' trajectories; returns the file.

  Args:
    root: where `<Game>.h5` goes.
    game: a name in `games.GAMES`.
    episodes: one trajectory each.
    padded: three rows of zeros come first, as the authors leave them.
  """
  path = pathlib.Path(root, f'{game}.h5')
  path.parent.mkdir(parents=True, exist_ok=True)
  with h5py.File(path, 'w') as file:
    for number, episode in enumerate(episodes):
      rows = [ZERO] * (_NUM_PADDING * padded) + list(transitions(episode))
      group = file.create_group(str(number))
      columns = zip(*rows, strict=True)
      for store, dtype, column in zip(STORES, _TYPES, columns, strict=True):
        group.create_dataset(f'{store}s', data=np.array(column, dtype))
  return path


def write_segments(
  path: pathlib.Path,
  game: str,
  lengths: Sequence[int],
  *,
  size: int = 8,
  stride: int = 4,
  left: bool = False,
) -> None:
  """Writes the authors' table of segments.

  Args:
    path: the file.
    game: whose segments they are.
    lengths: rows of each trajectory, padding included.
    size: rows of a segment.
    stride: rows between the starts of two.
    left: segments are padded on the left, for the last one stops before the
      last row, as theirs does; else on the right.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  with open(path, 'w', newline='') as file:
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(HEADER)
    for number, length in enumerate(lengths):
      if left:
        stops = range(length - 1, 0, -stride)
      else:
        stops = range(size, length + size, stride)
      writer.writerows((number, stop - size, stop, game) for stop in stops)


def random_play(game: str, steps: int) -> list[RawEpisode]:
  """The episodes of random play, always the same."""
  settings = play.Checkpoint(
    game, 1, 0, 1.0, steps, 0, sticky=0.0, search=policies.LookaheadConfig()
  )
  return play.play(settings).episodes
