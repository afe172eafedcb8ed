"""Segments of loaded episodes, and what identifies them."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from jowa_jax import types
from jowa_jax.data import episodes as episodes_lib
from jowa_jax.data import segments


class SegmentDataset:
  """All segments of some episodes, decoded when they are asked for."""

  def __init__(
    self,
    episodes: Sequence[episodes_lib.Episode],
    length: int = 8,
    stride: int = 4,
  ):
    """Indexes the segments.

    Args:
      episodes: what to cut; frames stay encoded.
      length: steps T of a segment.
      stride: steps between the starts of neighbouring segments.

    Raises:
      DataError: there are no episodes.
      ValueError: length or stride is not positive.
    """
    if not episodes:
      raise episodes_lib.DataError('A data set needs at least one episode')
    if length < 1:
      raise ValueError(f'length is {length}, not positive')
    self.episodes = list(episodes)
    self.length = length
    self.stride = stride
    self._index = segments.index_segments(
      [len(episode) for episode in self.episodes], stride
    )

  @property
  def num_segments(self) -> int:
    return len(self._index.start)

  @property
  def tasks(self) -> np.ndarray:
    """The game of every segment, [num_segments] int32, for the sampler."""
    tasks = np.array([episode.task for episode in self.episodes], np.int32)
    return tasks[self._index.episode]

  def batch(self, indices: np.ndarray) -> types.Segment:
    """Returns the chosen segments as numpy arrays, [B, T, ...].

    Raises:
      DataError: a frame is damaged.
    """
    chosen = segments.SegmentIndex(
      self._index.episode[indices], self._index.start[indices]
    )
    return segments.decode_segments(self.episodes, chosen, self.length)

  def identity(self) -> dict[str, Any]:
    """Returns what was loaded, as JSON holds it, to keep beside a run.

    The checksum covers frames, actions and rewards.
    """
    digest = hashlib.blake2b(digest_size=16)
    games: dict[str, dict] = {}
    for episode in self.episodes:
      for frame in episode.frames:
        digest.update(frame)
      for array in (episode.actions, episode.rewards, episode.ends):
        digest.update(array.tobytes())
      game = games.setdefault(episode.game, {})
      name = f'run_{episode.run}/checkpoint_{episode.checkpoint:02d}'
      part = game.setdefault(
        name, {'episodes': 0, 'steps': 0, 'full_episodes': 0, 'score': 0.0}
      )
      part['episodes'] += 1
      part['steps'] += len(episode)
      part['full_episodes'] += int(episode.terminated)
      part['score'] += episode.score if episode.terminated else 0.0
    for game in games.values():
      for part in game.values():
        total = part.pop('score')
        full = part['full_episodes']
        part['mean_return'] = total / full if full else None
    return {
      'games': games,
      'length': self.length,
      'stride': self.stride,
      'segments': self.num_segments,
      'checksum': digest.hexdigest(),
    }
