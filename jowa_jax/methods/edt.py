"""EDT: cloning with a return that is drawn high (appendix E.1.4).

What its authors published is for state vectors; what the paper's own baseline
read, and how, is not known. This is their loss with the next frame in place of
the next state, and classes of actions.
"""

import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import chex
import jax
import jax.numpy as jnp

from jowa_jax.losses.decision import class_nll, expectile_loss
from jowa_jax.losses.masked import masked_mean
from jowa_jax.methods import edt_policy
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
from jowa_jax.models import edt, flops
from jowa_jax.models.edt import EdtBackbone, Outputs, Window
from jowa_jax.types import FRAME_SHAPE, Segment


@dataclasses.dataclass(frozen=True)
class EdtLosses:
  """Weights of the losses beside that of the action; the authors'.

  Attributes:
    expectile: how much more the expectile head minds too low a return than too
      high a one, in (0, 1).
    expectile_weight: of its loss.
    return_weight: of the cross-entropy of the return.
    frame_weight: of the squared error of the next frame.
  """

  expectile: float = 0.99
  expectile_weight: float = 0.5
  return_weight: float = 0.001
  frame_weight: float = 1.0

  def __post_init__(self):
    if not 0 < self.expectile < 1:
      raise ValueError(f'expectile={self.expectile} is not in (0, 1)')


@dataclasses.dataclass(frozen=True)
class EdtConfig:
  """The sections of a config of EDT."""

  MODEL: ClassVar = ('backbone',)

  backbone: EdtBackbone
  losses: EdtLosses = EdtLosses()
  augmentation: AugmentationConfig = AugmentationConfig()
  adaptation: AdaptationConfig = AdaptationConfig()


class Targets(NamedTuple):
  """What B windows of T steps are to expect."""

  returns: chex.Array  # [B, T] float32, from each step on
  actions: chex.Array  # [B, T] int32
  frames: chex.Array  # [B, T, H, W], the next ones, pixels of 0 to 255
  mask: chex.Array  # [B, T] bool, steps that are real
  has_next: chex.Array  # [B, T] bool, those of which the next one is, too


def read(config: EdtBackbone, segments: Segment) -> tuple[Window, Targets]:
  """What the network reads of segments of one step more, and its targets."""
  steps = slice(0, config.steps)
  returns, mask = segments.return_to_go[:, steps], segments.mask[:, steps]
  window = Window(
    frames=segments.observations[:, steps],
    returns=edt.return_bins(config, returns),
    actions=segments.actions[:, steps],
  )
  return window, Targets(
    returns=returns,
    actions=window.actions,
    frames=segments.observations[:, 1:],
    mask=mask,
    has_next=mask & segments.mask[:, 1:],
  )


def loss_terms(
  config: EdtConfig, outputs: Outputs, targets: Targets
) -> tuple[chex.Array, Metrics]:
  """The loss and its terms, means over real steps."""
  backbone, losses, mask = config.backbone, config.losses, targets.mask
  bins = edt.return_bins(backbone, targets.returns)
  expectile = jax.vmap(expectile_loss, (0, 0, None))(
    outputs.expectiles,
    targets.returns / backbone.return_scale,
    losses.expectile,
  )
  pixels = targets.frames.reshape(outputs.frames.shape).astype(jnp.float32)
  error = jnp.square(outputs.frames - pixels / 255).mean(axis=-1)

  def right(logits, labels):
    return masked_mean((jnp.argmax(logits, axis=-1) == labels) * 1.0, mask)

  nll = jax.vmap(class_nll)
  terms = {
    'policy/cross_entropy': masked_mean(
      nll(outputs.actions, targets.actions), mask
    ),
    'returns/cross_entropy': masked_mean(nll(outputs.returns, bins), mask),
    'returns/expectile': masked_mean(expectile, mask),
    'frames/squared_error': masked_mean(error, targets.has_next),
  }
  total = (
    terms['policy/cross_entropy']
    + losses.frame_weight * terms['frames/squared_error']
    + losses.expectile_weight * terms['returns/expectile']
    + losses.return_weight * terms['returns/cross_entropy']
  )
  return total, {
    **terms,
    'policy/accuracy': right(outputs.actions, targets.actions),
    'returns/accuracy': right(outputs.returns, bins),
    'returns/clipped': masked_mean(
      outside(targets.returns, *backbone.return_range), mask
    ),
  }


def make_edt(config: EdtConfig) -> Method:
  """EDT as a `Method` with the objective `policy`."""
  backbone = config.backbone

  def init(key, statistics) -> Variables:
    low, high = backbone.return_range
    check_range(statistics, low, high)
    return Variables(params=edt.init(backbone, key), targets={}, extras={})

  def terms(variables: Variables, segments: Segment, key=None):
    window, targets = read(backbone, segments)
    outputs = edt.outputs(backbone, variables.params, window, key)
    return loss_terms(config, outputs, targets)

  def loss(variables: Variables, segments: Segment, key, step):
    del step
    total, metrics = terms(variables, segments, key)
    return total, Aux(metrics, {})

  def policy(**options: Any) -> Policy:
    """Acts by the history that promises most; see `EdtActing`."""
    return edt_policy.make_policy(backbone, options)

  method = Method(
    spec=BatchSpec(
      length=backbone.steps,
      lookahead=1,
      fields=frozenset({'return_to_go'}),
      statistics=(STATISTIC,),
    ),
    tokens=backbone.max_tokens,
    dtype=backbone.dtype,
    init=init,
    objectives={
      'policy': Objective(
        (edt.BACKBONE, edt.HEADS),
        loss,
        {
          edt.BACKBONE: flops.frame_backbone(backbone),
          edt.HEADS: _head_flops(backbone),
        },
        augmentation(config.augmentation),
      ),
    },
    after_update=lambda variables, carry, step: variables,
    tokenizer=None,
    evaluate=lambda variables, segments: terms(variables, segments)[1],
    answers=functools.partial(_answers, backbone),
    policy=policy,
  )
  return adapt(method, config.adaptation, backbone)


def _answers(
  backbone: EdtBackbone, variables: Variables, segments: Segment
) -> dict[str, Answers]:
  window, targets = read(backbone, segments)
  outputs = edt.outputs(backbone, variables.params, window)
  bins = edt.return_bins(backbone, targets.returns)
  classes = {
    'policy': (outputs.actions, targets.actions),
    'returns': (outputs.returns, bins),
  }
  return {
    name: Answers(jnp.argmax(scores, axis=-1), true, targets.mask)
    for name, (scores, true) in classes.items()
  }


def _head_flops(backbone: EdtBackbone) -> float:
  steps, width, actions = (
    backbone.steps,
    backbone.width,
    backbone.num_actions,
  )
  classes = backbone.return_bins + 1 + actions
  pixels = FRAME_SHAPE[0] * FRAME_SHAPE[1]
  return flops.linear(steps, width, classes) + flops.linear(
    steps, width + actions, pixels
  )
