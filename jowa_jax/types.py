"""Bundles of arrays that cross package borders.

Shape letters used throughout: B segments in a batch, T steps of a segment,
E environments, A = 18 actions, H x W = 84 x 84 pixels, N tokens, D width.
"""

from typing import Any

import chex

# A nested dict of arrays.
Params = Any
# Of every frame, in pixels.
FRAME_SHAPE = (84, 84)
# Fields of a segment that are built where they are asked for, and None
# elsewhere.
OPTIONAL_FIELDS = frozenset({'return_to_go', 'episode_id', 't', 'acted'})


@chex.dataclass(frozen=True)
class Segment:
  """A batch of fixed-length pieces of episodes.

  Step t of a segment holds o_t, a_t, the reward r_t of taking a_t in o_t, and
  whether that action ended the episode. T counts the steps before and after
  those that have a loss, see `methods.base.BatchSpec`. Steps outside `mask` are
  padding, which may stand on both sides of what exists.
  """

  # [B, T, 84, 84] uint8, one grey frame per step; None where `tokens` are read.
  # Of the same range in float32 where an objective's `augment` moved them.
  observations: chex.Array | None
  actions: chex.Array  # [B, T] int32, in the shared 18-action vocabulary
  rewards: chex.Array  # [B, T] float32, clipped to [-1, 1]
  ends: chex.Array  # [B, T] bool, the episode terminated after this action
  mask: chex.Array  # [B, T] bool, false on padding
  task: chex.Array  # [B] int32, index of the game in `games.GAMES`
  tokens: chex.Array | None = None  # [B, T, K] uint16, pre-encoded frames
  # [B, T] bool, those of `mask` that have a loss; None: all of them.
  train: chex.Array | None = None
  imagined: chex.Array | None = None  # [B] bool, dreamed; None: all are real
  # [B, T] bool, false at a frame that no known action followed; None: true.
  acted: chex.Array | None = None
  # Of `OPTIONAL_FIELDS`; [B, T] float32, undiscounted sum of rewards[t:].
  return_to_go: chex.Array | None = None
  episode_id: chex.Array | None = None  # [B] int32, unique within a data set
  # [B] int32, position of the first step; negative if that is padding.
  t: chex.Array | None = None


@chex.dataclass(frozen=True)
class TimeStep:
  """What a batch of environments shows a policy."""

  frames: chex.Array  # [E, 84, 84] uint8
  first: chex.Array  # [E] bool, true on the first step of an episode
  # [E] float32, unclipped, of the decision before; None if no agent reads them.
  rewards: chex.Array | None = None


@chex.dataclass(frozen=True)
class History:
  """The last C steps of E environments, right-aligned."""

  # What is kept of the frames, the current one last: a pytree with leaves
  # [E, C, ...], such as tokens [E, C, K] int32, or the frames themselves.
  seen: Any
  actions: chex.Array  # [E, C] int32, the one still to be chosen last
  count: chex.Array  # [E] int32, steps that are real
  tasks: chex.Array  # [E] int32
  # [E, C] float32, unclipped, of the actions; the last is 0, yet to be earned.
  # None where nothing reads them.
  rewards: chex.Array | None = None
