"""Layers of FICC: batch norm by time step, convolutions, residual blocks.

Arrays are [T, B, ...], time first, and channels last.
"""

import dataclasses
from collections.abc import Sequence

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

# The collection of running statistics.
STATISTICS = 'statistics'
# The weight of a new statistic in the running one.
SLOW, FAST = 0.01, 0.1


class StepNorm(nn.Module):
  """Batch norm of every time step by itself.

  Its running statistics are what they would be after as many calls in a row,
  the first step first, and hold the unbiased variance.

  Attributes:
    momentum: weight of a new statistic in the running one.
    affine: whether there are a scale and a bias.
    dtype: of what comes out; statistics are float32.
  """

  momentum: float
  affine: bool = True
  dtype: str = 'float32'

  @nn.compact
  def __call__(self, x: chex.Array, train: bool) -> chex.Array:
    """Normalises [T, B, ..., C], by the batch's statistics if it is trained."""
    channels, x = x.shape[-1:], x.astype(jnp.float32)
    running = [
      self.variable(STATISTICS, 'mean', jnp.zeros, channels),
      self.variable(STATISTICS, 'var', jnp.ones, channels),
    ]
    shape = (-1, *(1,) * (x.ndim - 2), *channels)
    if train:
      axes = tuple(range(1, x.ndim - 1))
      mean = x.mean(axes)
      var = jnp.square(x - mean.reshape(shape)).mean(axes)
      count = x[0].size // channels[0]
      if self.is_mutable_collection(STATISTICS) and not self.is_initializing():
        unbiased = var * (count / max(count - 1, 1))
        for variable, new in zip(running, (mean, unbiased), strict=True):
          variable.value = self._moved(variable.value, new)
    else:
      mean, var = (variable.value for variable in running)
    scale = lax.rsqrt(var + 1e-5)
    x = (x - mean.reshape(shape)) * scale.reshape(shape)
    if self.affine:
      ones, zeros = nn.initializers.ones, nn.initializers.zeros
      x = x * self.param('scale', _channels(ones), channels)
      x = x + self.param('bias', _channels(zeros), channels)
    return x.astype(self.dtype)

  def _moved(self, old: chex.Array, new: chex.Array) -> chex.Array:
    """A running statistic [C] after those of T steps, [T, C]."""
    steps, keep = len(new), 1 - self.momentum
    weights = self.momentum * keep ** jnp.arange(steps - 1, -1, -1)
    return keep**steps * old + weights @ lax.stop_gradient(new)


def _channels(init):
  return nn.with_logical_partitioning(init, ('channels',))


# A third of the variance that keeps the scale, as the authors' framework has.
KERNEL = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')


@dataclasses.dataclass(frozen=True)
class Layers:
  """Makes the layers of a network.

  Attributes:
    bottleneck: residual blocks of three convolutions, the middle one on a
      quarter of the channels, in place of two.
    dtype: of the computation; parameters are float32.
  """

  bottleneck: bool = False
  dtype: str = 'float32'

  def conv(
    self, channels: int, size: int = 3, stride: int = 1, bias: bool = False
  ) -> nn.Conv:
    return nn.Conv(
      channels,
      (size, size),
      strides=stride,
      padding=size // 2,
      use_bias=bias,
      dtype=self.dtype,
      kernel_init=nn.with_logical_partitioning(
        KERNEL, (None, None, 'inputs', 'channels')
      ),
    )

  def dense(
    self, outputs: int, follows: bool = False, of_grid: bool = False
  ) -> nn.Dense:
    """A linear layer, split over devices so that gradients are right.

    XLA's partitioner, as of jaxlib 0.10, sums what comes back over copies on
    meshes of several axes: where two layers in a row are split alike, and where
    one that reads a grid's places and channels in one row is split by these.

    Args:
      outputs: numbers that come out.
      follows: whether it reads what a layer that does not follow made.
      of_grid: whether it reads a grid.
    """
    names = ('mlp', 'embed') if follows else ('embed', 'mlp')
    if of_grid:
      names = (None, 'mlp')
    return nn.Dense(
      outputs,
      dtype=self.dtype,
      kernel_init=nn.with_logical_partitioning(KERNEL, names),
    )

  def norm(self, momentum: float, affine: bool = True) -> StepNorm:
    return StepNorm(momentum, affine, self.dtype)

  def block(
    self, channels: int, momentum: float, shrinks: bool = False
  ) -> 'Block':
    return Block(self, channels, momentum, shrinks)


class Block(nn.Module):
  """A residual block; one that halves the frame has a convolved shortcut.

  Attributes:
    layers: what it is made of.
    channels: that come out.
    momentum: of its norms.
    shrinks: whether it halves height and width.
  """

  layers: Layers
  channels: int
  momentum: float
  shrinks: bool = False

  def setup(self):
    stride = 2 if self.shrinks else 1
    conv = self.layers.conv
    if self.layers.bottleneck:
      inner = self.channels // 4
      self.convs = [
        conv(inner, 1),
        conv(inner, 3, stride),
        conv(self.channels, 1),
      ]
    else:
      self.convs = [conv(self.channels, 3, stride), conv(self.channels)]
    self.norms = [self.layers.norm(self.momentum) for _ in self.convs]
    if self.shrinks:
      self.shortcut = conv(self.channels, 3, stride)

  def __call__(self, x: chex.Array, train: bool) -> chex.Array:
    """Computes [T, B, H, W, channels] from [T, B, H', W', C]."""
    kept = self.shortcut(x) if self.shrinks else x
    last = len(self.convs) - 1
    for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
      x = norm(conv(x), train)
      x = nn.relu(x + kept if i == last else x)
    return x


_PLACES = ('NHWC', 'HWIO', 'NHWC')


def _transposed(x: chex.Array, kernel: chex.Array) -> chex.Array:
  """[N, H, W, C] and [3, 3, C, D] -> [N, 2 H, 2 W, D]."""
  return lax.conv_general_dilated(
    x, kernel, (1, 1), ((1, 2), (1, 2)), (2, 2), dimension_numbers=_PLACES
  )


def _by_phase(x: chex.Array, kernel: chex.Array) -> chex.Array:
  """What `_transposed` computes, as a convolution of the frame as it is.

  Of every two pixels in a row that come out, the first reads the one above it
  through the kernel's middle, the second that one and the next through its
  ends.
  """
  taps = jnp.zeros((2, 3), kernel.dtype)
  first, second = taps.at[0, 1].set(1), taps.at[0, 0].set(1).at[1, 2].set(1)
  phases = jnp.stack([first, second])  # [phase, pixel that is read, of kernel]
  kernel = jnp.einsum('pyk,qxl,klcd->yxcpqd', phases, phases, kernel)
  kernel = kernel.reshape(*kernel.shape[:3], -1)
  y = lax.conv_general_dilated(
    x, kernel, (1, 1), ((0, 1), (0, 1)), dimension_numbers=_PLACES
  )
  n, height, width, _ = x.shape
  y = y.reshape(n, height, width, 2, 2, -1).swapaxes(2, 3)
  return y.reshape(n, 2 * height, 2 * width, -1)


class TwiceAsLarge(nn.Module):
  """`nn.ConvTranspose` of 3x3 pixels that doubles height and width.

  Attributes:
    channels: that come out.
    dtype: of the computation; parameters are float32.
  """

  channels: int
  dtype: str = 'float32'

  @nn.compact
  def __call__(self, x: chex.Array) -> chex.Array:
    """Computes [T, B, 2 H, 2 W, channels] from [T, B, H, W, C]."""
    init = nn.with_logical_partitioning(
      KERNEL, (None, None, 'inputs', 'channels')
    )
    kernel = self.param('kernel', init, (3, 3, x.shape[-1], self.channels))
    bias = self.param('bias', nn.initializers.zeros, (self.channels,))
    x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
    # Eight times as fast on a CPU, where XLA computes the gradients of kernels
    # of transposed convolutions pixel by pixel, though nearly half of the
    # wider kernel is zeros.
    y = lax.platform_dependent(
      x.reshape(-1, *x.shape[-3:]),
      kernel,
      cpu=_by_phase,
      default=_transposed,
    )
    return y.reshape(*x.shape[:-3], *y.shape[1:]) + bias


class Upward(nn.Module):
  """A transposed convolution that doubles the frame, norm and ReLU."""

  layers: Layers
  channels: int

  def setup(self):
    self.conv = TwiceAsLarge(self.channels, self.layers.dtype)
    self.norm = self.layers.norm(SLOW)

  def __call__(self, x: chex.Array, train: bool) -> chex.Array:
    return nn.relu(self.norm(self.conv(x), train))


class Perceptron(nn.Module):
  """Dense layers with norms and ReLU between them.

  Attributes:
    layers: what it is made of.
    widths: of the layers.
    ends_with_norm: whether a norm follows the last one.
    of_grid: see `Layers.dense`.
  """

  layers: Layers
  widths: Sequence[int]
  ends_with_norm: bool
  of_grid: bool = False

  def setup(self):
    self.dense = [
      self.layers.dense(width, bool(i % 2), self.of_grid and not i)
      for i, width in enumerate(self.widths)
    ]
    norms = len(self.widths) - (not self.ends_with_norm)
    self.norms = [self.layers.norm(FAST) for _ in range(norms)]

  def __call__(self, x: chex.Array, train: bool) -> chex.Array:
    last = len(self.dense) - 1
    for i, dense in enumerate(self.dense):
      x = dense(x)
      if i < len(self.norms):
        x = self.norms[i](x, train)
      if i < last:
        x = nn.relu(x)
    return x


def halved(x: chex.Array) -> chex.Array:
  """Means over 3x3 pixels, every second one; zeros around the frame count."""
  shape = x.shape
  x = x.reshape(-1, *shape[-3:])
  x = nn.avg_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
  return x.reshape(*shape[:-3], *x.shape[-3:])


def quantised(
  codebook: chex.Array, latents: chex.Array
) -> tuple[chex.Array, chex.Array]:
  """The nearest codes of latents [..., D]: numbers [...] int32, and rows."""
  chex.assert_equal(latents.shape[-1], codebook.shape[-1])
  distances = jnp.square(latents[..., None, :] - codebook).sum(-1)
  codes = jnp.argmin(distances, axis=-1).astype(jnp.int32)
  return codes, codebook[codes]


def straight_through(latents: chex.Array, rows: chex.Array) -> chex.Array:
  """The values of `rows`, with the gradients of `latents`."""
  return latents + lax.stop_gradient(rows - latents)


def uniform_codes(key: chex.PRNGKey, shape: tuple[int, int]) -> chex.Array:
  """Fresh codes, uniform to 1 / their number either way."""
  return jax.random.uniform(key, shape, minval=-1, maxval=1) / shape[0]
