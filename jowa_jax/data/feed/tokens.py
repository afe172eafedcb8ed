"""Frames encoded once by a frozen tokenizer, instead of at every step.

A directory holds the tokens of one tokenizer. Each file has the tokens of some
episodes of one run of a game, memory-mapped when it is read, and beside it the
digests of these episodes: tokens are found by what they were made of.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import struct
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import tqdm

from jowa_jax import files, ownership
from jowa_jax.data.episodes import DataError, Episode
from jowa_jax.data.feed import pipeline
from jowa_jax.data.places import locate
from jowa_jax.data.store import mapped
from jowa_jax.types import FRAME_SHAPE

RECORD = 'tokens.json'
_INDEX = '.episodes.npy'
_INDEX_DTYPE = np.dtype(
  [('digest', 'V16'), ('length', '<i4'), ('checksum', '<u4')]
)
# Of a batch of tokens: how many frames, and the checksum.
_BATCH = struct.Struct('<II')

Encode = Callable[[np.ndarray], np.ndarray]


def encode_episodes(
  episodes: Sequence[Episode],
  encode: Encode,
  directory: str | os.PathLike,
  tokenizer: str,
  batch_size: int = 128,
  progress: bool = True,
  process: int = 0,
  num_processes: int = 1,
) -> None:
  """Encodes the episodes that have no tokens yet.

  Args:
    episodes: with PNG frames.
    encode: frames [batch_size, 84, 84] uint8 -> tokens [batch_size, K].
    directory: where tokens are kept. An encoding that was interrupted goes on
      where it was.
    tokenizer: what identifies the tokenizer; all tokens of a directory are
      made by the same.
    batch_size: frames per call; one size, so that `encode` compiles once.
    progress: show a progress bar.
    process: which of the processes this is; each encodes its share.
    num_processes: how many share the work, whatever each finds done.

  Raises:
    DataError: a frame is damaged; or the directory has the tokens of another
      tokenizer, or damaged ones.
  """
  directory = pathlib.Path(directory)
  _claim(directory, tokenizer)
  share = _share(episodes, process, num_processes)
  missing = _missing(share, _find(directory))
  for name, group in missing.items():
    _encode_file(directory / name, group, encode, batch_size, progress)


def read_tokens(
  episodes: Sequence[Episode], directory: str | os.PathLike, tokenizer: str
) -> list[Episode]:
  """The episodes with their tokens, memory-mapped.

  Args:
    episodes: which were encoded.
    directory: where their tokens are.
    tokenizer: what identifies the tokenizer.

  Raises:
    DataError: the directory lacks tokens of an episode, has those of another
      tokenizer, or damaged ones.
  """
  directory = pathlib.Path(directory)
  _check_tokenizer(directory / RECORD, tokenizer)
  found = _find(directory)
  missing = [e for e in episodes if e.digest not in found]
  if missing:
    first = missing[0]
    raise DataError(
      f'{directory} lacks tokens of {len(missing)} of {len(episodes)} '
      f'episodes, such as {first.game}, run {first.run}, episode '
      f'{first.episode_id}: run launch.encode_tokens; several hosts need one '
      'directory that all of them reach'
    )
  return [
    dataclasses.replace(episode, tokens=found[episode.digest])
    for episode in episodes
  ]


def _claim(directory: pathlib.Path, tokenizer: str) -> None:
  """Makes the directory one of this tokenizer, or checks that it is."""
  path = directory / RECORD
  if not path.exists():
    directory.mkdir(parents=True, exist_ok=True)
    files.write_text(path, json.dumps({'tokenizer': tokenizer}) + '\n')
  _check_tokenizer(path, tokenizer)


def _check_tokenizer(path: pathlib.Path, tokenizer: str) -> None:
  """Raises DataError unless a directory's record names this tokenizer."""
  try:
    theirs = json.loads(path.read_text())['tokenizer']
  except FileNotFoundError as error:
    raise DataError(
      f'{path.parent} has no tokens: run launch.encode_tokens'
    ) from error
  except (ValueError, KeyError) as error:
    raise DataError(
      f'{path} does not name a tokenizer: remove the directory'
    ) from error
  if theirs != tokenizer:
    raise DataError(
      f'{path.parent} has tokens of tokenizer {theirs}, but this one is '
      f'{tokenizer}: give another directory, or the tokenizer they are of'
    )


def _share(
  episodes: Sequence[Episode], process: int, num_processes: int
) -> list[Episode]:
  """About as many frames of neighbours for every process."""
  # Each counts where its middle is.
  middles = np.cumsum([len(e) for e in episodes]) * 2.0
  middles -= [len(e) for e in episodes]
  owners = middles * num_processes // (2 * sum(map(len, episodes)))
  return [e for e, o in zip(episodes, owners, strict=True) if o == process]


def _missing(
  episodes: Sequence[Episode], found: dict[bytes, np.ndarray]
) -> dict[str, list[Episode]]:
  """The episodes without tokens, by the name of their file to be."""
  runs: dict[str, dict[bytes, Episode]] = {}
  for episode in episodes:
    if episode.digest not in found:
      run = runs.setdefault(f'{episode.game}_run_{episode.run}', {})
      run[episode.digest] = episode
  named = {}
  for run, group in runs.items():
    identity = hashlib.blake2b(b''.join(group), digest_size=6).hexdigest()
    named[f'{run}-{identity}.npy'] = list(group.values())
  return named


def _find(directory: pathlib.Path) -> dict[bytes, np.ndarray]:
  """The tokens of every episode there, [T, K], memory-mapped."""
  found = {}
  for path in sorted(directory.glob(f'*{_INDEX}')):
    tokens_path = path.with_name(path.name.removesuffix(_INDEX) + '.npy')
    try:
      found |= _open_tokens(tokens_path, path)
    except (OSError, ValueError, EOFError) as error:
      raise DataError(
        f'The tokens {tokens_path} cannot be read ({error}): remove them and '
        f'{path.name}, and they are made again'
      ) from error
  return found


def _open_tokens(
  path: pathlib.Path, index_path: pathlib.Path
) -> dict[bytes, np.ndarray]:
  """A file's tokens by episode, once their checksums are right."""
  index, tokens = np.load(index_path), mapped.open_array(path)
  if index.dtype != _INDEX_DTYPE or tokens.dtype != np.uint16:
    raise ValueError(f'of another format, {index.dtype} and {tokens.dtype}')
  if tokens.ndim != 2 or index['length'].sum() != len(tokens):
    raise ValueError(
      f'of shape {tokens.shape}, but {index["length"].sum()} frames'
    )
  found, start = {}, 0
  for digest, length, checksum in index.tolist():
    part = tokens[start : start + length]
    if zlib.crc32(part) != checksum:
      raise ValueError('a checksum is wrong')
    found[digest] = part
    start += length
  mapped.release_pages()
  return found


def _encode_file(
  path: pathlib.Path,
  episodes: Sequence[Episode],
  encode: Encode,
  batch_size: int,
  progress: bool,
) -> None:
  """Writes a file of tokens, from where an earlier try was interrupted.

  Whoever else writes the same file is waited for, and then there is nothing
  left to do.
  """
  with ownership.owned(path.with_name(f'.{path.name}.owner'), wait=True):
    if _index_path(path).exists():
      return
    # What is in the file says how far it is.
    partial = path.with_name(f'.{path.name}.partial')
    with _Partial(partial, episodes) as written:
      _encode_rest(written, path.stem, encode, batch_size, progress)
    partial.replace(path)
    with files.written_whole(_index_path(path)) as temporary:
      np.save(temporary, written.index())
    written.sums_path.unlink()


def _index_path(path: pathlib.Path) -> pathlib.Path:
  """Which episodes a file has: without it there are no tokens."""
  return path.with_name(path.stem + _INDEX)


def _encode_rest(
  written: '_Partial',
  name: str,
  encode: Encode,
  batch_size: int,
  progress: bool,
) -> None:
  """Encodes the frames that a file lacks."""
  frames = _FrameBatches(written.episodes, batch_size)
  with tqdm.tqdm(
    total=written.total,
    initial=written.done,
    desc=f'Encoding {name}',
    unit='frame',
    disable=not progress,
    dynamic_ncols=True,
  ) as bar:
    places = range(written.done, written.total, batch_size)
    for place, pixels in pipeline.make_ahead(frames.read, places):
      count = min(batch_size, written.total - place)
      written.append(np.asarray(encode(pixels), '<u2')[:count])
      bar.update(count)


class _Partial:
  """A file of tokens in the making, and the checksums of what was computed.

  Beside the file stand the length and the checksum of every batch. What is
  found after an interruption counts up to the first that is another.
  """

  def __init__(self, path: pathlib.Path, episodes: Sequence[Episode]):
    self.episodes = episodes
    self.sums_path = path.with_name(f'{path.name}.sums')
    self.total = sum(map(len, episodes))
    self.done = 0  # frames
    # Of every episode, as far as its frames are done.
    self._checksums = [0] * len(episodes)
    self._stops = np.cumsum([len(episode) for episode in episodes])
    self._file = open(path, 'a+b')
    self._sums = open(self.sums_path, 'a+b')

  def __enter__(self) -> '_Partial':
    self._resume()
    return self

  def __exit__(self, *error) -> None:
    self._file.close()
    self._sums.close()

  def append(self, tokens: np.ndarray) -> None:
    """Writes a batch of tokens, [N, K] uint16."""
    tokens = np.ascontiguousarray(tokens)
    if not self.done:
      header = {
        'descr': '<u2',
        'fortran_order': False,
        'shape': (self.total, tokens.shape[1]),
      }
      np.lib.format.write_array_header_1_0(self._file, header)
    self._file.write(tokens.data)
    # The batch first: a checksum without its batch would be found wrong.
    self._file.flush()
    self._sums.write(_BATCH.pack(len(tokens), zlib.crc32(tokens)))
    self._sums.flush()
    self._count(tokens)

  def index(self) -> np.ndarray:
    """The episodes of the whole file."""
    rows = [
      (episode.digest, len(episode), checksum)
      for episode, checksum in zip(self.episodes, self._checksums, strict=True)
    ]
    return np.array(rows, _INDEX_DTYPE)

  def _count(self, tokens: np.ndarray) -> None:
    """Adds a batch to the checksums of its episodes."""
    stop = self.done + len(tokens)
    while self.done < stop:
      row = int(np.searchsorted(self._stops, self.done, side='right'))
      upto = min(stop, int(self._stops[row]))
      part = tokens[len(tokens) - (stop - self.done) :][: upto - self.done]
      self._checksums[row] = zlib.crc32(part, self._checksums[row])
      self.done = upto

  def _resume(self) -> None:
    """Keeps the whole batches of an earlier try and cuts off the rest."""
    self._file.seek(0)
    self._sums.seek(0)
    kept = sums = 0
    try:
      np.lib.format.read_magic(self._file)
      shape, _, _ = np.lib.format.read_array_header_1_0(self._file)
    except ValueError:  # not even a header
      shape = (0, 0)
    while shape[0] == self.total:
      row = self._sums.read(_BATCH.size)
      count, checksum = (
        _BATCH.unpack(row) if len(row) == _BATCH.size else (0, 0)
      )
      data = self._file.read(count * shape[1] * 2)
      if not data or zlib.crc32(data) != checksum:
        break
      self._count(np.frombuffer(data, '<u2').reshape(-1, shape[1]))
      kept, sums = self._file.tell(), sums + _BATCH.size
    for file, length in ((self._file, kept), (self._sums, sums)):
      file.seek(length)
      file.truncate()


class _FrameBatches:
  """The frames of all episodes in one line."""

  def __init__(self, episodes: Sequence[Episode], batch_size: int):
    self._episodes, self._batch_size = episodes, batch_size
    self._stops = np.cumsum([len(episode) for episode in episodes])

  def read(self, place: int) -> np.ndarray:
    """The frames from a place on, [batch_size, 84, 84] uint8, padded."""
    frames = np.zeros((self._batch_size, *FRAME_SHAPE), np.uint8)
    last = min(place + self._batch_size, int(self._stops[-1]))
    filled = 0
    while place < last:
      i, start = locate(self._stops, place)
      episode = self._episodes[i]
      stop = min(start + last - place, len(episode))
      episode.decode(start, stop, frames[filled : filled + stop - start])
      filled += stop - start
      place += stop - start
    return frames
