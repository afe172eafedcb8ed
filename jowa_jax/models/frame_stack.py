"""Stacks of frames, made on the device from frames that are moved once."""

import chex
import jax.numpy as jnp


def stack_frames(
  frames: chex.Array, mask: chex.Array, history: int
) -> chex.Array:
  """Every frame with those before it as channels, the oldest first.

  Frames before an episode's first are zeros, as in the logs of DQN-Replay and
  in what its agents saw (Mnih et al., 2015); to repeat the first frame instead
  is another convention.

  Args:
    frames: [..., C, H, W], consecutive frames.
    mask: [..., C] bool, those that exist, such as `Segment.mask`.
    history: frames in a stack beside the current one, of `BatchSpec.history`.

  Returns:
    [..., C - history, H, W, history + 1], of the frames from place `history`
    on: a segment's steps with a loss, then those of its lookahead.

  Raises:
    ValueError: there are not so many frames.
  """
  count = frames.shape[-3] - history
  if history < 0 or count < 1:
    raise ValueError(
      f'history={history} does not fit into {frames.shape[-3]} frames: a '
      'segment has BatchSpec.history of them before its first step'
    )
  frames = jnp.where(mask[..., None, None], frames, 0)
  channels = [
    frames[..., first : first + count, :, :] for first in range(history + 1)
  ]
  return jnp.stack(channels, axis=-1)
