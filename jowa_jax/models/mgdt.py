"""MGDT, the multi-game decision transformer (Lee et al., 2022).

A step is 39 tokens: 36 patches of the frame, the return from there on, the
action and the reward's sign. Only the first return of a window is told, and
what is read at a place says what stands at the next one: at a frame's last
patch the return, at the return the action, at the action the reward.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from jowa_jax.models.frame_tokens import (
  FrameBackbone,
  FrameTokens,
  step_mask,
)
from jowa_jax.models.kv_cache import Span
from jowa_jax.models.transformer import (
  CUT_DEVIATION,
  Dense,
  TransformerConfig,
  run_layers,
)
from jowa_jax.types import FRAME_SHAPE, Params

# Told after the patches, in this order: return, action, reward.
TOLD = 3
# No reward, a positive one, the end of an episode (never used), a negative one.
NUM_REWARD_CLASSES = 4
_REWARD_CLASSES = (3, 0, 1)  # of the signs -1, 0 and 1
BACKBONE, HEADS = 'backbone', 'heads'


@dataclasses.dataclass(frozen=True)
class MgdtBackbone(FrameBackbone):
  """Sizes of the network; dropout is on both residual branches' outputs.

  A window has `steps` steps, not fewer.

  Attributes:
    return_min: least return that is told apart.
    return_bins: returns that are told apart, whole numbers from `return_min`
      on; others count as the nearest of these.
  """

  TOLD: ClassVar[int] = TOLD

  return_min: int = -20
  return_bins: int = 121

  def __post_init__(self):
    super().__post_init__()
    if self.return_bins < 2:
      raise ValueError(
        f'return_bins={self.return_bins} tell no returns apart: give at least 2'
      )

  @property
  def return_range(self) -> tuple[int, int]:
    """The lowest and the highest return that is told apart."""
    return self.return_min, self.return_min + self.return_bins - 1

  @property
  def trunk(self) -> TransformerConfig:
    return self.trunk_of(
      norm='pre',
      gelu='tanh',
      init='fan_in',
      init_scale=2 / self.num_layers,
    )

  def ends(self, dtype: str) -> TransformerConfig:
    """Layers before and after the trunk's, computed in a type of their own.

    They are drawn with a deviation of 1 / sqrt(inputs), then cut.
    """
    scale = CUT_DEVIATION**2
    return dataclasses.replace(self.trunk, init_scale=scale, dtype=dtype)


class Window(NamedTuple):
  """What the network reads of B windows of T steps."""

  frames: chex.Array  # [B, T, H, W], pixels of 0 to 255
  returns: chex.Array  # [B] int32, bins, from the first step on
  actions: chex.Array  # [B, T] int32
  rewards: chex.Array  # [B, T], of which the sign is read


class Logits(NamedTuple):
  """What is expected at every step."""

  returns: chex.Array  # [B, T, bins] float32, from this step on
  actions: chex.Array  # [B, T, A] float32
  rewards: chex.Array  # [B, T, 4] float32, see `reward_classes`


def return_bins(config: MgdtBackbone, returns: chex.Array) -> chex.Array:
  """Bins [...] int32 of returns: fractions are cut off, extremes clipped."""
  bins = jnp.trunc(returns).astype(jnp.int32) - config.return_min
  return jnp.clip(bins, 0, config.return_bins - 1)


def reward_classes(rewards: chex.Array) -> chex.Array:
  """Classes [...] int32 of the signs of rewards."""
  signs = jnp.sign(rewards).astype(jnp.int32)
  return jnp.asarray(_REWARD_CLASSES, jnp.int32)[signs + 1]


class Backbone(nn.Module):
  """Windows -> final hidden states."""

  config: MgdtBackbone

  @nn.compact
  def __call__(
    self,
    window: Window,
    places: slice = slice(None),
    spans: Sequence[Span] = (),
    *,
    deterministic: bool = True,
  ) -> tuple[chex.Array, Span]:
    """Runs the tokens of some places.

    Args:
      window: of the configured number of steps; only what stands at the places
        is read.
      places: of the tokens to run.
      spans: keys and values of tokens before them that all of them may read.
      deterministic: no dropout (otherwise the rng 'dropout' is used).

    Returns:
      Hidden states [B, N, D], and the tokens' keys and values.
    """
    cfg = self.config
    x = self._embed(window)
    batch, steps, block = x.shape[:3]
    x = x.reshape(batch, steps * block, -1)[:, places]
    mask = step_mask(steps, block - TOLD, block)[:, places, places]
    return run_layers(
      cfg.trunk,
      x.astype(cfg.dtype),
      mask=jnp.asarray(mask),
      spans=spans,
      deterministic=deterministic,
    )

  def _embed(self, window: Window) -> chex.Array:
    """Tokens by step, [B, T, block, D] float32."""
    cfg = self.config

    def table(name, rows, axis):
      init = nn.initializers.truncated_normal(0.02)
      init = nn.with_logical_partitioning(init, (axis, 'embed'))
      return self.param(name, init, (rows, cfg.width))

    frames = FrameTokens(cfg.ends(cfg.dtype), cfg.patch, name='frames')
    x = frames(window.frames)
    steps, block = x.shape[1], x.shape[2] + TOLD
    if steps != cfg.steps:
      raise ValueError(f'{steps} steps, but a window has steps={cfg.steps}')
    positions = table('positions', steps * block, 'positions')
    positions = positions.reshape(steps, block, cfg.width)
    returns = table('returns', cfg.return_bins, 'returns')[window.returns]
    actions = table('actions', cfg.num_actions, 'actions')[window.actions]
    rewards = table('rewards', NUM_REWARD_CLASSES, 'classes')[
      reward_classes(window.rewards)
    ]
    # The later returns are nothing at all, their places included: as keys they
    # are masked, and as queries they must not know which step they are of.
    first = jnp.arange(steps)[:, None] == 0
    told = positions[:, block - TOLD] + returns[:, None]
    told = [
      jnp.where(first, told, 0),
      positions[:, block - 2] + actions,
      positions[:, block - 1] + rewards,
    ]
    seen = x + positions[:, : block - TOLD]
    return jnp.concatenate([seen, jnp.stack(told, axis=2)], axis=2)


class Heads(nn.Module):
  """A linear layer for each kind of what is expected, in float32."""

  config: MgdtBackbone

  def setup(self):
    cfg = self.config.ends('float32')

    def linear(outputs, axis):
      return Dense(cfg, (outputs,), ('embed', axis))

    self.returns = linear(self.config.return_bins, 'returns')
    self.actions = linear(self.config.num_actions, 'actions')
    self.rewards = linear(NUM_REWARD_CLASSES, 'classes')

  def __call__(self, hidden: chex.Array) -> Logits:
    """Reads the hidden states [B, T, block, D] of whole windows."""
    return_place = hidden.shape[2] - TOLD
    return Logits(
      returns=self.at_frame(hidden[:, :, return_place - 1]),
      actions=self.at_return(hidden[:, :, return_place]),
      rewards=self.rewards(_single(hidden[:, :, return_place + 1])),
    )

  def at_frame(self, hidden: chex.Array) -> chex.Array:
    """Logits [..., bins] of the return, at a frame's last patch."""
    return self.returns(_single(hidden))

  def at_return(self, hidden: chex.Array) -> chex.Array:
    """Logits [..., A] of the action, at the return before it."""
    return self.actions(_single(hidden))


def _single(hidden):
  return hidden.astype(jnp.float32)


def init(config: MgdtBackbone, key: chex.PRNGKey) -> dict[str, Params]:
  """Fresh parameters, boxed with logical axis names."""
  keys = jax.random.split(key)
  steps = jnp.zeros((1, config.steps), jnp.int32)
  frames = jnp.zeros((1, config.steps, *FRAME_SHAPE), jnp.uint8)
  window = Window(frames, steps[:, 0], steps, steps)
  hidden = jnp.zeros((1, 1, config.block_size, config.width))
  return {
    BACKBONE: Backbone(config).init(keys[0], window)['params'],
    HEADS: Heads(config).init(keys[1], hidden)['params'],
  }


def expectations(
  config: MgdtBackbone,
  params: dict[str, Params],
  window: Window,
  key: chex.PRNGKey | None = None,
) -> Logits:
  """What is expected at every step of B windows.

  Args:
    config: sizes.
    params: from `init`.
    window: what is read.
    key: of dropout; None for none.
  """
  hidden, _ = Backbone(config).apply(
    {'params': params[BACKBONE]},
    window,
    deterministic=key is None,
    rngs=None if key is None else {'dropout': key},
  )
  hidden = hidden.reshape(len(hidden), config.steps, -1, config.width)
  return Heads(config).apply({'params': params[HEADS]}, hidden)


def _head(config, params, hidden, read: Any) -> chex.Array:
  return Heads(config).apply({'params': params[HEADS]}, hidden, method=read)


def expected_return(
  config: MgdtBackbone, params: dict[str, Params], window: Window
) -> tuple[chex.Array, Span]:
  """Logits [B, bins] of the return from a window's first step on.

  The first frame's patches see nothing after them: they are all that is run.

  Returns:
    The logits, and the patches' keys and values for `last_action`.
  """
  hidden, span = Backbone(config).apply(
    {'params': params[BACKBONE]}, window, slice(_patches(config, window))
  )
  return _head(config, params, hidden[:, -1], Heads.at_frame), span


def last_action(
  config: MgdtBackbone, params: dict[str, Params], window: Window, span: Span
) -> chex.Array:
  """Logits [B, A] of the last step's action.

  Args:
    config: sizes.
    params: from `init`.
    window: with the return that is wished for.
    span: of its first frame, from `expected_return`.
  """
  patches = _patches(config, window)
  # What follows the last return is not known yet, and not read.
  stop = (config.steps - 1) * (patches + TOLD) + patches + 1
  hidden, _ = Backbone(config).apply(
    {'params': params[BACKBONE]}, window, slice(patches, stop), (span,)
  )
  return _head(config, params, hidden[:, -1], Heads.at_return)


def _patches(config: MgdtBackbone, window: Window) -> int:
  height, width = window.frames.shape[-2:]
  return (height // config.patch) * (width // config.patch)
