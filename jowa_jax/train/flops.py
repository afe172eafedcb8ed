"""Floating-point operations of a training step, by formula.

A product with a weight takes two operations for every token, and twice that in
the backward pass. Counted are the transformer and its heads: what a step has to
compute, whatever the program computes again. The tokenizer's convolutions are
not; `cost` has all that the compiler counts.
"""

from typing import Any

import jax

from jowa_jax.models.heads import NUM_REWARD_CLASSES, HeadSizes
from jowa_jax.models.transformer import BackboneConfig


def _forward(cfg: BackboneConfig, steps: int) -> float:
  """Of the backbone, for one segment."""
  tokens = steps * cfg.block_size
  weights = 12 * cfg.width**2
  # Products of queries with keys and of weights with values, all of them: what
  # is masked is computed too.
  attention = 4 * tokens * cfg.width
  return cfg.num_layers * tokens * (2 * weights + attention)


def _world_heads(cfg: BackboneConfig, steps: int) -> float:
  def head(outputs: int) -> float:
    return 2 * cfg.width * (cfg.width + outputs)

  observations = cfg.tokens_per_frame * head(cfg.vocab_size)
  return steps * (observations + head(NUM_REWARD_CLASSES) + head(2))


def _ensemble(cfg: BackboneConfig, heads: HeadSizes, outputs: int, steps: int):
  weights = heads.width * (cfg.width + heads.width + outputs)
  return 2 * heads.num_heads * weights * steps


def step_flops(
  backbone: BackboneConfig,
  batch_size: int,
  steps: int,
  world: bool,
  heads: HeadSizes | None = None,
  outputs: int = 0,
  targets: bool = False,
) -> float:
  """Returns the operations of a step.

  Args:
    backbone: sizes.
    batch_size: segments.
    steps: of a segment.
    world: whether the world heads are trained.
    heads: of Q values or policies, if they are trained.
    outputs: of each of these.
    targets: whether a copy of them is read too.
  """
  total = 3 * _forward(backbone, steps)
  if world:
    total += 3 * _world_heads(backbone, steps)
  if heads:
    passes = 4 if targets else 3
    total += passes * _ensemble(backbone, heads, outputs, steps)
  return batch_size * total


def cost(compiled: jax.stages.Compiled) -> dict[str, Any]:
  """Returns what the compiler counts of a program, on one device.

  `flops` are operations, `bytes` those read and written. Loops are counted
  once, however often they run.
  """
  analysis = compiled.cost_analysis() or {}
  return {
    'flops': float(analysis.get('flops', 0.0)),
    'bytes': float(analysis.get('bytes accessed', 0.0)),
  }
