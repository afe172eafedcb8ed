"""Segments of loaded episodes, and what identifies them."""

import copy
import hashlib
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from jowa_jax import types
from jowa_jax.data import episodes as episodes_lib
from jowa_jax.data.feed import segments


class SegmentDataset:
  """All segments of some episodes, read when they are asked for.

  Attributes:
    episodes: what is cut, by game.
  """

  def __init__(
    self,
    episodes: Sequence[episodes_lib.Episode],
    length: int = 8,
    stride: int = 4,
    padding: segments.Padding = 'right',
    fields: Collection[str] = (),
    history: int = 0,
    lookahead: int = 0,
  ):
    """Counts the segments.

    Args:
      episodes: what to cut.
      length: steps of a segment with a loss.
      stride: steps between neighbouring segments.
      padding: the side on which short segments are padded.
      fields: those of `types.OPTIONAL_FIELDS` that batches have.
      history: steps that are read before those with a loss.
      lookahead: steps that are read after them.

    Raises:
      DataError: there are no episodes.
      ValueError: an argument is invalid.
    """
    if not episodes:
      raise episodes_lib.DataError('A data set needs at least one episode')
    if unknown := sorted(set(fields) - types.OPTIONAL_FIELDS):
      raise ValueError(
        f'fields {unknown} are not in {sorted(types.OPTIONAL_FIELDS)}'
      )
    for name, steps in (('history', history), ('lookahead', lookahead)):
      if steps < 0:
        raise ValueError(f'{name} is {steps}: give a number of steps, or 0')
    groups = episodes_lib.by_game(episodes)
    self.episodes = [e for group in groups.values() for e in group]
    self.length = length
    self.stride = stride
    self.padding = padding
    self.fields = frozenset(fields)
    if episodes_lib.missing_columns(episodes):
      self.fields |= {'acted'}
    self.history, self.lookahead = history, lookahead
    self._cut = segments.Segmentation(
      [len(episode) for episode in self.episodes], length, stride, padding
    )
    starts = np.cumsum([0, *map(len, list(groups.values())[:-1])])
    sizes = np.add.reduceat(self._cut.counts, starts)
    # Segments of each game; the segments of a game follow each other.
    self.games = dict(zip(groups, sizes.tolist(), strict=True))

  @property
  def num_segments(self) -> int:
    return len(self._cut)

  def rewarded(self) -> np.ndarray:
    """Which segments have a loss at a reward that is not 0, [N] bool."""
    return self._cut.with_marks(e.rewards != 0 for e in self.episodes)

  def batch(self, indices: np.ndarray) -> types.Segment:
    """The chosen segments as numpy arrays, [B, T, ...].

    Raises:
      DataError: a frame is damaged.
    """
    index = self._cut.locate(np.asarray(indices))
    return segments.read_segments(
      self.episodes,
      index,
      self.length,
      self.fields,
      self.history,
      self.lookahead,
    )

  def with_episodes(
    self, episodes: Iterable[episodes_lib.Episode]
  ) -> 'SegmentDataset':
    """The same segments of other copies of the episodes, such as with tokens.

    Args:
      episodes: these and maybe others, in any order; found by `episode_id`.
    """
    by_id = {episode.episode_id: episode for episode in episodes}
    other = copy.copy(self)
    other.episodes = [by_id[episode.episode_id] for episode in self.episodes]
    return other

  def identity(self) -> dict[str, Any]:
    """What was loaded, as JSON holds it, to keep beside a run.

    The checksum covers frames, actions and rewards (`episodes.digest`).
    """
    digest = hashlib.blake2b(digest_size=16)
    groups: dict[str, list[episodes_lib.Episode]] = {}
    for episode in self.episodes:
      digest.update(episode.digest)
      groups.setdefault(episode.game, []).append(episode)
    games = {
      game: {
        name: stats._asdict()
        for name, stats in episodes_lib.by_checkpoint(group).items()
      }
      for game, group in groups.items()
    }
    # Left out where there are none: runs of before did not have them.
    around = {'history': self.history, 'lookahead': self.lookahead}
    return {
      'games': games,
      'length': self.length,
      **{name: steps for name, steps in around.items() if steps},
      'stride': self.stride,
      'padding': self.padding,
      'segments': self.num_segments,
      'checksum': digest.hexdigest(),
    }
