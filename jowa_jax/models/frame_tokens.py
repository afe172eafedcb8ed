"""Frames as tokens among others, as decision transformers read them.

A step's tokens are the K patches of its frame, in row-major order, then what
it was to earn, what was done, and whatever else a method tells of it.
"""

import chex
import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jowa_jax.models.transformer import Dense, TransformerConfig, normal


def patches(frames: chex.Array, size: int) -> chex.Array:
  """Squares of frames [..., H, W], in [0, 1]: [..., K, size * size] float32.

  Raises:
    ValueError: squares of this size do not fill a frame.
  """
  *batch, height, width = frames.shape
  if height % size or width % size:
    raise ValueError(
      f'patch={size} does not divide a frame of {height}x{width} pixels'
    )
  rows, columns = height // size, width // size
  x = frames.astype(jnp.float32) / 255
  x = x.reshape(*batch, rows, size, columns, size)
  return jnp.swapaxes(x, -3, -2).reshape(*batch, rows * columns, size * size)


class FrameTokens(nn.Module):
  """Every patch by one linear layer, and a vector for its place in the frame.

  Attributes:
    config: the width, and how the layer is initialised and computed.
    patch: side of a patch, in pixels.
  """

  config: TransformerConfig
  patch: int

  @nn.compact
  def __call__(self, frames: chex.Array) -> chex.Array:
    """Frames [B, T, H, W] -> tokens [B, T, K, D] float32."""
    cfg, x = self.config, patches(frames, self.patch)
    x = Dense(cfg, (cfg.width,), ('pixels', 'embed'), name='pixels')(x)
    places = self.param(
      'places', normal(0.02, 'positions', 'embed'), (x.shape[-2], cfg.width)
    )
    return x + places


def step_mask(steps: int, frame: int, block: int) -> np.ndarray:
  """What tokens may read, [1, N, N] bool of N = steps * block.

  Every token reads those up to its own, and the patches of a frame read each
  other. Returns after the first step's are hidden from all, themselves
  included.

  Args:
    steps: of the sequence.
    frame: patches of a step, its first tokens; a return follows them.
    block: tokens of a step.
  """
  place = np.arange(steps * block)
  step, inside = np.divmod(place, block)
  mask = place[:, None] >= place
  of_frame = inside < frame
  mask |= (step[:, None] == step) & of_frame[:, None] & of_frame
  return (mask & ~((inside == frame) & (step > 0)))[None]
