"""Residual networks with group norm that end in spatial embeddings.

The encoder of Scaled-QL (Kumar et al., 2022, section 4.2): a ResNet (He et al.,
2015) whose batch norms are group norms, and whose mean over places is a learned
one, a product with a kernel of its own for every channel.
"""

import dataclasses
import functools
import math

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from jowa_jax.models import flops
from jowa_jax.types import FRAME_SHAPE

POOLINGS = ('embeddings', 'mean')
# A bottleneck's blocks end with so many times the width of their stage.
EXPANSION = 4


@dataclasses.dataclass(frozen=True)
class ResNetConfig:
  """Sizes of the encoder; those of ResNet-101 where nothing is said.

  Attributes:
    stage_sizes: blocks of each stage.
    stage_strides: of each stage's first block.
    bottleneck: whether a block is three convolutions, 1x1, 3x3 and 1x1, and not
      two of 3x3.
    width: channels of the first stage; every other doubles them.
    stack: frames that are seen at once, as channels.
    norm_groups: groups of every group norm.
    pooling: 'embeddings' for learned spatial ones, or 'mean' over all places.
    spatial_features: embeddings of every channel.
    dtype: of the computation; parameters are float32.
  """

  stage_sizes: tuple[int, ...] = (3, 4, 23, 3)
  stage_strides: tuple[int, ...] = (1, 2, 2, 2)
  bottleneck: bool = True
  width: int = 64
  stack: int = 4
  norm_groups: int = 4
  pooling: str = 'embeddings'
  spatial_features: int = 8
  dtype: str = 'float32'

  def __post_init__(self):
    if self.pooling not in POOLINGS:
      raise ValueError(f'pooling={self.pooling!r} is not in {POOLINGS}')
    if len(self.stage_sizes) != len(self.stage_strides):
      raise ValueError(
        f'stage_sizes={self.stage_sizes} and stage_strides='
        f'{self.stage_strides} are not of as many stages'
      )
    for name in ('stage_sizes', 'stage_strides'):
      if not getattr(self, name) or min(getattr(self, name)) < 1:
        raise ValueError(f'{name}={getattr(self, name)} must be positive')
    for name in ('stack', 'norm_groups', 'spatial_features'):
      if getattr(self, name) < 1:
        raise ValueError(f'{name}={getattr(self, name)} is not positive')
    if self.width < 1 or self.width % self.norm_groups:
      raise ValueError(
        f'width={self.width} does not divide into norm_groups='
        f'{self.norm_groups}'
      )

  @property
  def channels(self) -> int:
    """Channels of the last stage."""
    last = self.width * 2 ** (len(self.stage_sizes) - 1)
    return last * EXPANSION if self.bottleneck else last

  @property
  def outputs(self) -> int:
    """Size of what a stack of frames is embedded as."""
    if self.pooling == 'mean':
      return self.channels
    return self.channels * self.spatial_features


def _conv(
  config: ResNetConfig, features: int, kernel: int, stride: int = 1, **kwargs
) -> nn.Conv:
  return nn.Conv(
    features,
    (kernel, kernel),
    strides=stride,
    use_bias=False,
    dtype=config.dtype,
    kernel_init=nn.with_logical_partitioning(
      nn.initializers.he_normal(), (None, None, 'inputs', 'channels')
    ),
    **kwargs,
  )


def _norm(config: ResNetConfig, name: str, zero: bool = False) -> nn.GroupNorm:
  init = nn.initializers.zeros if zero else nn.initializers.ones
  return nn.GroupNorm(
    config.norm_groups,
    epsilon=1e-5,
    dtype=config.dtype,
    scale_init=init,
    use_fast_variance=False,
    name=name,
  )


class Block(nn.Module):
  """Convolutions around which what comes in is added to what goes out.

  Attributes:
    config: sizes.
    features: channels of the 3x3 convolutions.
    stride: of the first 3x3 convolution, and of the way around.
  """

  config: ResNetConfig
  features: int
  stride: int

  @nn.compact
  def __call__(self, x: chex.Array) -> chex.Array:  # [N, H, W, C]
    cfg = self.config
    # (channels, kernel, stride) of the convolutions.
    layers = [(self.features, 3, self.stride), (self.features, 3, 1)]
    if cfg.bottleneck:
      layers = [
        (self.features, 1, 1),
        (self.features, 3, self.stride),
        (self.features * EXPANSION, 1, 1),
      ]
    y = x
    for i, (features, kernel, stride) in enumerate(layers):
      last = i == len(layers) - 1
      y = _conv(cfg, features, kernel, stride, name=f'conv_{i}')(y)
      y = _norm(cfg, f'norm_{i}', zero=last and cfg.bottleneck)(y)
      y = y if last else nn.relu(y)
    if x.shape != y.shape:
      x = _conv(cfg, y.shape[-1], 1, self.stride, name='shortcut_conv')(x)
      x = _norm(cfg, 'shortcut_norm')(x)
    return nn.relu(x + y)


class SpatialEmbeddings(nn.Module):
  """Weighed sums over all places, some of them for every channel.

  Attributes:
    features: F, sums of a channel.
  """

  features: int

  @nn.compact
  def __call__(self, x: chex.Array) -> chex.Array:  # [N, H, W, C]
    # Fan-in of the Lecun normal: all but the last axis.
    init = nn.initializers.variance_scaling(
      1.0, 'fan_in', 'truncated_normal', in_axis=(0, 1, 2), out_axis=3
    )
    kernel = self.param(
      'kernel',
      nn.with_logical_partitioning(init, (None, None, 'channels', None)),
      (*x.shape[1:], self.features),
    )
    y = jnp.einsum('nhwc,hwcf->ncf', x, kernel.astype(x.dtype))
    return y.reshape(len(x), -1)  # [N, C * F], channel by channel


class Encoder(nn.Module):
  """Stacks of frames [N, H, W, stack] of pixels to 255 -> [N, outputs]."""

  config: ResNetConfig

  @nn.compact
  def __call__(self, stacks: chex.Array) -> chex.Array:
    cfg = self.config
    x = (stacks.astype(jnp.float32) / 255).astype(cfg.dtype)
    x = _conv(cfg, cfg.width, 7, 2, padding=3, name='stem_conv')(x)
    x = nn.relu(_norm(cfg, 'stem_norm')(x))
    x = nn.max_pool(x, (3, 3), strides=(2, 2), padding='SAME')
    for i, (count, stride) in enumerate(
      zip(cfg.stage_sizes, cfg.stage_strides, strict=True)
    ):
      for j in range(count):
        x = Block(
          cfg, cfg.width * 2**i, 1 if j else stride, name=f'stage_{i}_block_{j}'
        )(x)
    if cfg.pooling == 'mean':
      return x.mean((1, 2))
    return SpatialEmbeddings(cfg.spatial_features, name='embeddings')(x)


@functools.cache
def encoder_flops(config: ResNetConfig) -> float:
  """Those of one stack's forward pass: its convolutions and embeddings."""
  total = 0.0

  def count(next_fn, args, kwargs, context):
    nonlocal total
    result = next_fn(*args, **kwargs)
    module = context.module
    if isinstance(module, nn.Conv):
      places = math.prod(result.shape[1:3])
      inputs = math.prod(module.kernel_size) * args[0].shape[-1]
      total += flops.linear(places, inputs, module.features)
    elif isinstance(module, SpatialEmbeddings):
      total += flops.linear(math.prod(args[0].shape[1:]), 1, module.features)
    return result

  stacks = jax.ShapeDtypeStruct((1, *FRAME_SHAPE, config.stack), jnp.uint8)
  with nn.intercept_methods(count):
    jax.eval_shape(Encoder(config).init, jax.random.key(0), stacks)
  return total
