"""MTBC: multi-task behaviour cloning on JOWA's backbone (appendix E.1.2).

The world heads are gone and the Q heads' outputs are replaced by 18-way
classification; everything else is JOWA's.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp

from jowa_jax.losses.masked import masked_mean
from jowa_jax.losses.policy import action_nll
from jowa_jax.methods import tokenizer as tokenizer_lib
from jowa_jax.methods.acting import Acting, option
from jowa_jax.methods.adaptation import AdaptationConfig, adapt
from jowa_jax.methods.base import (
  Aux,
  BatchSpec,
  Method,
  Metrics,
  Objective,
  Policy,
  Variables,
  is_kernel,
)
from jowa_jax.methods.copycat import hide_actions
from jowa_jax.methods.history_policy import history_policy
from jowa_jax.methods.jowa import check_sizes
from jowa_jax.methods.tokenizer import TokenizerTraining
from jowa_jax.models import flops, world_action
from jowa_jax.models.backbone import BackboneConfig
from jowa_jax.models.heads import EnsembleHeads, HeadSizes
from jowa_jax.models.vqvae import VQVAEConfig
from jowa_jax.plan.base import faulty
from jowa_jax.types import History, Segment


@dataclasses.dataclass(frozen=True)
class MtbcLosses:
  """Variants of the loss; the default is the paper's.

  Attributes:
    hide_actions: share of a batch's segments whose past actions are random, so
      that there is nothing to copy, see `methods.copycat`.
  """

  hide_actions: float = 0.0

  def __post_init__(self):
    if not 0 <= self.hide_actions <= 1:
      raise ValueError(
        f'losses.hide_actions={self.hide_actions} is not in [0, 1]'
      )


@dataclasses.dataclass(frozen=True)
class MtbcConfig:
  """The sections of a config of MTBC."""

  MODEL: ClassVar = ('tokenizer', 'backbone', 'heads')

  tokenizer: VQVAEConfig
  backbone: BackboneConfig
  heads: HeadSizes
  tokenizer_training: TokenizerTraining
  adaptation: AdaptationConfig = AdaptationConfig()
  losses: MtbcLosses = MtbcLosses()

  @property
  def policy_heads(self) -> EnsembleHeads:
    return EnsembleHeads(
      self.heads, self.backbone.num_actions, self.backbone.dtype
    )


@dataclasses.dataclass(frozen=True)
class MtbcActing(Acting):
  """How MTBC acts.

  Attributes:
    context_length: blocks of context; by default as many as the position table
      has.
  """

  context_length: int | None = option(None, 'Blocks of context.')


def make_mtbc(config: MtbcConfig) -> Method:
  """MTBC as a `Method` with the objectives `tokenizer` and `policy`.

  Raises:
    ValueError: tokenizer and backbone disagree on tokens.
  """
  training = config.tokenizer_training
  check_sizes(config.tokenizer, config.backbone)
  codec = tokenizer_lib.tokenizer(config.tokenizer, training)

  def evaluate(variables: Variables, batch: Segment) -> Metrics:
    params = variables.params['tokenizer']
    return {
      **tokenizer_lib.evaluate(config.tokenizer, params, batch),
      **_metrics(config, variables, batch),
    }

  method = Method(
    spec=BatchSpec(
      length=config.backbone.max_blocks, statistics=training.statistics
    ),
    tokens=config.backbone.max_tokens,
    dtype=config.backbone.dtype,
    init=functools.partial(_init, config),
    objectives={
      'tokenizer': tokenizer_lib.objective(config.tokenizer, training),
      'policy': _cloning(config),
    },
    after_update=functools.partial(tokenizer_lib.replace_codes, training),
    tokenizer=codec,
    evaluate=evaluate,
    begin_stage=functools.partial(tokenizer_lib.embed_codes, training),
    policy=_make_policy(config, codec.encode),
    files=training.files,
  )
  return adapt(method, config.adaptation, config.backbone)


def _init(
  config: MtbcConfig,
  key: chex.PRNGKey,
  statistics: Mapping[str, chex.Array],
) -> Variables:
  keys = jax.random.split(key, 3)
  hidden = jnp.zeros((1, config.backbone.width))
  return Variables(
    params={
      'tokenizer': tokenizer_lib.init(config.tokenizer, keys[0]),
      'backbone': world_action.init_backbone(config.backbone, keys[1]),
      'policy_heads': config.policy_heads.init(keys[2], hidden)['params'],
    },
    targets={},
    extras=tokenizer_lib.init_extras(
      config.tokenizer, config.tokenizer_training, statistics
    ),
  )


def _logits(
  config: MtbcConfig,
  variables: Variables,
  batch: Segment,
  key: chex.PRNGKey | None = None,
) -> chex.Array:
  """What each head answers, [heads, B, T, A]; a key is for training."""
  keys = [None] * 2 if key is None else jax.random.split(key)
  actions = batch.actions
  if config.losses.hide_actions and key is not None:
    actions, _ = hide_actions(
      config.losses.hide_actions, actions, jax.random.fold_in(key, 2)
    )
  hidden = world_action.hidden_states(
    config.backbone,
    variables.params['backbone'],
    tokenizer_lib.segment_tokens(
      config.tokenizer, variables.params['tokenizer'], batch
    ),
    actions,
    batch.task,
    keys[0],
  )
  return world_action.ensemble_logits(
    config.policy_heads,
    variables.params['policy_heads'],
    world_action.at_last_observation(config.backbone, hidden),
    keys[1],
  )


def _metrics(
  config: MtbcConfig,
  variables: Variables,
  batch: Segment,
  key: chex.PRNGKey | None = None,
) -> Metrics:
  outputs = _logits(config, variables, batch, key)
  nll = jax.vmap(action_nll, (1, 0))(outputs, batch.actions)
  right = jnp.argmax(outputs.mean(axis=0), axis=-1) == batch.actions
  return {
    'policy/cross_entropy': masked_mean(nll, batch.mask),
    'policy/accuracy': masked_mean(right * 1.0, batch.mask),
  }


def _cloning(config: MtbcConfig) -> Objective:
  """The objective that trains backbone and heads on the actions of the data."""

  def loss(variables: Variables, batch: Segment, key, step):
    del step
    values = _metrics(config, variables, batch, key)
    return values['policy/cross_entropy'], Aux(values, {})

  backbone = config.backbone
  return Objective(
    params=('backbone', 'policy_heads'),
    loss=loss,
    flops={
      'backbone': flops.backbone(backbone),
      'policy_heads': flops.ensemble(
        backbone, config.heads, backbone.num_actions
      ),
    },
    # All of the heads is decayed, as JOWA's.
    decays=lambda path: is_kernel(path) or path[0] == 'policy_heads',
  )


def _make_policy(config: MtbcConfig, encode: Callable) -> Callable[..., Policy]:
  """MTBC's `Method.policy`, which takes the options of `MtbcActing`.

  Args:
    config: sizes.
    encode: (variables, frames [E, 84, 84]) -> tokens [E, K] int32.
  """
  backbone = config.backbone

  def decide(variables, history: History, legal, keys):
    del keys
    hidden, _ = world_action.prefill(
      backbone,
      variables.params['backbone'],
      history.seen,
      history.actions,
      history.count,
      history.tasks,
    )
    outputs = world_action.ensemble_logits(
      config.policy_heads, variables.params['policy_heads'], hidden
    ).mean(axis=0)
    fault = faulty(outputs, legal)
    outputs = jnp.where(legal, outputs, -jnp.inf)
    actions = jnp.where(fault, -1, jnp.argmax(outputs, axis=-1))
    return actions, {'logits': outputs}

  def policy(**options: Any) -> Policy:
    """Takes the most likely legal action, heads averaged; see `MtbcActing`."""
    acting = MtbcActing.of(options)
    room = backbone.max_blocks
    length = room if acting.context_length is None else acting.context_length
    if length > room:
      raise ValueError(
        f'context_length={length} does not fit into the {room} blocks of the '
        'position table'
      )
    tokens = jax.ShapeDtypeStruct((backbone.tokens_per_frame,), jnp.int32)
    return history_policy(encode, decide, tokens, length, acting.epsilon)

  return policy
