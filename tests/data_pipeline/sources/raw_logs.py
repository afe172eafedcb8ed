"""Play in the formats of others, and ways to damage it."""

import gzip
import io
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from jowa_jax.bench.raw_logs import (
  HEADER,
  STORES,
  ZERO,
  Row,
  decode,
  log_folder,
  random_play,
  store_path,
  transitions,
  write_array,
  write_dqn_replay,
  write_jowa_hdf5,
  write_log,
  write_ring,
  write_segments,
)
from jowa_jax.data.episodes import RawEpisode

__all__ = [
  'HEADER',
  'STORES',
  'ZERO',
  'Row',
  'decode',
  'transitions',
  'log_folder',
  'store_path',
  'write_array',
  'write_log',
  'write_dqn_replay',
  'write_ring',
  'write_jowa_hdf5',
  'write_segments',
  'random_play',
]


def piece(
  episode: RawEpisode, start: int, stop: int | None = None
) -> RawEpisode:
  """Returns the transitions start..stop as an episode that ends as it does."""
  stop = len(episode.actions) if stop is None else stop
  return episode._replace(
    frames=episode.frames[start:stop],
    actions=episode.actions[start:stop],
    rewards=episode.rewards[start:stop],
  )


def assert_same(
  found: Sequence[RawEpisode], played: Sequence[RawEpisode]
) -> None:
  """Checks that episodes have the transitions of others, rewards clipped."""
  assert len(found) == len(played)
  for mine, other in zip(found, played, strict=True):
    length = len(other.actions)
    assert (mine.actions.dtype, mine.rewards.dtype) == (np.int32, np.float32)
    np.testing.assert_array_equal(mine.actions, other.actions)
    np.testing.assert_array_equal(mine.rewards, other.rewards.clip(-1, 1))
    assert mine.terminated is other.terminated
    assert len(mine.frames) == length
    for frame, png in zip(mine.frames, other.frames, strict=False):
      np.testing.assert_array_equal(decode(frame), decode(png))


def unpacked(path: pathlib.Path) -> np.ndarray:
  """Returns the array of a gzipped .npy file."""
  with gzip.open(path) as file:
    return np.load(file)


def on_file(path: pathlib.Path, change: Callable) -> None:
  """Changes the bytes of a file."""
  path.write_bytes(change(path.read_bytes()))


def on_data(path: pathlib.Path, change: Callable) -> None:
  """Changes the bytes that a file holds compressed."""
  on_file(path, lambda data: gzip.compress(change(gzip.decompress(data)), 1))


def on_array(path: pathlib.Path, change: Callable) -> None:
  """Changes the array of a gzipped .npy file."""
  stored = io.BytesIO()
  np.save(stored, change(unpacked(path)))
  path.write_bytes(gzip.compress(stored.getvalue(), 1))


def flip(data: bytes, place: int) -> bytes:
  """Returns bytes with one bit flipped."""
  changed = bytearray(data)
  changed[place] ^= 16
  return bytes(changed)


def put(row: int, value: float) -> Callable[[np.ndarray], np.ndarray]:
  """Returns what sets a row of an array."""

  def change(array: np.ndarray) -> np.ndarray:
    array[row] = value
    return array

  return change
