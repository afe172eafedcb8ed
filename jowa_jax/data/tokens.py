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
from collections.abc import Callable, Sequence

import numpy as np
import tqdm

from jowa_jax import files
from jowa_jax.data import mapped, pipeline
from jowa_jax.data.episodes import FRAME_SHAPE, DataError, Episode

RECORD = 'tokens.json'
_INDEX = '.episodes.npy'
_INDEX_DTYPE = np.dtype([('digest', 'V16'), ('length', '<i4')])
# Encoded frames between two notes of how far an encoding is.
_NOTE_EVERY = 65_536

Encode = Callable[[np.ndarray], np.ndarray]


def encode_episodes(
  episodes: Sequence[Episode],
  encode: Encode,
  directory: str | os.PathLike,
  tokenizer: str,
  batch_size: int = 128,
  progress: bool = True,
) -> list[Episode]:
  """Returns the episodes with tokens; encodes those that have none yet.

  Args:
    episodes: with PNG frames.
    encode: frames [batch_size, 84, 84] uint8 -> tokens [batch_size, K].
    directory: where tokens are kept. An encoding that was interrupted goes on
      where it was.
    tokenizer: what identifies the tokenizer; all tokens of a directory are
      made by the same.
    batch_size: frames per call; one size, so that `encode` compiles once.
    progress: show a progress bar.

  Raises:
    DataError: a frame is damaged; or the directory has the tokens of another
      tokenizer, or damaged ones.
  """
  directory = pathlib.Path(directory)
  _claim(directory, tokenizer)
  missing = _missing(episodes, _find(directory))
  for name, group in missing.items():
    _encode_file(directory / name, group, encode, batch_size, progress)
  found = _find(directory)
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
  try:
    theirs = json.loads(path.read_text())['tokenizer']
  except (ValueError, KeyError) as error:
    raise DataError(
      f'{path} does not name a tokenizer: remove the directory'
    ) from error
  if theirs != tokenizer:
    raise DataError(
      f'{directory} has tokens of tokenizer {theirs}, but this one is '
      f'{tokenizer}: give another directory, or the tokenizer they are of'
    )


def _missing(
  episodes: Sequence[Episode], found: dict[bytes, np.ndarray]
) -> dict[str, list[Episode]]:
  """Returns the episodes without tokens, by the name of their file to be."""
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
  """Returns the tokens of every episode there, [T, K], memory-mapped."""
  found = {}
  for path in sorted(directory.glob(f'*{_INDEX}')):
    tokens_path = path.with_name(path.name.removesuffix(_INDEX) + '.npy')
    try:
      index = np.load(path)
      tokens = mapped.open_array(tokens_path)
    except (OSError, ValueError, EOFError) as error:
      raise DataError(
        f'The tokens {tokens_path} cannot be read ({error}): remove them and '
        f'{path.name}, and they are made again'
      ) from error
    stops = np.cumsum(index['length'])
    if not len(index) or stops[-1] != len(tokens):
      raise DataError(
        f'{tokens_path} has tokens of {len(tokens)} frames, {path.name} says '
        f'{stops[-1:]}: remove both, and they are made again'
      )
    for (digest, length), stop in zip(index.tolist(), stops, strict=True):
      found[digest] = tokens[stop - length : stop]
  return found


def _encode_file(
  path: pathlib.Path,
  episodes: Sequence[Episode],
  encode: Encode,
  batch_size: int,
  progress: bool,
) -> None:
  """Writes a file of tokens, from where an earlier try was interrupted."""
  total = sum(map(len, episodes))
  partial = path.with_name(f'.{path.name}.partial')
  note = path.with_name(f'.{path.name}.done')
  done = int(note.read_text()) if note.exists() and partial.exists() else 0
  tokens = np.lib.format.open_memmap(partial, 'r+') if done else None
  frames = _FrameBatches(episodes, batch_size)
  noted = done
  with tqdm.tqdm(
    total=total,
    initial=done,
    desc=f'Encoding {path.stem}',
    unit='frame',
    disable=not progress,
    dynamic_ncols=True,
  ) as bar:
    batches = range(done // batch_size, -(-total // batch_size))
    for batch, pixels in pipeline.make_ahead(frames.read, batches):
      start = batch * batch_size
      stop = min(start + batch_size, total)
      encoded = np.asarray(encode(pixels))
      if tokens is None:
        shape = (total, encoded.shape[1])
        tokens = np.lib.format.open_memmap(partial, 'w+', np.uint16, shape)
      tokens[start:stop] = encoded[: stop - start]
      bar.update(stop - max(start, bar.n))
      if stop - noted >= _NOTE_EVERY:
        tokens.flush()
        # Whole batches: where the next try begins.
        files.write_text(note, str(stop // batch_size * batch_size))
        noted = stop
  tokens.flush()
  del tokens
  partial.replace(path)
  index = [(episode.digest, len(episode)) for episode in episodes]
  # The index last: without it there are no tokens.
  with files.written_whole(path.with_name(path.stem + _INDEX)) as temporary:
    np.save(temporary, np.array(index, _INDEX_DTYPE))
  note.unlink(missing_ok=True)


class _FrameBatches:
  """The frames of all episodes in one line, cut into batches."""

  def __init__(self, episodes: Sequence[Episode], batch_size: int):
    self._episodes, self._batch_size = episodes, batch_size
    self._stops = np.cumsum([len(episode) for episode in episodes])

  def read(self, batch: int) -> np.ndarray:
    """Returns a batch, [batch_size, 84, 84] uint8, the last one padded."""
    frames = np.zeros((self._batch_size, *FRAME_SHAPE), np.uint8)
    place = batch * self._batch_size
    last = min(place + self._batch_size, int(self._stops[-1]))
    filled = 0
    while place < last:
      i = int(np.searchsorted(self._stops, place, side='right'))
      episode = self._episodes[i]
      start = place - int(self._stops[i]) + len(episode)
      stop = min(start + last - place, len(episode))
      episode.decode(start, stop, frames[filled : filled + stop - start])
      filled += stop - start
      place += stop - start
    return frames
