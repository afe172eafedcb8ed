"""Small networks between a frame's patches and its grid of features.

They stand in for the tokenizer's convolutions where
`VQVAEConfig.encoder_field` is 'patch', which the paper's is not: matrix
products on whole patches cost far less than convolutions at the frame's
resolution, and every pixel of a patch has weights of its own, so that a scene
that stands still is sharp after minutes on a CPU.
"""

import chex
import flax.linen as nn


def cut(x: chex.Array, grid: int) -> chex.Array:
  """Cuts [N, R, R, C] into [N * grid * grid, R / grid, R / grid, C]."""
  n, side, _, channels = x.shape
  size = side // grid
  x = x.reshape(n, grid, size, grid, size, channels).swapaxes(2, 3)
  return x.reshape(-1, size, size, channels)


def join(x: chex.Array, grid: int) -> chex.Array:
  """The inverse of `cut`."""
  _, size, _, channels = x.shape
  x = x.reshape(-1, grid, grid, size, size, channels).swapaxes(2, 3)
  return x.reshape(-1, grid * size, grid * size, channels)


def dense(features: int, dtype: str, **kwargs) -> nn.Dense:
  """A layer whose kernel's axes the sharding rules know."""
  init = nn.with_logical_partitioning(
    nn.initializers.lecun_normal(), ('inputs', 'channels')
  )
  return nn.Dense(features, dtype=dtype, kernel_init=init, **kwargs)


class PatchEncoder(nn.Module):
  """Patches [M, S, S, 1] -> features [M, 1, 1, features], each on its own."""

  width: int
  features: int
  dtype: str

  @nn.compact
  def __call__(self, x):
    m = x.shape[0]
    h = nn.gelu(dense(self.width, self.dtype, name='in')(x.reshape(m, -1)))
    y = dense(self.width, self.dtype, name='hidden')(h)
    y = nn.gelu(nn.LayerNorm(dtype=self.dtype, name='norm')(y))
    h = h + dense(self.width, self.dtype, name='residual')(y)
    h = nn.LayerNorm(dtype=self.dtype, name='norm_out')(h)
    h = dense(self.features, self.dtype, name='out')(h)
    return h[:, None, None]


class PatchDecoder(nn.Module):
  """Draws the patches of [N, G, G, C], what the grid became: [N, R, R, 1]."""

  width: int
  resolution: int
  dtype: str

  @nn.compact
  def __call__(self, x):
    n, grid, _, channels = x.shape
    size = self.resolution // grid
    x = nn.LayerNorm(dtype=self.dtype, name='norm')(x)
    h = nn.gelu(dense(self.width, self.dtype, name='hidden')(x))
    pixels = dense(size * size, self.dtype, name='out')(h)
    return join(pixels.reshape(n * grid * grid, size, size, 1), grid)
