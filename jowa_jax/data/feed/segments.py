"""Fixed-length pieces of episodes, padded where these begin or end.

A segment has `length` steps with a loss, which padding may follow or precede,
and around them `history` and `lookahead` steps that are read alone: real ones
where the episode has them.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from jowa_jax import types
from jowa_jax.data import episodes as episodes_lib

Padding = Literal['right', 'left']


class SegmentIndex(NamedTuple):
  """Where the steps with a loss of some segments begin."""

  episode: np.ndarray  # [B] int64, place in the list of episodes
  start: np.ndarray  # [B] int64, first step; negative if padded on the left


class Segmentation:
  """All segments of a list of episodes, without a list of them.

  Padded on the right they start at 0, stride, 2 * stride...; padded on the
  left they end (exclusively) at T, T - stride, T - 2 * stride..., so that the
  last transition of an episode of T is in one of them.
  """

  def __init__(
    self,
    lengths: Sequence[int],
    length: int,
    stride: int,
    padding: Padding = 'right',
  ):
    """Counts the segments.

    Args:
      lengths: transitions T of each episode.
      length: steps of a segment with a loss.
      stride: steps between neighbouring segments.
      padding: the side on which short segments are padded.

    Raises:
      ValueError: length or stride is not positive, or there is no such side.
    """
    for name, value in (('length', length), ('stride', stride)):
      if value < 1:
        raise ValueError(f'{name} is {value}, not positive')
    if padding not in ('right', 'left'):
      raise ValueError(f"padding is {padding!r}, not 'right' or 'left'")
    self._lengths = np.asarray(lengths, np.int64)
    self._length, self._stride, self._padding = length, stride, padding
    self.counts = -(-self._lengths // stride)  # segments of each episode
    self._stops = np.cumsum(self.counts)

  def __len__(self) -> int:
    return int(self._stops[-1]) if len(self._stops) else 0

  def locate(self, indices: np.ndarray) -> SegmentIndex:
    """Where segments begin.

    Args:
      indices: [B] integers in [0, len(self)).
    """
    episode = np.searchsorted(self._stops, indices, side='right')
    place = indices - self._stops[episode] + self.counts[episode]
    start = place * self._stride
    if self._padding == 'left':
      start = self._lengths[episode] - self._length - start
    return SegmentIndex(episode, start)

  def with_marks(self, marks: Iterable[np.ndarray]) -> np.ndarray:
    """Which segments have a loss at a marked step.

    Args:
      marks: steps of each episode that are marked, [T] bool.

    Returns:
      [len(self)] bool.
    """
    found = np.empty(len(self), bool)
    episodes = zip(marks, self._lengths, self.counts, self._stops, strict=True)
    for steps, length, count, stop in episodes:
      before = np.concatenate([[0], np.cumsum(steps, dtype=np.int64)])
      start = np.arange(count) * self._stride
      if self._padding == 'left':
        start = length - self._length - start
      end = np.minimum(start + self._length, length)
      found[stop - count : stop] = before[end] > before[np.maximum(start, 0)]
    return found


def read_segments(
  episodes: Sequence[episodes_lib.Episode],
  index: SegmentIndex,
  length: int,
  fields: Collection[str] = (),
  history: int = 0,
  lookahead: int = 0,
) -> types.Segment:
  """Reads segments; steps outside of an episode are padding.

  Args:
    episodes: what `index` points into.
    index: the B segments wanted.
    length: steps with a loss.
    fields: those of `types.OPTIONAL_FIELDS` to build.
    history: steps before them.
    lookahead: steps after them.

  Returns:
    A `types.Segment` of numpy arrays, of T = history + length + lookahead
    steps. Padded steps have a black frame, action 0, reward 0, no end,
    return-to-go 0, `acted` false and a false mask. Of episodes with tokens the
    tokens are read, not the frames; padded steps have tokens 0. Without history
    and lookahead there is no `train`.

  Raises:
    DataError: a frame is damaged.
  """
  steps = history + length + lookahead
  index = index._replace(start=index.start - history)
  segment = _padding(index, steps, episodes[0].tokens, fields)
  places = zip(index.episode.tolist(), index.start.tolist(), strict=True)
  for row, (place, first) in enumerate(places):
    episode = episodes[place]
    start, stop = max(first, 0), min(first + steps, len(episode))
    filled = (row, slice(start - first, stop - first))
    if segment.tokens is None:
      episode.decode(start, stop, segment.observations[filled])
    else:
      segment.tokens[filled] = episode.tokens[start:stop]
    segment.actions[filled] = episode.actions[start:stop]
    segment.rewards[filled] = episode.rewards[start:stop]
    segment.ends[row, stop - first - 1] = episode.terminated and stop == len(
      episode
    )
    segment.mask[filled] = True
    segment.task[row] = episode.task
    if segment.return_to_go is not None:
      segment.return_to_go[filled] = episode.return_to_go(start, stop)
    if segment.acted is not None:
      segment.acted[filled] = 'actions' not in episode.missing
    if segment.episode_id is not None:
      segment.episode_id[row] = episode.episode_id
  if steps == length:
    return segment
  train = np.zeros_like(segment.mask)
  trained = slice(history, history + length)
  train[:, trained] = segment.mask[:, trained]
  return segment.replace(train=train)


def _padding(
  index: SegmentIndex,
  length: int,
  tokens: np.ndarray | None,
  fields: Collection[str],
) -> types.Segment:
  """Segments of nothing yet, with tokens like those of an episode."""
  rows = len(index.episode)
  shape, frames, places = (rows, length), None, None
  if tokens is None:
    frames = np.zeros((*shape, *types.FRAME_SHAPE), np.uint8)
  else:
    places = np.zeros((*shape, tokens.shape[1]), np.uint16)
  optional = {
    'return_to_go': lambda: np.zeros(shape, np.float32),
    'episode_id': lambda: np.zeros(rows, np.int32),
    't': lambda: index.start.astype(np.int32),
    'acted': lambda: np.zeros(shape, bool),
  }
  return types.Segment(
    observations=frames,
    tokens=places,
    actions=np.zeros(shape, np.int32),
    rewards=np.zeros(shape, np.float32),
    ends=np.zeros(shape, bool),
    mask=np.zeros(shape, bool),
    task=np.zeros(rows, np.int32),
    **{name: optional[name]() for name in fields},
  )
