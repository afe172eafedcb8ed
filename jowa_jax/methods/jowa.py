"""JOWA: one transformer trained as world model and as critic.

Objectives: `tokenizer` and `world` (stage 1), `world_action` (stage 2);
sections 4.1 to 4.3 of the paper.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp

from jowa_jax import games
from jowa_jax.methods import tokenizer as tokenizer_lib
from jowa_jax.methods.adaptation import AdaptationConfig, adapt
from jowa_jax.methods.base import (
  Aux,
  BatchSpec,
  Method,
  Metrics,
  Objective,
  Variables,
  is_kernel,
)
from jowa_jax.methods.imagination import (
  Imagination,
  check_imagination,
  imagine_half,
)
from jowa_jax.methods.jowa_losses import (
  JowaLosses,
  prediction_metrics,
  world_action_losses,
)
from jowa_jax.methods.jowa_policy import make_policy
from jowa_jax.methods.jowa_simulator import make_simulator
from jowa_jax.methods.tokenizer import TokenizerTraining
from jowa_jax.models import flops, world_action
from jowa_jax.models.backbone import BackboneConfig
from jowa_jax.models.heads import HeadSizes
from jowa_jax.models.vqvae import VQVAEConfig
from jowa_jax.models.world_action import ReturnConfig, WorldActionConfig
from jowa_jax.types import Segment


@dataclasses.dataclass(frozen=True)
class JowaConfig:
  """The sections of a config of JOWA.

  Those with a default came later: agents that were saved before act, and are
  trained on, without.
  """

  MODEL: ClassVar = ('tokenizer', 'backbone', 'heads', 'returns')

  tokenizer: VQVAEConfig
  backbone: BackboneConfig
  heads: HeadSizes
  returns: ReturnConfig
  losses: JowaLosses
  tokenizer_training: TokenizerTraining
  imagination: Imagination = Imagination()
  adaptation: AdaptationConfig = AdaptationConfig()

  @property
  def model(self) -> WorldActionConfig:
    return WorldActionConfig(self.backbone, self.heads, self.returns)


def make_jowa(config: JowaConfig) -> Method:
  """JOWA as a `Method`.

  Raises:
    ValueError: tokenizer and backbone disagree on tokens, or a segment has no
      room for what is imagined.
  """
  model, training = config.model, config.tokenizer_training
  check_sizes(config.tokenizer, model.backbone)
  check_imagination(config.imagination, model.backbone.max_blocks)
  codec = tokenizer_lib.tokenizer(config.tokenizer, training)
  method = Method(
    spec=BatchSpec(
      length=model.backbone.max_blocks, statistics=training.statistics
    ),
    tokens=model.backbone.max_tokens,
    dtype=model.backbone.dtype,
    init=functools.partial(_init, config),
    objectives=_objectives(config),
    after_update=functools.partial(_after_update, config),
    tokenizer=codec,
    evaluate=functools.partial(_evaluate, config),
    begin_stage=functools.partial(tokenizer_lib.embed_codes, training),
    simulator=make_simulator(model),
    policy=make_policy(model, codec.encode),
    files=training.files,
  )
  return adapt(method, config.adaptation, model.backbone)


def _init(
  config: JowaConfig,
  key: chex.PRNGKey,
  statistics: Mapping[str, chex.Array],
) -> Variables:
  tokenizer_key, model_key = jax.random.split(key)
  params = world_action.init(config.model, model_key)
  params['tokenizer'] = tokenizer_lib.init(config.tokenizer, tokenizer_key)
  return Variables(
    params=params,
    targets={'q_heads': jax.tree.map(jnp.copy, params['q_heads'])},
    extras=tokenizer_lib.init_extras(
      config.tokenizer, config.tokenizer_training, statistics
    ),
  )


def _tokens(
  config: JowaConfig, variables: Variables, batch: Segment
) -> chex.Array:
  """The frames of a batch as tokens, [B, T, K] int32."""
  return tokenizer_lib.segment_tokens(
    config.tokenizer, variables.params['tokenizer'], batch
  )


def _objectives(config: JowaConfig) -> dict[str, Objective]:
  """What the stages train."""
  model, imagination = config.model, config.imagination

  def loss(joint: bool, variables: Variables, batch: Segment, key, step):
    del step
    terms, metrics = world_action_losses(
      model,
      config.losses,
      variables.params,
      variables.targets['q_heads'] if joint else None,
      _tokens(config, variables, batch),
      batch,
      key,
    )
    return sum(terms.values()), Aux(metrics, {})

  def imagine(variables: Variables, batch: Segment, key, step):
    # Encoded once, for the dreams and for the losses.
    tokens = _tokens(config, variables, batch)
    return imagine_half(
      model, imagination, variables.params, tokens, batch, key, step
    )

  world_flops = {
    'backbone': flops.backbone(model.backbone),
    'world_heads': flops.world_heads(model.backbone),
  }
  outputs = model.backbone.num_actions * model.returns.num_atoms
  q_flops = flops.ensemble(model.backbone, model.heads, outputs)
  # Segments whose actions are hidden do not train the world heads: of all, but
  # for the rounding of small batches.
  hidden = config.losses.hide_actions
  joint_flops = {
    **world_flops,
    'world_heads': (1 - hidden) * world_flops['world_heads'],
    'q_heads': q_flops,
    'target_q_heads': q_flops,
  }
  return {
    'tokenizer': tokenizer_lib.objective(
      config.tokenizer, config.tokenizer_training
    ),
    'world': Objective(
      ('backbone', 'world_heads'), functools.partial(loss, False), world_flops
    ),
    'world_action': Objective(
      ('backbone', 'world_heads', 'q_heads'),
      functools.partial(loss, True),
      joint_flops,
      augment=imagine if imagination.policy else None,
      # Half of them dreamed; some hidden and some not: none can be all of it.
      rows=2 if imagination.policy or 0 < hidden < 1 else 1,
      decays=decays,
    ),
  }


def _after_update(
  config: JowaConfig,
  variables: Variables,
  carry: dict[str, Any],
  step: chex.Array,
) -> Variables:
  """Replaces codes that nothing uses, and copies the Q heads now and then."""
  variables = tokenizer_lib.replace_codes(
    config.tokenizer_training, variables, carry, step
  )
  copy = step % config.losses.target_period == 0
  targets = jax.tree.map(
    lambda new, old: jnp.where(copy, new, old),
    variables.params['q_heads'],
    variables.targets['q_heads'],
  )
  return variables.replace(targets={'q_heads': targets})


def _evaluate(
  config: JowaConfig, variables: Variables, batch: Segment
) -> Metrics:
  model, params = config.model, variables.params
  tokens = _tokens(config, variables, batch)
  equal = dataclasses.replace(config.losses, rem=False)
  _, metrics = world_action_losses(
    model, equal, params, variables.targets['q_heads'], tokens, batch
  )
  # The compiler finds that these are computed already.
  hidden = world_action.hidden_states(
    model.backbone, params['backbone'], tokens, batch.actions, batch.task
  )
  logits = world_action.world_logits(
    model.backbone, params['world_heads'], hidden
  )
  return {
    **tokenizer_lib.evaluate(config.tokenizer, params['tokenizer'], batch),
    **metrics,
    **prediction_metrics(logits, tokens, batch),
  }


def decays(path: tuple[str, ...]) -> bool:
  """Whether the authors' program decays a parameter (Table 13).

  Weights of linear layers, and every parameter of the Q heads, biases and
  norms included.
  """
  return is_kernel(path) or path[0] == 'q_heads'


def check_sizes(tokenizer: VQVAEConfig, backbone: BackboneConfig) -> None:
  """Raises ValueError where tokenizer, backbone and games disagree."""
  for name in ('vocab_size', 'tokens_per_frame'):
    ours, theirs = getattr(tokenizer, name), getattr(backbone, name)
    if ours != theirs:
      raise ValueError(
        f'tokenizer.{name}={ours} and backbone.{name}={theirs} differ'
      )
  for name, size in (
    ('num_tasks', games.NUM_TASKS),
    ('num_actions', games.NUM_ACTIONS),
  ):
    if getattr(backbone, name) != size:
      raise ValueError(
        f'backbone.{name}={getattr(backbone, name)}, but Atari has {size}'
      )
