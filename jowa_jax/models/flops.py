"""Floating-point operations of a forward pass, by formula.

A product with a weight takes two operations for every token; the backward pass
takes twice that, see `train.state.stage_flops`. Counted are the transformer and
its heads: what a step has to compute, whatever the program computes again. The
tokenizer's convolutions are not; the compiler counts all (`devices.cost`).
"""

from typing import Protocol

from jowa_jax.models.backbone import BackboneConfig
from jowa_jax.models.frame_tokens import FrameBackbone
from jowa_jax.models.heads import NUM_REWARD_CLASSES, HeadSizes


class Sizes(Protocol):
  """What every backbone has: layers, their width and tokens of a segment."""

  @property
  def num_layers(self) -> int: ...

  @property
  def width(self) -> int: ...

  @property
  def max_tokens(self) -> int: ...


def backbone(cfg: Sizes) -> float:
  """Those of a segment's forward pass."""
  tokens = cfg.max_tokens
  # Products of queries with keys and of weights with values, all of them once:
  # blocks leave most of what is masked out, and make scores again to go back.
  attention = 4 * tokens * cfg.width
  return cfg.num_layers * tokens * (2 * 12 * cfg.width**2 + attention)


def frame_backbone(cfg: FrameBackbone) -> float:
  """Those of a segment's forward pass, the embedding of patches included."""
  count = cfg.steps * cfg.tokens_per_frame
  return backbone(cfg) + linear(count, cfg.patch**2, cfg.width)


def linear(count: int, inputs: int, outputs: int) -> float:
  """Those of a linear layer that is computed `count` times."""
  return 2.0 * count * inputs * outputs


def world_heads(cfg: BackboneConfig) -> float:
  """Those of a segment's forward pass."""

  def head(outputs: int) -> float:
    return 2 * cfg.width * (cfg.width + outputs)

  observations = cfg.tokens_per_frame * head(cfg.vocab_size)
  return cfg.max_blocks * (observations + head(NUM_REWARD_CLASSES) + head(2))


def ensemble(cfg: BackboneConfig, sizes: HeadSizes, outputs: int) -> float:
  """Those of a segment's forward pass through Q or policy heads."""
  weights = sizes.width * (cfg.width + sizes.width + outputs)
  return cfg.max_blocks * 2 * sizes.num_heads * weights
