"""Fixed-length pieces of episodes, padded on the right."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jowa_jax import types
from jowa_jax.data import episodes as episodes_lib


class SegmentIndex(NamedTuple):
  """Where every segment of a list of episodes begins."""

  episode: np.ndarray  # [S] int32, place in the list
  start: np.ndarray  # [S] int32, the segment's first step


def index_segments(lengths: Sequence[int], stride: int) -> SegmentIndex:
  """Returns the segments of episodes: they start at 0, stride, 2 * stride...

  Args:
    lengths: transitions of each episode.
    stride: steps between the starts of neighbouring segments.
  """
  if stride < 1:
    raise ValueError(f'stride is {stride}, not positive')
  starts = [np.arange(0, length, stride, np.int32) for length in lengths]
  counts = [len(start) for start in starts]
  return SegmentIndex(
    np.repeat(np.arange(len(starts), dtype=np.int32), counts),
    np.concatenate([*starts, np.zeros(0, np.int32)]),
  )


def decode_segments(
  episodes: Sequence[episodes_lib.Episode],
  index: SegmentIndex,
  length: int,
) -> types.Segment:
  """Decodes segments to arrays; steps past an episode's end are padding.

  Args:
    episodes: what `index` points into.
    index: the B segments wanted.
    length: steps T of a segment.

  Returns:
    A `types.Segment` of numpy arrays. Padded steps have a black frame, action
    0, reward 0, no end, return-to-go 0 and a false mask. Of episodes with
    tokens the tokens are read, not the frames; padded steps have tokens 0.

  Raises:
    DataError: a frame is damaged.
  """
  shape = (len(index.episode), length)
  frames = tokens = None
  if episodes[0].tokens is None:
    frames = np.zeros((*shape, *episodes_lib.FRAME_SHAPE), np.uint8)
  else:
    tokens = np.zeros((*shape, episodes[0].tokens.shape[1]), np.uint16)
  segment = types.Segment(
    observations=frames,
    tokens=tokens,
    actions=np.zeros(shape, np.int32),
    rewards=np.zeros(shape, np.float32),
    ends=np.zeros(shape, bool),
    mask=np.zeros(shape, bool),
    return_to_go=np.zeros(shape, np.float32),
    task=np.zeros(shape[:1], np.int32),
    episode_id=np.zeros(shape[:1], np.int32),
    t=np.asarray(index.start, np.int32),
  )
  for row, (place, start) in enumerate(zip(*index, strict=True)):
    episode = episodes[place]
    stop = min(start + length, len(episode))
    steps = slice(start, stop)
    filled = (row, slice(stop - start))
    if tokens is None:
      episode.decode(start, stop, frames[filled])
    else:
      tokens[filled] = episode.tokens[steps]
    segment.actions[filled] = episode.actions[steps]
    segment.rewards[filled] = episode.rewards[steps]
    segment.ends[filled] = episode.ends[steps]
    segment.mask[filled] = True
    segment.return_to_go[filled] = episode.return_to_go[steps]
    segment.task[row] = episode.task
    segment.episode_id[row] = episode.episode_id
  return segment
