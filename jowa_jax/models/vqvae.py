"""VQ-VAE tokenizer: an 84x84 grey frame <-> a 6x6 grid of codebook tokens.

JOWA section 4.1.1 and Table 8; the layout is that of the authors' released
weights: three levels of equal width, attention at the two coarser resolutions
of the encoder and none in the decoder's levels.
"""

import dataclasses
import math
from collections.abc import Sequence

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from jowa_jax.models import patches

FIELDS = ('frame', 'patch')


@dataclasses.dataclass(frozen=True)
class VQVAEConfig:
  """Sizes of the tokenizer.

  Attributes:
    channels: width of every level.
    res_blocks: residual blocks per encoder level; the decoder has one more.
    downsample: spatial factors between the levels, fine to coarse.
    latent_channels: width between encoder and the 1x1 convs at the codebook.
    vocab_size: codebook rows.
    embedding_dim: codebook columns.
    resolution: height and width of a frame.
    norm_groups: groups of every GroupNorm.
    encoder_field: what a token is made of: the whole 'frame', by convolutions,
      as in the paper; or its own 'patch' alone, by the dense layers of
      `models.patches`, so that it changes only where pixels do. The decoder
      then has `res_blocks` blocks on the token grid and draws patches.
    dtype: of the computation; parameters are float32.
  """

  channels: int = 64
  res_blocks: int = 2
  downsample: tuple[int, ...] = (7, 2)
  latent_channels: int = 512
  vocab_size: int = 2048
  embedding_dim: int = 512
  resolution: int = 84
  norm_groups: int = 2
  encoder_field: str = 'frame'
  dtype: str = 'float32'

  def __post_init__(self):
    if self.encoder_field not in FIELDS:
      raise ValueError(
        f'encoder_field={self.encoder_field!r} is not in {FIELDS}'
      )

  @property
  def grid(self) -> int:
    """Height and width of the token grid."""
    return self.resolution // math.prod(self.downsample)

  @property
  def tokens_per_frame(self) -> int:
    return self.grid**2


def _torch_uniform(fan_in: int):
  """The framework default that the authors left on two convs."""

  def init(key, shape, dtype=jnp.float32):
    bound = fan_in**-0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init


def _named(init):
  """Names the axes of a convolution's kernel for the sharding rules."""
  return nn.with_logical_partitioning(init, (None, None, 'inputs', 'channels'))


def _conv(config: VQVAEConfig, features: int, kernel: int, **kwargs) -> nn.Conv:
  kwargs.setdefault('padding', kernel // 2)
  return nn.Conv(
    features,
    (kernel, kernel),
    dtype=config.dtype,
    kernel_init=_named(nn.initializers.orthogonal(math.sqrt(2))),
    **kwargs,
  )


def _codebook_conv(config: VQVAEConfig, fan_in: int, features: int) -> nn.Conv:
  return nn.Conv(
    features,
    (1, 1),
    dtype=config.dtype,
    kernel_init=_named(_torch_uniform(fan_in)),
    bias_init=_torch_uniform(fan_in),
  )


def _norm(config: VQVAEConfig) -> nn.GroupNorm:
  return nn.GroupNorm(
    config.norm_groups,
    epsilon=1e-6,
    dtype=config.dtype,
    use_fast_variance=False,
  )


class ResBlock(nn.Module):
  """GroupNorm-swish-conv twice around a skip connection of equal width."""

  config: VQVAEConfig

  def setup(self):
    self.norm1 = _norm(self.config)
    self.conv1 = _conv(self.config, self.config.channels, 3)
    self.norm2 = _norm(self.config)
    self.conv2 = _conv(self.config, self.config.channels, 3)

  def __call__(self, x):
    h = self.conv1(nn.swish(self.norm1(x)))
    return x + self.conv2(nn.swish(self.norm2(h)))


class AttnBlock(nn.Module):
  """Single-head self-attention over the positions of a feature map."""

  config: VQVAEConfig

  def setup(self):
    width = self.config.channels
    self.norm = _norm(self.config)
    self.q = _conv(self.config, width, 1)
    self.k = _conv(self.config, width, 1)
    self.v = _conv(self.config, width, 1)
    self.proj_out = _conv(self.config, width, 1)

  def __call__(self, x):
    h = self.norm(x)
    b, height, width, c = x.shape
    q, k, v = (f(h).reshape(b, -1, c) for f in (self.q, self.k, self.v))
    weights = jnp.einsum('bqc,bkc->bqk', q, k) * c**-0.5
    weights = nn.softmax(weights.astype(jnp.float32)).astype(v.dtype)
    h = jnp.einsum('bqk,bkc->bqc', weights, v)
    return x + self.proj_out(h.reshape(b, height, width, c))


class Middle(nn.Module):
  """Residual, attention, residual, at the coarsest resolution."""

  config: VQVAEConfig

  def setup(self):
    self.block_1 = ResBlock(self.config)
    self.attn_1 = AttnBlock(self.config)
    self.block_2 = ResBlock(self.config)

  def __call__(self, x):
    return self.block_2(self.attn_1(self.block_1(x)))


class Encoder(nn.Module):
  """Frames [N, R, R, 1] -> features [N, G, G, latent_channels]."""

  config: VQVAEConfig

  def setup(self):
    cfg = self.config
    levels = len(cfg.downsample) + 1
    self.conv_in = _conv(cfg, cfg.channels, 3)
    self.blocks = [
      [ResBlock(cfg, name=f'down_{i}_block_{j}') for j in range(cfg.res_blocks)]
      for i in range(levels)
    ]
    # Attention belongs to every resolution but the frame's own.
    self.attns = [
      [AttnBlock(cfg, name=f'down_{i}_attn_{j}') for j in range(cfg.res_blocks)]
      for i in range(1, levels)
    ]
    self.downsamples = [
      _conv(
        cfg,
        cfg.channels,
        factor + 1,
        strides=factor,
        padding='VALID',
        name=f'down_{i}_downsample_conv',
      )
      for i, factor in enumerate(cfg.downsample)
    ]
    self.mid = Middle(cfg)
    self.norm_out = _norm(cfg)
    self.conv_out = _conv(cfg, cfg.latent_channels, 3)

  def __call__(self, x):
    x = self.conv_in(x)
    for i, blocks in enumerate(self.blocks):
      for j, block in enumerate(blocks):
        x = block(x)
        if i > 0:
          x = self.attns[i - 1][j](x)
      if i < len(self.downsamples):
        # One pixel of zeros at the right and bottom, as the weights expect.
        x = self.downsamples[i](jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0))))
    return self.conv_out(nn.swish(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
  """Features [N, G, G, latent_channels] -> frames [N, R, R, 1]."""

  config: VQVAEConfig

  def setup(self):
    cfg = self.config
    levels = len(cfg.downsample) + 1
    self.conv_in = _conv(cfg, cfg.channels, 3)
    self.mid = Middle(cfg)
    self.blocks = [
      [
        ResBlock(cfg, name=f'up_{i}_block_{j}')
        for j in range(cfg.res_blocks + 1)
      ]
      for i in range(levels)
    ]
    self.upsamples = [
      _conv(cfg, cfg.channels, 3, name=f'up_{i}_upsample_conv')
      for i in range(1, levels)
    ]
    self.norm_out = _norm(cfg)
    self.conv_out = _conv(cfg, 1, 3)

  def __call__(self, x):
    x = self.mid(self.conv_in(x))
    # The released layout applies the factors in the encoder's order, not its
    # reverse: 6 -> 42 -> 84.
    factors = iter(self.config.downsample)
    for i in reversed(range(len(self.blocks))):
      for block in self.blocks[i]:
        x = block(x)
      if i > 0:
        factor = next(factors)
        x = jnp.repeat(jnp.repeat(x, factor, axis=1), factor, axis=2)
        x = self.upsamples[i - 1](x)
    return self.conv_out(nn.swish(self.norm_out(x)))


class GridDecoder(nn.Module):
  """Features [N, G, G, latent_channels] -> frames [N, R, R, 1], by patches."""

  config: VQVAEConfig

  @nn.compact
  def __call__(self, x):
    cfg = self.config
    x = _conv(cfg, cfg.channels, 1, name='conv_in')(x)
    # What stands still is told by where it is.
    place = nn.with_logical_partitioning(
      nn.initializers.normal(0.02), (None, None, 'channels')
    )
    shape = (cfg.grid, cfg.grid, cfg.channels)
    x = x + self.param('position', place, shape).astype(x.dtype)
    for i in range(cfg.res_blocks):
      x = ResBlock(cfg, name=f'block_{i}')(x)
    draw = patches.PatchDecoder(
      2 * cfg.channels, cfg.resolution, cfg.dtype, name='draw'
    )
    return draw(x)


class VQVAE(nn.Module):
  """The tokenizer. Frames are uint8, [..., R, R]; tokens int32, [..., G*G]."""

  config: VQVAEConfig

  def setup(self):
    cfg = self.config
    if cfg.encoder_field == 'patch':
      self.encoder = patches.PatchEncoder(
        2 * cfg.channels, cfg.latent_channels, cfg.dtype
      )
      self.decoder = GridDecoder(cfg)
    else:
      self.encoder = Encoder(cfg)
      self.decoder = Decoder(cfg)
    self.pre_quant_conv = _codebook_conv(
      cfg, cfg.latent_channels, cfg.embedding_dim
    )
    self.post_quant_conv = _codebook_conv(
      cfg, cfg.embedding_dim, cfg.latent_channels
    )
    bound = 1 / cfg.vocab_size

    def uniform(key, shape):
      return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

    self.codebook = self.param(
      'codebook',
      nn.with_logical_partitioning(uniform, ('vocab', 'embed')),
      (cfg.vocab_size, cfg.embedding_dim),
    )

  def latents(self, frames: chex.Array) -> chex.Array:
    """Pre-quantisation latents, [N, G*G, embedding_dim] float32.

    Args:
      frames: [N, R, R] uint8.
    """
    x = normalize_frames(frames)[..., None].astype(self.config.dtype)
    if self.config.encoder_field == 'patch':
      z = self.encoder(patches.cut(x, self.config.grid))  # [N * G * G, 1, 1, C]
      z = z.reshape(x.shape[0], *2 * (self.config.grid,), -1)
    else:
      z = self.encoder(x)
    z = self.pre_quant_conv(z)
    return z.reshape(z.shape[0], -1, z.shape[-1]).astype(jnp.float32)

  def quantize(self, latents: chex.Array) -> chex.Array:
    """The nearest codebook row of each latent, [N, G*G] int32."""
    # |z - e|^2 without the term that is the same for every code.
    distances = jnp.sum(self.codebook**2, axis=-1) - 2 * jnp.einsum(
      'nkd,vd->nkv', latents, self.codebook, precision='highest'
    )
    return jnp.argmin(distances, axis=-1).astype(jnp.int32)

  def embed(self, tokens: chex.Array) -> chex.Array:
    """The codebook rows of tokens."""
    return jnp.take(self.codebook, tokens, axis=0)

  def reconstruct(self, quantized: chex.Array) -> chex.Array:
    """Pixels in [-1, 1] (not clipped), [N, R, R] float32.

    Args:
      quantized: codebook rows, [N, G*G, embedding_dim].
    """
    n, grid = quantized.shape[0], self.config.grid
    x = quantized.reshape(n, grid, grid, -1).astype(self.config.dtype)
    x = self.decoder(self.post_quant_conv(x))
    return x[..., 0].astype(jnp.float32)

  def encode(self, frames: chex.Array) -> chex.Array:
    """Tokens [..., G*G] int32 of frames [..., R, R] uint8."""
    return _fold(lambda x: self.quantize(self.latents(x)), frames, 2)

  def decode(self, tokens: chex.Array) -> chex.Array:
    """Frames [..., R, R] uint8 of tokens [..., G*G]."""
    return _fold(lambda x: pixels(self.reconstruct(self.embed(x))), tokens, 1)

  def __call__(self, frames: chex.Array) -> chex.Array:
    return self.reconstruct(self.embed(self.encode(frames)))


def _fold(f, x, trailing: int):
  """Applies f to x with all but the trailing axes folded into one."""
  lead: Sequence[int] = x.shape[:-trailing]
  y = f(x.reshape(-1, *x.shape[-trailing:]))
  return y.reshape(*lead, *y.shape[1:])


def normalize_frames(frames: chex.Array) -> chex.Array:
  """Maps uint8 pixels to float32 in [-1, 1]."""
  return frames.astype(jnp.float32) / 255 * 2 - 1


def pixels(x: chex.Array) -> chex.Array:
  """Maps [-1, 1] to uint8, the inverse of `normalize_frames`."""
  return jnp.round((jnp.clip(x, -1, 1) + 1) * 127.5).astype(jnp.uint8)
