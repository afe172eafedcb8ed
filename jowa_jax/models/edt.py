"""EDT, the elastic decision transformer (Wu et al., 2023), on frames.

A step is the patches of its frame, the return from there on and the action.
At a frame's last patch the network expects the return, as classes and as a high
expectile; at the return the action, and from both the next frame. Where the
authors' program has one token of a state vector, here are MGDT's patches.
"""

import dataclasses
import math
from typing import ClassVar, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from jowa_jax.models.frame_tokens import (
  FrameBackbone,
  FrameTokens,
  step_mask,
)
from jowa_jax.models.transformer import (
  Dense,
  TransformerConfig,
  layer_norm,
  normal,
  run_layers,
)
from jowa_jax.types import FRAME_SHAPE, Params

# Told after the patches, in this order: return, action.
TOLD = 2
BACKBONE, HEADS = 'backbone', 'heads'


@dataclasses.dataclass(frozen=True)
class EdtBackbone(FrameBackbone):
  """Sizes of the network; dropout is on the heads' outputs, and in the MLP.

  Attributes:
    return_min: the lowest return that is told apart.
    return_max: the highest one.
    return_bins: classes of returns, evenly spaced from one to the other.
    return_scale: points of return in a unit of the expectile head.
  """

  TOLD: ClassVar[int] = TOLD

  return_min: float = -20.0
  return_max: float = 100.0
  return_bins: int = 60
  return_scale: float = 1000.0

  def __post_init__(self):
    super().__post_init__()
    if self.return_scale <= 0:
      raise ValueError(f'return_scale={self.return_scale} is not positive')
    if self.return_bins < 2 or self.return_min >= self.return_max:
      raise ValueError(
        f'return_bins={self.return_bins} from return_min={self.return_min} to '
        f'return_max={self.return_max} tell no returns apart: give at least 2 '
        'of a rising range'
      )

  @property
  def return_range(self) -> tuple[float, float]:
    """The lowest and the highest return that is told apart."""
    return self.return_min, self.return_max

  @property
  def trunk(self) -> TransformerConfig:
    return self.trunk_of(
      norm='post',
      gelu='exact',
      heads_dropout=self.dropout,
      init='uniform',
      init_scale=1.0,
    )


class Window(NamedTuple):
  """What the network reads of B windows of T steps."""

  frames: chex.Array  # [B, T, H, W], pixels of 0 to 255
  returns: chex.Array  # [B, T] int32, bins, from each step on
  actions: chex.Array  # [B, T] int32


class Outputs(NamedTuple):
  """What is expected at every step, float32."""

  returns: chex.Array  # [B, T, bins] logits, from this step on
  expectiles: chex.Array  # [B, T], of the return, over `return_scale`
  actions: chex.Array  # [B, T, A] logits
  frames: chex.Array  # [B, T, H * W], the next one, in [0, 1]


def return_bins(config: EdtBackbone, returns: chex.Array) -> chex.Array:
  """Bins [...] int32 of returns, the nearest below; extremes are clipped."""
  low, high = config.return_min, config.return_max
  returns = jnp.clip(jnp.asarray(returns, jnp.float32), low, high)
  places = (returns - low) * (config.return_bins - 1) / (high - low)
  return jnp.floor(places).astype(jnp.int32)


class Backbone(nn.Module):
  """Windows -> final hidden states [B, T, block, D]."""

  config: EdtBackbone

  @nn.compact
  def __call__(self, window: Window, deterministic: bool = True) -> chex.Array:
    cfg = self.config
    x = self._embed(window)
    batch, steps, block = x.shape[:3]
    x = x.reshape(batch, steps * block, -1)
    x = layer_norm('embed_ln', cfg.dtype)(x)
    hidden, _ = run_layers(
      cfg.trunk,
      x,
      mask=jnp.asarray(step_mask(steps, block - TOLD, block)),
      deterministic=deterministic,
    )
    return hidden.reshape(batch, steps, block, -1)

  def _embed(self, window: Window) -> chex.Array:
    """Tokens by step, [B, T, block, D] float32."""
    cfg = self.config

    def table(name, rows, axis):
      return self.param(name, normal(1.0, axis, 'embed'), (rows, cfg.width))

    frames = FrameTokens(cfg.trunk, cfg.patch, name='frames')(window.frames)
    half = cfg.return_bins / 2
    scalars = (window.returns.astype(jnp.float32) - half) / half
    returns = Dense(
      cfg.trunk, (cfg.width,), ('pixels', 'embed'), name='returns'
    )(scalars[..., None])
    actions = table('actions', cfg.num_actions, 'actions')[window.actions]
    steps = frames.shape[1]
    times = table('times', cfg.steps, 'positions')[:steps, None]
    told = jnp.stack([returns.astype(jnp.float32), actions], axis=2)
    return jnp.concatenate([frames, told], axis=2) + times


class Heads(nn.Module):
  """A linear layer for each kind of what is expected, in float32.

  Attributes:
    config: sizes.
    pixels: of a frame.
  """

  config: EdtBackbone
  pixels: int = math.prod(FRAME_SHAPE)

  def setup(self):
    cfg = dataclasses.replace(self.config.trunk, dtype='float32')

    def linear(outputs, axis):
      return Dense(cfg, (outputs,), ('embed', axis))

    self.returns = linear(self.config.return_bins, 'returns')
    self.expectile = linear(1, 'classes')
    self.actions = linear(self.config.num_actions, 'actions')
    self.frames = linear(self.pixels, 'pixels')

  def __call__(self, hidden: chex.Array) -> Outputs:
    """Reads the hidden states [B, T, block, D] of windows."""
    returns, expectiles, actions = self.decision(hidden)
    at_return = hidden[:, :, -TOLD].astype(jnp.float32)
    # From the action that is expected, not the one that was taken: it is so in
    # the authors' program.
    read = jnp.concatenate([at_return, actions], axis=-1)
    return Outputs(returns, expectiles, actions, self.frames(read))

  def decision(
    self, hidden: chex.Array
  ) -> tuple[chex.Array, chex.Array, chex.Array]:
    """The outputs that are acted by: returns, expectiles and actions."""
    hidden = hidden.astype(jnp.float32)
    seen = hidden[:, :, -TOLD - 1]
    expectiles = self.expectile(seen)[..., 0]
    return self.returns(seen), expectiles, self.actions(hidden[:, :, -TOLD])


def init(config: EdtBackbone, key: chex.PRNGKey) -> dict[str, Params]:
  """Fresh parameters, boxed with logical axis names."""
  keys = jax.random.split(key)
  steps = jnp.zeros((1, config.steps), jnp.int32)
  frames = jnp.zeros((1, config.steps, *FRAME_SHAPE), jnp.uint8)
  hidden = jnp.zeros((1, 1, config.block_size, config.width))
  window = Window(frames, steps, steps)
  return {
    BACKBONE: Backbone(config).init(keys[0], window)['params'],
    HEADS: Heads(config).init(keys[1], hidden)['params'],
  }


def _hidden(config, params, window, key=None):
  return Backbone(config).apply(
    {'params': params[BACKBONE]},
    window,
    deterministic=key is None,
    rngs=None if key is None else {'dropout': key},
  )


def outputs(
  config: EdtBackbone,
  params: dict[str, Params],
  window: Window,
  key: chex.PRNGKey | None = None,
) -> Outputs:
  """What is expected at every step of B windows.

  Args:
    config: sizes.
    params: from `init`.
    window: what is read.
    key: of dropout; None for none.
  """
  hidden = _hidden(config, params, window, key)
  heads = Heads(config, math.prod(window.frames.shape[-2:]))
  return heads.apply({'params': params[HEADS]}, hidden)


def decision_outputs(
  config: EdtBackbone, params: dict[str, Params], window: Window
) -> tuple[chex.Array, chex.Array, chex.Array]:
  """The `Outputs` that are acted by: returns, expectiles and actions."""
  hidden = _hidden(config, params, window)
  return Heads(config).apply(
    {'params': params[HEADS]}, hidden, method=Heads.decision
  )
