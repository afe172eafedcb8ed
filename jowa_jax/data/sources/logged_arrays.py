"""The gzipped .npy files of DQN-Replay's raw logs, read as streams.

Every fault of a file, down to its checksum, is a DataError that names it.
"""

import contextlib
import gzip
import math
import tokenize
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from jowa_jax.data.episodes import DataError
from jowa_jax.types import FRAME_SHAPE

BUCKET = 'gs://atari-replay-datasets/dqn'
REMEDY = 'download it again'
_FORMATS = {  # dtype and shape
  'observation': (np.dtype(np.uint8), ('rows', *FRAME_SHAPE)),
  'action': (np.dtype(np.int32), ('rows',)),
  'reward': (np.dtype(np.float32), ('rows',)),
  'terminal': (np.dtype(np.uint8), ('rows',)),
  'add_count': (np.dtype(np.int64), ()),
}
BLOCK = 256  # frames decompressed at a time
_PIECE = 1 << 22  # bytes decompressed at a time
# What NumPy raises at a header that is none.
_NO_HEADER = (KeyError, ValueError, TypeError, SyntaxError, tokenize.TokenError)


class Array:
  """A .npy file that is read bit by bit, from its header on.

  Attributes:
    rows: that its header tells of.
  """

  def __init__(self, stream: BinaryIO, path: str, name: str):
    self._stream = stream
    self._path = path
    self._dtype, expected = _FORMATS[name]
    shape, fortran_order, dtype = self._read_header()
    order = ' in Fortran order' if fortran_order else ''
    same_shape = len(shape) == len(expected) and shape[1:] == expected[1:]
    if dtype != self._dtype or not same_shape or order:
      raise DataError(
        f'{path} holds {dtype} of shape {shape}{order}, not {self._dtype} of '
        f'shape {expected}: it is no {name} file of DQN-Replay, {REMEDY} '
        f'from {BUCKET}'
      )
    self._row = shape[1:]
    self.rows = shape[0] if shape else 1
    self._left = self.rows

  def _read_header(self) -> tuple[tuple[int, ...], bool, np.dtype]:
    readers = {
      (1, 0): np.lib.format.read_array_header_1_0,
      (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
      return readers[np.lib.format.read_magic(self._stream)](self._stream)
    except _NO_HEADER as error:
      raise self._bad(f'does not hold a NumPy array ({error!r})') from error

  def _bad(self, problem: str) -> DataError:
    return DataError(f'{self._path} {problem}: {REMEDY}')

  def read(self, count: int) -> np.ndarray:
    """The next rows; after the last one checks the file's end."""
    size = count * math.prod(self._row) * self._dtype.itemsize
    pieces = []
    # Piece by piece, so that a header that lies costs no memory.
    while size:
      piece = self._stream.read(min(size, _PIECE))
      if not piece:
        raise self._bad('ends before the array that its header describes')
      pieces.append(piece)
      size -= len(piece)
    self._left -= count
    # Reading past the end is what has gzip check its sum.
    if not self._left and self._stream.read(1):
      raise self._bad('goes on after the array that its header describes')
    data = np.frombuffer(b''.join(pieces), self._dtype)
    return data.reshape(count, *self._row)

  def blocks(self) -> Iterator[np.ndarray]:
    """Yields what is left, some rows at a time."""
    while self._left:
      yield self.read(min(BLOCK, self._left))


@contextlib.contextmanager
def damage_of(path: str) -> Iterator[Any]:
  """Gives `tf.io.gfile`; what it or gzip raises becomes a DataError."""
  # TensorFlow takes seconds to import: not before files are touched.
  from jowa_jax.data.tf_libraries import tf

  try:
    yield tf.io.gfile
  except (tf.errors.OpError, OSError, EOFError, zlib.error) as error:
    raise DataError(
      f'{path} is missing, damaged or cannot be read ({error}): {REMEDY}'
    ) from error


@contextlib.contextmanager
def opened(
  paths: dict[str, str], name: str, rows: int | None = None
) -> Iterator[Array]:
  """Opens a gzipped .npy file.

  Args:
    paths: of the files of a log, by name.
    name: of the one wanted.
    rows: that it should have, as 'action' has; any if None.
  """
  path = paths[name]
  with damage_of(path) as gfile, gfile.GFile(path, 'rb') as file:
    with gzip.GzipFile(fileobj=file, mode='rb') as stream:
      array = Array(stream, path, name)
      if rows not in (None, array.rows):
        raise DataError(
          f'{path} has {array.rows} rows, but {paths["action"]} has {rows}: '
          'download both again'
        )
      yield array


def read_whole(
  paths: dict[str, str], name: str, rows: int | None = None
) -> np.ndarray:
  """All of such a file, see `opened`."""
  with opened(paths, name, rows) as array:
    return array.read(array.rows)
