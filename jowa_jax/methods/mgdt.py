"""MGDT: actions, returns and rewards cloned from frames (appendix E.1.3).

The network and the loss are those of the authors' notebook. Where the paper
leaves open what its own baseline was, so is this: `losses.class_mean` and the
optimizer's kind choose among readings.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp

from jowa_jax.losses.decision import class_nll, first_of
from jowa_jax.losses.masked import masked_mean
from jowa_jax.methods import mgdt_policy
from jowa_jax.methods.adaptation import AdaptationConfig, adapt
from jowa_jax.methods.augmentation import AugmentationConfig, augmentation
from jowa_jax.methods.base import (
  Answers,
  Aux,
  BatchSpec,
  Method,
  Metrics,
  Objective,
  Policy,
  Variables,
)
from jowa_jax.methods.return_range import STATISTIC, check_range, outside
from jowa_jax.models import flops, mgdt
from jowa_jax.models.mgdt import MgdtBackbone, Window
from jowa_jax.types import Segment


@dataclasses.dataclass(frozen=True)
class MgdtLosses:
  """Variants of the loss.

  Attributes:
    class_mean: whether every cross-entropy is also averaged over its classes,
      as the authors' notebook does, so that returns weigh least.
  """

  class_mean: bool = True


@dataclasses.dataclass(frozen=True)
class MgdtConfig:
  """The sections of a config of MGDT."""

  MODEL: ClassVar = ('backbone',)

  backbone: MgdtBackbone
  losses: MgdtLosses = MgdtLosses()
  augmentation: AugmentationConfig = AugmentationConfig()
  adaptation: AdaptationConfig = AdaptationConfig()


def first_return(segments: Segment) -> jax.Array:
  """What is earned from the first real step on, [B]."""
  return jax.vmap(first_of)(segments.return_to_go, segments.mask)


def read(config: MgdtBackbone, segments: Segment) -> Window:
  """What the network reads of segments: steps, and the first one's return."""
  return Window(
    frames=segments.observations,
    returns=mgdt.return_bins(config, first_return(segments)),
    actions=segments.actions,
    rewards=segments.rewards,
  )


def make_mgdt(config: MgdtConfig) -> Method:
  """MGDT as a `Method` with the objective `policy`."""
  backbone = config.backbone
  method = Method(
    spec=BatchSpec(
      length=backbone.steps,
      fields=frozenset({'return_to_go'}),
      statistics=(STATISTIC,),
    ),
    tokens=backbone.max_tokens,
    dtype=backbone.dtype,
    init=functools.partial(_init, backbone),
    objectives={'policy': _cloning(config)},
    after_update=lambda variables, carry, step: variables,
    tokenizer=None,
    evaluate=functools.partial(_metrics, backbone),
    answers=functools.partial(_answers, backbone),
    policy=functools.partial(_make_policy, backbone),
  )
  return adapt(method, config.adaptation, backbone)


def _init(
  backbone: MgdtBackbone,
  key: chex.PRNGKey,
  statistics: Mapping[str, chex.Array],
) -> Variables:
  check_range(statistics, *backbone.return_range)
  return Variables(params=mgdt.init(backbone, key), targets={}, extras={})


def _make_policy(backbone: MgdtBackbone, **options: Any) -> Policy:
  """Draws a high return, then an action for it; see `MgdtActing`."""
  return mgdt_policy.make_policy(backbone, options)


def _classified(
  backbone: MgdtBackbone,
  variables: Variables,
  segments: Segment,
  key: chex.PRNGKey | None = None,
) -> dict[str, tuple[chex.Array, chex.Array, chex.Array]]:
  """(logits, classes, mask) of returns, actions and rewards."""
  window = read(backbone, segments)
  logits = mgdt.expectations(backbone, variables.params, window, key)
  # The return is predicted once, whatever of the segment is padding.
  everywhere = jnp.ones_like(segments.mask[:, :1])
  return {
    'policy': (logits.actions, window.actions, segments.mask),
    'returns': (logits.returns[:, :1], window.returns[:, None], everywhere),
    'rewards': (
      logits.rewards,
      mgdt.reward_classes(window.rewards),
      segments.mask,
    ),
  }


def _answers(
  backbone: MgdtBackbone, variables: Variables, segments: Segment
) -> dict[str, Answers]:
  return {
    name: Answers(jnp.argmax(scores, axis=-1), labels, mask)
    for name, (scores, labels, mask) in _classified(
      backbone, variables, segments
    ).items()
  }


def _metrics(
  backbone: MgdtBackbone,
  variables: Variables,
  segments: Segment,
  key: chex.PRNGKey | None = None,
) -> Metrics:
  """Cross-entropy and accuracy of returns, actions and rewards."""
  terms = _classified(backbone, variables, segments, key)
  beyond = outside(first_return(segments), *backbone.return_range)
  found = {'returns/clipped': beyond.mean()}
  for name, (scores, labels, mask) in terms.items():
    nll = jax.vmap(class_nll)(scores, labels)
    right = jnp.argmax(scores, axis=-1) == labels
    found[f'{name}/cross_entropy'] = masked_mean(nll, mask)
    found[f'{name}/accuracy'] = masked_mean(right * 1.0, mask)
  return found


def _cloning(config: MgdtConfig) -> Objective:
  """What trains the network: the sum of three cross-entropies, weighed."""
  backbone = config.backbone
  classes = {
    'policy': backbone.num_actions,
    'returns': backbone.return_bins,
    'rewards': mgdt.NUM_REWARD_CLASSES,
  }

  def loss(variables: Variables, segments: Segment, key, step):
    del step
    values = _metrics(backbone, variables, segments, key)
    total = 0.0
    for name, count in classes.items():
      over = count if config.losses.class_mean else 1
      total += values[f'{name}/cross_entropy'] / over
    return total / len(classes), Aux(values, {})

  heads = flops.linear(backbone.steps, backbone.width, sum(classes.values()))
  return Objective(
    (mgdt.BACKBONE, mgdt.HEADS),
    loss,
    {mgdt.BACKBONE: flops.frame_backbone(backbone), mgdt.HEADS: heads},
    augmentation(config.augmentation),
  )
