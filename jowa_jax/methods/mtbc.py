"""MTBC: multi-task behaviour cloning on JOWA's backbone (appendix E.1.2).

The world heads are gone and the Q heads' outputs are replaced by 18-way
classification; everything else is JOWA's.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from jowa_jax.losses.masked import masked_mean
from jowa_jax.losses.policy import action_nll
from jowa_jax.methods import tokenizer as tokenizer_lib
from jowa_jax.methods.adaptation import AdaptationConfig, adapt
from jowa_jax.methods.base import (
  Aux,
  BatchSpec,
  Encoder,
  Method,
  Metrics,
  Part,
  Policy,
  Variables,
)
from jowa_jax.methods.jowa import check_sizes
from jowa_jax.methods.tokenizer import TokenizerTraining
from jowa_jax.methods.transformer_policy import transformer_policy
from jowa_jax.models import flops, world_action
from jowa_jax.models.heads import EnsembleHeads, HeadSizes
from jowa_jax.models.transformer import BackboneConfig
from jowa_jax.models.vqvae import VQVAEConfig
from jowa_jax.plan.base import faulty
from jowa_jax.types import Context, Segment


@dataclasses.dataclass(frozen=True)
class MtbcConfig:
  """The sections of a config of MTBC."""

  tokenizer: VQVAEConfig
  backbone: BackboneConfig
  heads: HeadSizes
  tokenizer_training: TokenizerTraining
  adaptation: AdaptationConfig = AdaptationConfig()

  @property
  def policy_heads(self) -> EnsembleHeads:
    return EnsembleHeads(
      self.heads, self.backbone.num_actions, self.backbone.dtype
    )


def make_mtbc(config: MtbcConfig) -> Method:
  """Returns MTBC as a `Method` with the parts `tokenizer` and `policy`.

  Raises:
    ValueError: tokenizer and backbone disagree on tokens.
  """
  tokenizer, training = config.tokenizer, config.tokenizer_training
  check_sizes(tokenizer, config.backbone)

  def init(key, statistics) -> Variables:
    keys = jax.random.split(key, 3)
    hidden = jnp.zeros((1, config.backbone.width))
    return Variables(
      params={
        'tokenizer': tokenizer_lib.init(tokenizer, keys[0]),
        'backbone': world_action.init_backbone(config.backbone, keys[1]),
        'policy_heads': config.policy_heads.init(keys[2], hidden)['params'],
      },
      targets={},
      extras=tokenizer_lib.init_extras(tokenizer, training, statistics),
    )

  def encode(variables: Variables, frames):
    return tokenizer_lib.encode(
      tokenizer, variables.params['tokenizer'], frames
    )

  def logits(variables: Variables, batch: Segment, key=None):
    """Returns [heads, B, T, A]."""
    keys = [None] * 2 if key is None else jax.random.split(key)
    hidden = world_action.hidden_states(
      config.backbone,
      variables.params['backbone'],
      tokenizer_lib.segment_tokens(
        tokenizer, variables.params['tokenizer'], batch
      ),
      batch.actions,
      batch.task,
      keys[0],
    )
    return world_action.ensemble_logits(
      config.policy_heads,
      variables.params['policy_heads'],
      world_action.at_last_observation(config.backbone, hidden),
      keys[1],
    )

  def metrics(variables: Variables, batch: Segment, key=None) -> Metrics:
    outputs = logits(variables, batch, key)
    nll = jax.vmap(action_nll, (1, 0))(outputs, batch.actions)
    right = jnp.argmax(outputs.mean(axis=0), axis=-1) == batch.actions
    return {
      'policy/cross_entropy': masked_mean(nll, batch.mask),
      'policy/accuracy': masked_mean(right * 1.0, batch.mask),
    }

  def loss(variables: Variables, batch: Segment, key):
    values = metrics(variables, batch, key)
    return values['policy/cross_entropy'], Aux(values, {})

  def after_update(variables, carry, step) -> Variables:
    return tokenizer_lib.replace_codes(training, variables, carry, step)

  def evaluate(variables: Variables, batch: Segment) -> Metrics:
    return {
      **tokenizer_lib.evaluate(tokenizer, variables.params['tokenizer'], batch),
      **metrics(variables, batch),
    }

  def policy(
    *, context_length: int | None = None, epsilon: float = 0.001
  ) -> Policy:
    """Takes the most likely legal action, heads averaged."""
    room = config.backbone.max_blocks
    length = room if context_length is None else context_length
    if length > room:
      raise ValueError(
        f'context_length={length} does not fit into the {room} blocks of the '
        'position table'
      )

    def decide(variables, context: Context, legal):
      hidden, _ = world_action.prefill(
        config.backbone,
        variables.params['backbone'],
        context.tokens,
        context.actions,
        context.count,
        context.tasks,
      )
      outputs = world_action.ensemble_logits(
        config.policy_heads, variables.params['policy_heads'], hidden
      ).mean(axis=0)
      fault = faulty(outputs, legal)
      outputs = jnp.where(legal, outputs, -jnp.inf)
      actions = jnp.where(fault, -1, jnp.argmax(outputs, axis=-1))
      return actions, {'logits': outputs}

    return transformer_policy(
      encode, decide, config.backbone.tokens_per_frame, length, epsilon
    )

  method = Method(
    spec=BatchSpec(
      length=config.backbone.max_blocks, statistics=training.statistics
    ),
    tokens=config.backbone.max_tokens,
    dtype=config.backbone.dtype,
    init=init,
    parts={
      'tokenizer': tokenizer_lib.part(tokenizer, training),
      'policy': Part(
        ('backbone', 'policy_heads'),
        loss,
        3
        * (
          flops.backbone(config.backbone)
          + flops.ensemble(
            config.backbone, config.heads, config.backbone.num_actions
          )
        ),
      ),
    },
    after_update=after_update,
    encoder=Encoder(('tokenizer',), encode),
    evaluate=evaluate,
    begin_stage=functools.partial(tokenizer_lib.embed_codes, training),
    policy=policy,
    files=training.files,
  )
  return adapt(method, config.adaptation, config.backbone)
