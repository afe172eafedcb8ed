"""Frames as tokens among others, as decision transformers read them.

A step's tokens are the K patches of its frame, in row-major order, then what
it was to earn, what was done, and whatever else a method tells of it.
"""

import dataclasses
from typing import ClassVar

import chex
import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jowa_jax.models.transformer import Dense, TransformerConfig, normal
from jowa_jax.types import FRAME_SHAPE


@dataclasses.dataclass(frozen=True)
class FrameBackbone:
  """Sizes of a network that reads such tokens.

  Attributes:
    TOLD: tokens of a step after its patches; of a subclass.
    num_layers: transformer layers.
    width: of the residual stream.
    num_heads: attention heads; the published models' are 64 wide.
    steps: of a window, at most.
    patch: side of a frame's patches, in pixels.
    num_actions: rows of the action table.
    dropout: a subclass says where.
    fused_attention: whether windows are read by the device's fused kernel
      (cuDNN's on a GPU, in half precision).
    remat: whether layers are computed again in the backward pass, for memory.
    dtype: of the computation but the heads'; parameters are float32.
  """

  TOLD: ClassVar[int]

  num_layers: int
  width: int
  num_heads: int
  steps: int = 4
  patch: int = 14
  num_actions: int = 18
  dropout: float = 0.1
  fused_attention: bool = False
  remat: bool = False
  dtype: str = 'float32'

  def __post_init__(self):
    for name in ('num_layers', 'steps', 'patch'):
      if getattr(self, name) < 1:
        raise ValueError(f'{name}={getattr(self, name)} is not positive')
    _check_patch(self.patch, *FRAME_SHAPE)
    self.trunk  # noqa: B018, checks its fields

  @property
  def tokens_per_frame(self) -> int:
    return (FRAME_SHAPE[0] // self.patch) * (FRAME_SHAPE[1] // self.patch)

  @property
  def block_size(self) -> int:
    return self.tokens_per_frame + self.TOLD

  @property
  def max_tokens(self) -> int:
    return self.steps * self.block_size

  @property
  def trunk(self) -> TransformerConfig:
    """The layers of a subclass, see `trunk_of`."""
    raise NotImplementedError

  def trunk_of(self, **fields) -> TransformerConfig:
    """Layers of these sizes, and of fields that the subclass gives."""
    return TransformerConfig(
      num_layers=self.num_layers,
      width=self.width,
      num_heads=self.num_heads,
      dropout=self.dropout,
      fused_attention=self.fused_attention,
      remat=self.remat,
      dtype=self.dtype,
      **fields,
    )


def _check_patch(size: int, height: int, width: int) -> None:
  if height % size or width % size:
    raise ValueError(
      f'patch={size} does not divide a frame of {height}x{width} pixels'
    )


def patches(frames: chex.Array, size: int) -> chex.Array:
  """Squares of frames [..., H, W], in [0, 1]: [..., K, size * size] float32.

  Raises:
    ValueError: squares of this size do not fill a frame.
  """
  *batch, height, width = frames.shape
  _check_patch(size, height, width)
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
