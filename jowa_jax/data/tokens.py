"""Frames encoded once by a frozen tokenizer, instead of at every step."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import tqdm

from jowa_jax import files
from jowa_jax.data.episodes import FRAME_SHAPE, Episode


def encode_episodes(
  episodes: Sequence[Episode],
  encode: Callable[[np.ndarray], np.ndarray],
  cache: str | os.PathLike,
  batch_size: int = 128,
  progress: bool = True,
) -> list[Episode]:
  """Returns the episodes with tokens.

  Args:
    episodes: with PNG frames.
    encode: frames [batch_size, 84, 84] uint8 -> tokens [batch_size, K].
    cache: file (.npy) that keeps the tokens. Its name must identify the
      tokenizer and the episodes; if it is there, nothing is encoded.
    batch_size: frames per call; one size, so that `encode` compiles once.
    progress: show a progress bar.

  Raises:
    DataError: a frame is damaged.
    ValueError: the file does not fit the episodes.
  """
  cache = pathlib.Path(cache)
  total = sum(map(len, episodes))
  if cache.exists():
    tokens = np.load(cache)
  else:
    tokens = _encode(episodes, total, encode, batch_size, progress)
    with files.written_whole(cache) as temporary:
      np.save(temporary, tokens)
  if len(tokens) != total:
    raise ValueError(
      f'{cache} holds tokens of {len(tokens)} frames, the episodes have '
      f'{total}: delete the file'
    )
  stops = np.cumsum([len(episode) for episode in episodes])[:-1]
  return [
    dataclasses.replace(episode, tokens=part)
    for episode, part in zip(episodes, np.split(tokens, stops), strict=True)
  ]


def _encode(episodes, total, encode, batch_size, progress) -> np.ndarray:
  """Encodes all frames in batches that span episodes, [total, K] uint16."""
  frames = np.zeros((batch_size, *FRAME_SHAPE), np.uint8)
  filled, parts = 0, []
  with tqdm.tqdm(
    total=total,
    desc='Encoding frames',
    unit='frame',
    disable=not progress,
    dynamic_ncols=True,
  ) as bar:
    for episode in episodes:
      done = 0
      while done < len(episode):
        count = min(batch_size - filled, len(episode) - done)
        episode.decode(done, done + count, frames[filled : filled + count])
        done, filled = done + count, filled + count
        if filled == batch_size:
          parts.append(np.asarray(encode(frames), np.uint16))
          bar.update(filled)
          filled = 0
    if filled:
      parts.append(np.asarray(encode(frames), np.uint16)[:filled])
      bar.update(filled)
  return np.concatenate(parts)
