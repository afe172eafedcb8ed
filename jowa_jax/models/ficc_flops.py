"""Floating-point operations of FICC's forward passes, by formula.

Of convolutions and dense layers; every network by its name in the parameters.
"""

from jowa_jax import games
from jowa_jax.models.ficc import GRID, Q_HEAD, STACK, FiccNetwork
from jowa_jax.models.flops import linear


def _conv(side: int, inputs: int, outputs: int, size: int = 3) -> float:
  return linear(side**2, size**2 * inputs, outputs)


def _block(cfg: FiccNetwork, side: int, channels: int) -> float:
  """Those of a block that leaves the frame as large as it is."""
  if not cfg.bottleneck:
    return 2 * _conv(side, channels, channels)
  inner = channels // 4
  return 2 * _conv(side, channels, inner, 1) + _conv(side, inner, inner)


def _shrinking(cfg: FiccNetwork, side: int, channels: int) -> float:
  """Those of a block from half of the channels, at twice the side."""
  half, inner = channels // 2, channels // 4
  shortcut = _conv(side, half, channels)
  if not cfg.bottleneck:
    return (
      shortcut + _conv(side, half, channels) + _conv(side, channels, channels)
    )
  first, last = _conv(2 * side, half, inner, 1), _conv(side, inner, channels, 1)
  return shortcut + first + _conv(side, inner, inner) + last


def _encoder(cfg: FiccNetwork) -> float:
  """Those of one stack."""
  half, whole = cfg.channels // 2, cfg.channels
  return (
    _conv(42, STACK, half)
    + _block(cfg, 42, half)
    + _shrinking(cfg, 21, whole)
    + _block(cfg, 21, whole)
    + _block(cfg, 11, whole)
    + cfg.num_blocks * _block(cfg, GRID, whole)
  )


def _dynamics(cfg: FiccNetwork) -> float:
  inputs = cfg.channels + cfg.code_size
  return _conv(GRID, inputs, cfg.channels) + _block(cfg, GRID, cfg.channels)


def _inverse(cfg: FiccNetwork) -> float:
  return (
    2 * _conv(GRID, cfg.channels, cfg.channels)
    + _block(cfg, GRID, cfg.channels)
    + _conv(GRID, cfg.channels, cfg.code_size)
    + linear(1, GRID**2 * cfg.code_size, cfg.code_size)
  )


def _decoder(cfg: FiccNetwork, changes: bool) -> float:
  """Those of one state: a transposed convolution counts what comes in."""
  channels = cfg.decoder_channels or cfg.channels
  total = 0.0
  if cfg.decoder_channels:
    total += _conv(GRID, cfg.channels, channels, 1)
  for level in range(4):
    side = GRID * 2**level
    last = level == 3
    total += _conv(side, channels, channels) * (changes + 1 - changes * last)
    if changes or last:
      total += _conv(2 * side, channels, 2 if changes else 1)
  return total


def _projector(cfg: FiccNetwork) -> float:
  width, outputs = cfg.projection_width, cfg.projection_outputs
  inputs = GRID**2 * cfg.channels
  return (
    linear(1, inputs, width)
    + linear(1, width, width)
    + linear(1, width, outputs)
  )


def _predictor(cfg: FiccNetwork) -> float:
  return 2 * linear(1, cfg.projection_outputs, cfg.predictor_width)


def watching(cfg: FiccNetwork, steps: int) -> dict[str, float]:
  """Those of a window of `steps`."""
  pairs = steps - 1
  return {
    'encoder': (steps + 1) * _encoder(cfg),
    'inverse': pairs * _inverse(cfg),
    'dynamics': pairs * _dynamics(cfg),
    'change_dynamics': pairs * _dynamics(cfg),
    'drawn_state': steps * _block(cfg, GRID, cfg.channels),
    'decoder': steps * _decoder(cfg, False),
    'change_decoder': pairs * _decoder(cfg, True),
    'projector': 2 * pairs * _projector(cfg),
    'predictor': pairs * _predictor(cfg),
  }


def mapping(cfg: FiccNetwork, steps: int) -> dict[str, float]:
  """Those of a window whose actions are mapped."""
  pairs = steps - 1
  return {
    'encoder': steps * _encoder(cfg),
    'inverse': pairs * _inverse(cfg),
    'dynamics': pairs * _dynamics(cfg),
    'projector': 2 * pairs * _projector(cfg),
    'predictor': pairs * _predictor(cfg),
  }


def q_learning(cfg: FiccNetwork, steps: int, atoms: int) -> dict[str, float]:
  """Those of a window, by Q and by what it is trained towards."""
  outputs = games.NUM_ACTIONS * atoms
  inputs = GRID**2 * cfg.channels
  head = linear(1, inputs, cfg.head_width) + linear(1, cfg.head_width, outputs)
  return {
    'encoder': steps * _encoder(cfg),
    Q_HEAD: steps * head,
    'target_encoder': steps * _encoder(cfg),
    'target_q_head': steps * head,
  }
