"""FICC's networks: latent actions and dynamics from watching (Ye et al., 2023).

An encoder of stacks of frames, an inverse model that tells which of a few
latent actions lies between two states, and forward dynamics by it. Decoders
and a projection are for training; the Q head is the paper's baseline's.
"""

import dataclasses
from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jowa_jax import games
from jowa_jax.models.ficc_blocks import (
  FAST,
  SLOW,
  STATISTICS,
  Layers,
  Perceptron,
  Upward,
  halved,
  quantised,
  straight_through,
  uniform_codes,
)
from jowa_jax.types import FRAME_SHAPE, Params

STACK = 4  # frames
GRID = 6  # height and width of a state
CANVAS = 96  # height and width of what is drawn
# Top-level names of parameters, each a group of its own to the optimizer.
VIDEO = (
  'encoder',
  'inverse',
  'dynamics',
  'change_dynamics',
  'drawn_state',
  'decoder',
  'change_decoder',
  'projector',
  'predictor',
)
Q_HEAD = 'q_head'


@dataclasses.dataclass(frozen=True)
class FiccNetwork:
  """Sizes of the networks.

  Attributes:
    channels: of a state, 6x6.
    num_blocks: residual blocks at the encoder's end.
    bottleneck: blocks of three convolutions, see `ficc_blocks.Layers`.
    num_codes: latent actions.
    code_size: numbers of each.
    projection_width: of the projector's hidden layers.
    projection_outputs: numbers that predictions are compared by.
    predictor_width: of its hidden layer.
    decoder_channels: what decoders narrow a state to; 0 leaves it as it is.
    head_width: of the Q head's hidden layer.
    remat: whether decoders are computed again in the backward pass, for memory.
    dtype: of the computation; parameters are float32.
  """

  channels: int = 64
  num_blocks: int = 1
  bottleneck: bool = False
  num_codes: int = 20
  code_size: int = 5
  projection_width: int = 512
  projection_outputs: int = 512
  predictor_width: int = 256
  decoder_channels: int = 0
  head_width: int = 512
  remat: bool = False
  dtype: str = 'float32'

  def __post_init__(self):
    for name in ('channels', 'num_blocks', 'num_codes', 'code_size'):
      if getattr(self, name) < 1:
        raise ValueError(f'{name}={getattr(self, name)} is not positive')
    if self.decoder_channels < 0:
      raise ValueError(f'decoder_channels={self.decoder_channels} is negative')
    divisor = 8 if self.bottleneck else 2
    if self.channels % divisor:
      raise ValueError(
        f'channels={self.channels} must be a multiple of {divisor}: the '
        'encoder begins with half of them, and a bottleneck has a quarter'
      )

  @property
  def layers(self) -> Layers:
    return Layers(self.bottleneck, self.dtype)


class Encoder(nn.Module):
  """Stacks [T, B, 84, 84, 4] in [0, 1] -> states [T, B, 6, 6, C]."""

  config: FiccNetwork

  def setup(self):
    cfg, layers = self.config, self.config.layers
    half = cfg.channels // 2
    self.conv, self.norm = layers.conv(half, stride=2), layers.norm(SLOW)
    self.fine = layers.block(half, SLOW)
    self.down = layers.block(cfg.channels, SLOW, shrinks=True)
    self.middle = layers.block(cfg.channels, SLOW)
    self.coarse = layers.block(cfg.channels, SLOW)
    self.last = [
      layers.block(cfg.channels, SLOW) for _ in range(cfg.num_blocks)
    ]

  def __call__(self, x: chex.Array, train: bool) -> chex.Array:
    x = nn.relu(self.norm(self.conv(x), train))
    x = self.down(self.fine(x, train), train)
    x = halved(self.middle(x, train))
    x = halved(self.coarse(x, train))
    for block in self.last:
      x = block(x, train)
    return x


class Inverse(nn.Module):
  """Pairs of states -> numbers [T, B, D] before they are quantised."""

  config: FiccNetwork

  def setup(self):
    cfg, layers = self.config, self.config.layers
    self.before = layers.conv(cfg.channels)
    self.after = layers.conv(cfg.channels)
    self.block = layers.block(cfg.channels, FAST)
    self.narrow = layers.conv(cfg.code_size)
    self.dense = layers.dense(cfg.code_size, of_grid=True)
    self.norm = layers.norm(FAST, affine=False)
    self.codes = self.param(
      'codes', uniform_codes, (cfg.num_codes, cfg.code_size)
    )

  def __call__(self, before: chex.Array, after: chex.Array, train: bool):
    x = self.block(nn.relu(self.before(before) + self.after(after)), train)
    x = self.narrow(x)
    x = self.dense(x.reshape(*x.shape[:2], -1))
    return self.norm(x, train).astype(jnp.float32)

  def quantise(self, latents: chex.Array) -> tuple[chex.Array, chex.Array]:
    return quantised(self.codes, latents)


class Dynamics(nn.Module):
  """States [T, B, 6, 6, C] and latent actions [T, B, D] -> next states."""

  config: FiccNetwork

  def setup(self):
    cfg, layers = self.config, self.config.layers
    self.conv, self.norm = layers.conv(cfg.channels), layers.norm(SLOW)
    self.block = layers.block(cfg.channels, FAST)

  def __call__(self, states: chex.Array, latents: chex.Array, train: bool):
    planes = latents[:, :, None, None].astype(states.dtype)
    planes = jnp.broadcast_to(planes, (*states.shape[:-1], planes.shape[-1]))
    x = self.conv(jnp.concatenate([states, planes], axis=-1))
    return self.block(nn.relu(self.norm(x, train) + states), train)


class Decoder(nn.Module):
  """States -> logits of a frame's pixels, or of changes at four scales.

  Attributes:
    config: sizes.
    changes: logits of pixels that brighten and darken, [T, B, S, S, 2] for S of
      12, 24, 48 and 96, in place of those of pixels, [T, B, 96, 96].
  """

  config: FiccNetwork
  changes: bool = False

  def setup(self):
    cfg, layers = self.config, self.config.layers
    channels = cfg.decoder_channels or cfg.channels
    if cfg.decoder_channels:
      self.narrow = layers.conv(channels, 1)
    self.trunk = [Upward(layers, channels) for _ in range(3)]
    ends = 4 if self.changes else 1
    self.ends = [Upward(layers, channels) for _ in range(ends)]
    outputs = 2 if self.changes else 1
    self.outputs = [layers.conv(outputs, bias=True) for _ in range(ends)]

  def __call__(self, x: chex.Array, train: bool):
    if self.config.decoder_channels:
      x = self.narrow(x)
    scales = [x]
    for up in self.trunk:
      scales.append(up(scales[-1], train))
    logits = [
      output(end(scale, train)).astype(jnp.float32)
      for scale, end, output in zip(
        scales[-len(self.ends) :], self.ends, self.outputs, strict=True
      )
    ]
    return tuple(logits) if self.changes else logits[0][..., 0]


class QHead(nn.Module):
  """States [T, B, 6, 6, C] -> logits of returns [T, B, A * atoms]."""

  config: FiccNetwork
  num_outputs: int

  @nn.compact
  def __call__(self, states: chex.Array) -> chex.Array:
    layers = self.config.layers
    x = states.reshape(*states.shape[:2], -1)
    x = layers.dense(self.config.head_width, of_grid=True)(x)
    x = nn.LayerNorm(epsilon=1e-5, dtype=self.config.dtype)(x)
    x = x * jnp.tanh(nn.softplus(x))
    x = layers.dense(self.num_outputs, follows=True)(x)
    return x.astype(jnp.float32)


class Watched(NamedTuple):
  """What the networks make of T steps of B windows, T first."""

  states: chex.Array  # [T, B, 6, 6, C], encoded
  unrolled: chex.Array  # [T, B, 6, 6, C], from the first by latent actions
  latents: chex.Array  # [T - 1, B, D], before they are quantised
  rows: chex.Array  # [T - 1, B, D], the codes that they are quantised to
  codes: chex.Array  # [T - 1, B] int32, their numbers
  frames: chex.Array  # [T, B, 96, 96], logits of what is drawn of `unrolled`
  # [T - 1, B, S, S, 2], logits of what brightens and darkens at every step,
  # for S of 12, 24, 48 and 96
  changes: tuple[chex.Array, ...]
  targets: chex.Array  # [T - 1, B, P], of `states`, projected; no gradients
  predicted: chex.Array  # [T - 1, B, P], from `unrolled`


class Networks(nn.Module):
  """All networks; every method runs those that it needs.

  Attributes:
    config: sizes.
    num_atoms: of the returns of Q.
  """

  config: FiccNetwork
  num_atoms: int = 51

  def setup(self):
    cfg, layers = self.config, self.config.layers
    decoder = Decoder
    if cfg.remat:
      decoder = nn.remat(Decoder, static_argnums=(2,))
    self.encoder, self.inverse = Encoder(cfg), Inverse(cfg)
    self.dynamics, self.change_dynamics = Dynamics(cfg), Dynamics(cfg)
    self.drawn_state = layers.block(cfg.channels, FAST)
    self.decoder, self.change_decoder = decoder(cfg), decoder(cfg, True)
    width, outputs = cfg.projection_width, cfg.projection_outputs
    self.projector = Perceptron(layers, (width, width, outputs), True, True)
    self.predictor = Perceptron(layers, (cfg.predictor_width, outputs), False)
    self.q_head = QHead(cfg, games.NUM_ACTIONS * self.num_atoms)

  def encode(self, stacks: chex.Array, train: bool = False) -> chex.Array:
    """The states [T, B, 6, 6, C] of stacks [T, B, 84, 84, 4] in [0, 1]."""
    return self.encoder(stacks.astype(self.config.dtype), train)

  def q(self, stacks: chex.Array, train: bool = False) -> chex.Array:
    """Logits of returns [T, B, A * atoms] at stacks."""
    return self.q_head(self.encode(stacks, train))

  def infer(self, before: chex.Array, after: chex.Array, train: bool = False):
    """(latents, codes, rows) of what happened between states."""
    latents = self.inverse(before, after, train)
    codes, rows = self.inverse.quantise(latents)
    return latents, codes, rows

  def forward(self, states: chex.Array, latents: chex.Array) -> chex.Array:
    """The states after latent actions."""
    return self.dynamics(states, latents, False)

  def draw(self, states: chex.Array) -> chex.Array:
    """The frames of states, shares of the largest pixel, [T, B, 96, 96]."""
    drawn = self.drawn_state(states, False)
    logits = self.decoder(_at_once(drawn), False)
    return nn.sigmoid(_by_step(logits, len(states)))

  def compare(self, states: chex.Array, predicted: chex.Array, train: bool):
    """(targets, predictions) [T, B, P] of states that are predicted."""
    both = jnp.stack([states, predicted], axis=1)  # a target before its own
    both = both.reshape(-1, *both.shape[2:3], GRID**2 * both.shape[-1])
    projected = self.projector(both, train).astype(jnp.float32)
    targets = lax.stop_gradient(projected[::2])
    predicted = self.predictor(projected[1::2], train)
    return targets, predicted.astype(jnp.float32)

  def watch(
    self, stacks: chex.Array, start: chex.Array, train: bool
  ) -> Watched:
    """Unrolls T - 1 latent actions, inferred from the T states themselves.

    Args:
      stacks: [T, B, 84, 84, 4] in [0, 1].
      start: [B, 84, 84, 4], the first of them as the unrolling reads it.
      train: whether norms are by the batch.
    """
    encoded = self.encode(jnp.concatenate([stacks, start[None]]), train)
    states, state = encoded[:-1], encoded[-1:]
    latents, codes, rows = self.infer(states[:-1], states[1:], train)
    actions = straight_through(latents, rows)
    unrolled = [state]
    for t in range(len(actions)):
      state = self.dynamics(state, actions[t : t + 1], train)
      unrolled.append(state)
    unrolled = jnp.concatenate(unrolled)
    changed = self.change_dynamics(unrolled[:-1], actions, train)
    drawn = self.drawn_state(unrolled, train)
    targets, predicted = self.compare(states[1:], unrolled[1:], train)
    frames = self.decoder(_at_once(drawn), train)
    changes = self.change_decoder(_at_once(changed), train)
    steps = len(stacks)
    return Watched(
      states=states,
      unrolled=unrolled,
      latents=latents,
      rows=rows,
      codes=codes,
      frames=_by_step(frames, steps),
      changes=tuple(_by_step(each, steps - 1) for each in changes),
      targets=targets,
      predicted=predicted,
    )

  def everything(self, stacks: chex.Array):
    """All networks once, to make their parameters."""
    return self.watch(stacks, stacks[0], True), self.q_head(
      self.encode(stacks, True)
    )


def _at_once(x: chex.Array) -> chex.Array:
  """Steps [T, B, ...] as one batch, [1, T * B, ...]."""
  return x.reshape(1, -1, *x.shape[2:])


def _by_step(x: chex.Array, steps: int) -> chex.Array:
  return x.reshape(steps, -1, *x.shape[2:])


def init(networks: Networks, key: chex.PRNGKey) -> dict[str, Params]:
  """Fresh parameters, boxed with logical axis names, and `statistics`."""
  stacks = jnp.zeros((2, 1, *FRAME_SHAPE, STACK))
  variables = networks.init(key, stacks, method='everything')
  return {**variables['params'], STATISTICS: variables[STATISTICS]}


def run(networks: Networks, params: dict[str, Params], method: str, *args):
  """What a method of `Networks` answers, in mode of play.

  Args:
    networks: sizes.
    params: from `init`, those that the method needs.
    method: its name.
    *args: its own.
  """
  return networks.apply(_split(params), *args, method=method)


def run_and_note(
  networks: Networks, params: dict[str, Params], method: str, *args
):
  """(what a method answers, the running statistics after it)."""
  answer, changed = networks.apply(
    _split(params), *args, method=method, mutable=[STATISTICS]
  )
  statistics = jax.tree.map(lax.stop_gradient, changed[STATISTICS])
  return answer, statistics


def _split(params: dict[str, Params]) -> dict[str, Params]:
  trained = {name: each for name, each in params.items() if name != STATISTICS}
  return {'params': trained, STATISTICS: params[STATISTICS]}
