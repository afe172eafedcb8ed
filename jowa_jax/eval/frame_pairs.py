"""Decisions and the two frames before them, for small networks."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import chex
import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jowa_jax.data.episodes import DataError, Episode, split_episodes
from jowa_jax.types import FRAME_SHAPE

# Share of a game's episodes that are judged on, and not trained on.
HELD_OUT = 0.2
_JUDGED_AT_ONCE = 512


class Decisions(NamedTuple):
  """Those of some episodes, one after the other, N of them."""

  frames: np.ndarray  # [N, 84, 84] uint8, that were decided upon
  before: np.ndarray  # [N] row of the frame before; an episode's first has none
  actions: np.ndarray  # [N] int32, of ALE's 18
  rewards: np.ndarray  # [N], that followed

  def pairs(self, rows: np.ndarray) -> np.ndarray:
    """The frame before and that of each decision, [B, 84, 84, 2] uint8."""
    return np.stack([self.frames[self.before[rows]], self.frames[rows]], -1)

  def batches(self) -> Iterator[np.ndarray]:
    """Rows of all decisions in turn, some at a time."""
    count = len(self.actions)
    yield from np.array_split(np.arange(count), -(-count // _JUDGED_AT_ONCE))


def _decoded(episodes: Sequence[Episode]) -> Decisions:
  total = sum(map(len, episodes))
  frames, before = np.empty((total, *FRAME_SHAPE), np.uint8), np.arange(total)
  start = 0
  for episode in episodes:
    stop = start + len(episode)
    episode.decode(0, len(episode), frames[start:stop])
    before[start + 1 : stop] -= 1  # the first frame has none but itself
    start = stop
  actions = np.concatenate([episode.actions for episode in episodes])
  rewards = np.concatenate([episode.rewards for episode in episodes])
  return Decisions(frames, before, actions.astype(np.int32), rewards)


def divided(
  episodes: Sequence[Episode], seed: int, most: int
) -> tuple[Decisions, Decisions]:
  """What is trained on and what is judged on, of whole episodes each.

  Args:
    episodes: of one game.
    seed: of what is left out and of the division.
    most: decisions that are read; episodes beyond them, drawn at random, are
      left out.

  Raises:
    DataError: there are fewer than two episodes.
  """
  order = np.random.default_rng(seed).permutation(len(episodes))
  ends = np.cumsum([len(episodes[i]) for i in order])
  kept = [
    episodes[i] for i in sorted(order[: max(2, int((ends <= most).sum()))])
  ]
  try:
    trained_on, held_out = split_episodes(kept, HELD_OUT, seed)
  except ValueError as error:
    raise DataError(str(error)) from error
  return _decoded(trained_on), _decoded(held_out)


class Convolutions(nn.Module):
  """Two frames, [B, 84, 84, 2] uint8 -> [B, F] features."""

  @nn.compact
  def __call__(self, pairs: chex.Array) -> chex.Array:
    frames = pairs / 255
    moved = frames[..., 1:] - frames[..., :1]
    x = jnp.concatenate([frames, moved], axis=-1)
    # Squares of pixels as channels, and no strides, whose gradients XLA
    # computes slowly on a CPU: the same as kernels of 8, 4 and 3 pixels with
    # strides of 4, 2 and 1.
    for channels, square, size in ((16, 4, 2), (32, 2, 2), (32, 1, 3)):
      x = _by_squares(x, square)
      x = nn.relu(nn.Conv(channels, (size, size), padding='VALID')(x))
    return x.reshape(len(x), -1)


def _by_squares(x: chex.Array, size: int) -> chex.Array:
  """[B, H, W, C] as [B, H / size, W / size, size * size * C]."""
  batch, height, width, channels = x.shape
  x = x.reshape(batch, height // size, size, width // size, size, channels)
  x = x.swapaxes(2, 3)
  return x.reshape(batch, height // size, width // size, -1)
