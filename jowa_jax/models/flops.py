"""Floating-point operations of a forward pass, by formula.

A product with a weight takes two operations for every token; the backward pass
takes twice that, see `train.state.stage_flops`. Counted are the transformer and
its heads: what a step has to compute, whatever the program computes again. The
tokenizer's convolutions are not; the compiler counts all (`devices.cost`).
"""

from jowa_jax.models.backbone import BackboneConfig
from jowa_jax.models.heads import NUM_REWARD_CLASSES, HeadSizes


def backbone(cfg: BackboneConfig) -> float:
  """Those of a segment's forward pass."""
  tokens = cfg.max_tokens
  # Products of queries with keys and of weights with values, all of them once:
  # blocks leave most of what is masked out, and make scores again to go back.
  attention = 4 * tokens * cfg.width
  return cfg.num_layers * tokens * (2 * 12 * cfg.width**2 + attention)


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
