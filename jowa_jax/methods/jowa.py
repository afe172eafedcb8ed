"""JOWA: one transformer trained as world model and as critic.

Parts: `tokenizer` and `world` (stage 1), `world_action` (stage 2); sections
4.1 to 4.3 of the paper.
"""

import dataclasses

import chex
import jax
import jax.numpy as jnp
from jax import lax

from jowa_jax import games
from jowa_jax.losses import q_learning
from jowa_jax.losses import world as world_losses
from jowa_jax.losses.masked import masked_mean
from jowa_jax.methods import tokenizer as tokenizer_lib
from jowa_jax.methods.base import (
  Aux,
  BatchSpec,
  Method,
  Metrics,
  Part,
  Policy,
  Variables,
)
from jowa_jax.methods.tokenizer import TokenizerTraining
from jowa_jax.methods.transformer_policy import Context, transformer_policy
from jowa_jax.models import world_action
from jowa_jax.models.heads import WorldLogits
from jowa_jax.models.vqvae import VQVAEConfig
from jowa_jax.models.world_action import WorldActionConfig
from jowa_jax.plan.beam import beam_search
from jowa_jax.plan.dream import world_model
from jowa_jax.types import Params, Segment

PENALTIES = ('cql', 'combo')
PLANNERS = ('none', 'beam')


@dataclasses.dataclass(frozen=True)
class JowaLosses:
  """Weights and variants of the losses; the defaults are the paper's.

  Attributes:
    world_weight: of the world part in `world_action`; 0 leaves it out.
    cql_weight: of the penalty on Q values; 0 leaves it out.
    penalty: 'cql', or 'combo', which takes the data's actions from real
      segments alone.
    stop_gradient: keep the gradients of Q from the backbone.
    rem: mix the heads with random weights, drawn at every step.
    target_period: steps between copies of the target heads.
  """

  world_weight: float = 0.1
  cql_weight: float = 0.1
  penalty: str = 'cql'
  stop_gradient: bool = False
  rem: bool = False
  target_period: int = 1000

  def __post_init__(self):
    if self.penalty not in PENALTIES:
      raise ValueError(f'losses.penalty={self.penalty!r} is not in {PENALTIES}')
    if self.target_period < 1:
      raise ValueError(f'losses.target_period={self.target_period} is not >= 1')


def world_terms(
  logits: WorldLogits, tokens: chex.Array, batch: Segment, real: chex.Array
) -> dict[str, chex.Array]:
  """Returns the world part's three loss terms, over real segments [B]."""
  mask = batch.mask & real[:, None]
  nll, keep = jax.vmap(world_losses.observation_nll)(
    logits.observations, tokens, mask
  )
  rewards = jax.vmap(world_losses.reward_nll)(logits.rewards, batch.rewards)
  ends = jax.vmap(world_losses.end_nll)(logits.ends, batch.ends)
  return {
    'world/observations': masked_mean(nll, keep),
    'world/rewards': masked_mean(rewards, mask),
    'world/ends': masked_mean(ends, mask),
  }


def q_terms(
  config: WorldActionConfig,
  losses: JowaLosses,
  logits: chex.Array,
  target_logits: chex.Array,
  batch: Segment,
  real: chex.Array,
  weights: chex.Array | None,
) -> tuple[dict[str, chex.Array], Metrics]:
  """Returns the action part's loss terms and its metrics.

  Args:
    config: of the model.
    losses: variants.
    logits: of the Q heads, [num_q, B, T, A * atoms].
    target_logits: of the target heads, likewise.
    batch: the segments.
    real: [B] bool, false for imagined segments.
    weights: [num_q] of REM, or None.
  """
  returns = config.returns
  legal = jnp.asarray(games.legal_mask())[batch.task]
  mixed = world_action.mixed_returns(returns, logits, weights)
  target = world_action.mixed_returns(returns, target_logits, weights)
  target_q = world_action.expected_returns(returns, target)
  discounts = returns.gamma * (1 - batch.ends.astype(jnp.float32))
  if returns.num_atoms == 1:
    td = jax.vmap(q_learning.mse_loss)(
      mixed[..., 0], batch.actions, batch.rewards, discounts, target_q, legal
    )
  else:
    td = jax.vmap(q_learning.c51_loss, (0,) * 7 + (None,))(
      mixed,
      batch.actions,
      batch.rewards,
      discounts,
      target,
      target_q,
      legal,
      returns.atoms,
    )
  has_target = jax.vmap(q_learning.td_mask)(batch.mask, batch.ends)
  q = world_action.expected_returns(
    returns, world_action.mixed_returns(returns, logits)
  )
  logsumexp, taken = jax.vmap(q_learning.cql_terms)(q, batch.actions)
  in_data = batch.mask
  if losses.penalty == 'combo':
    in_data = batch.mask & real[:, None]
  negative = masked_mean(logsumexp, batch.mask)
  positive = masked_mean(taken, in_data)
  terms = {'q/td': masked_mean(td, has_target)}
  if losses.cql_weight:
    terms['q/cql'] = losses.cql_weight * (negative - positive)
  best = jnp.max(jnp.where(legal[:, None], q, -jnp.inf), axis=-1)
  metrics = {
    'q/logsumexp': negative,
    'q/data_value': positive,
    'q/max_value': masked_mean(best, batch.mask),
  }
  return terms, metrics


def world_action_losses(
  config: WorldActionConfig,
  losses: JowaLosses,
  params: dict[str, Params],
  target_params: Params | None,
  tokens: chex.Array,
  batch: Segment,
  key: chex.PRNGKey | None = None,
) -> tuple[dict[str, chex.Array], Metrics]:
  """Returns weighted loss terms and metrics of the world-action model.

  Args:
    config: of the model.
    losses: weights and variants.
    params: with the top-level names of `world_action.init`.
    target_params: of the target Q heads; None leaves the action part out and
      takes the world part at full weight (stage 1).
    tokens: [B, T, K] int32, the encoded frames.
    batch: the segments.
    key: for dropout and REM; None switches dropout off.
  """
  keys = [None] * 3 if key is None else jax.random.split(key, 3)
  backbone = config.backbone
  real = jnp.ones(batch.task.shape, bool)
  if batch.imagined is not None:
    real = ~batch.imagined
  hidden = world_action.hidden_states(
    backbone, params['backbone'], tokens, batch.actions, batch.task, keys[0]
  )
  terms, metrics = {}, {}
  weight = 1.0 if target_params is None else losses.world_weight
  if weight:
    logits = world_action.world_logits(backbone, params['world_heads'], hidden)
    terms = {
      name: weight * term
      for name, term in world_terms(logits, tokens, batch, real).items()
    }
  if target_params is not None:
    read = world_action.at_last_observation(backbone, hidden)
    target = lax.stop_gradient(
      world_action.ensemble_logits(config.q_heads, target_params, read)
    )
    if losses.stop_gradient:
      read = lax.stop_gradient(read)
    q = world_action.ensemble_logits(
      config.q_heads, params['q_heads'], read, keys[1]
    )
    weights = None
    if losses.rem:
      if keys[2] is None:
        raise ValueError('losses.rem draws weights and so needs a key')
      weights = jax.random.uniform(keys[2], (config.heads.num_heads,))
      weights = weights / weights.sum()
    q_part, metrics = q_terms(config, losses, q, target, batch, real, weights)
    terms = {**terms, **q_part}
  return terms, metrics


def _prediction_metrics(
  logits: WorldLogits, tokens: chex.Array, batch: Segment
) -> Metrics:
  """Token accuracies on next frames, beside those of copying the last one."""
  # Predictions of frame t+1's tokens: token 0 from t's action, the rest from
  # the tokens before them.
  predicted = jnp.argmax(logits.observations, axis=-1)
  predicted = jnp.concatenate(
    [predicted[:, :-1, -1:], predicted[:, 1:, :-1]], axis=-1
  )
  last, truth = tokens[:, :-1], tokens[:, 1:]
  mask = jnp.broadcast_to(batch.mask[:, 1:, None], truth.shape)
  changed = mask & (truth != last)
  right, copied = predicted == truth, last == truth
  reward = jnp.argmax(logits.rewards, axis=-1) - 1 == jnp.sign(batch.rewards)
  return {
    'world/token_accuracy': masked_mean(right * 1.0, mask),
    'world/copy_accuracy': masked_mean(copied * 1.0, mask),
    'world/changed_token_accuracy': masked_mean(right * 1.0, changed),
    'world/reward_accuracy': masked_mean(reward * 1.0, batch.mask),
  }


def make_jowa(
  tokenizer: VQVAEConfig,
  model: WorldActionConfig,
  losses: JowaLosses,
  training: TokenizerTraining,
) -> Method:
  """Returns JOWA as a `Method`.

  Raises:
    ValueError: tokenizer and backbone disagree on tokens.
  """
  check_tokens(tokenizer, model.backbone)

  def init(key, statistics) -> Variables:
    tokenizer_key, model_key = jax.random.split(key)
    params = world_action.init(model, model_key)
    params['tokenizer'] = tokenizer_lib.init(tokenizer, tokenizer_key)
    return Variables(
      params=params,
      targets={'q_heads': jax.tree.map(jnp.copy, params['q_heads'])},
      extras=tokenizer_lib.init_extras(tokenizer, training, statistics),
    )

  def encode(variables: Variables, frames):
    return tokenizer_lib.encode(
      tokenizer, variables.params['tokenizer'], frames
    )

  def segment_tokens(variables: Variables, batch: Segment):
    return tokenizer_lib.segment_tokens(
      tokenizer, variables.params['tokenizer'], batch
    )

  def loss(joint: bool):
    def fn(variables: Variables, batch: Segment, key):
      terms, metrics = world_action_losses(
        model,
        losses,
        variables.params,
        variables.targets['q_heads'] if joint else None,
        segment_tokens(variables, batch),
        batch,
        key,
      )
      return sum(terms.values()), Aux({**terms, **metrics}, {})

    return fn

  def after_update(variables, carry, step) -> Variables:
    variables = tokenizer_lib.replace_codes(training, variables, carry, step)
    copy = step % losses.target_period == 0
    targets = jax.tree.map(
      lambda new, old: jnp.where(copy, new, old),
      variables.params['q_heads'],
      variables.targets['q_heads'],
    )
    return variables.replace(targets={'q_heads': targets})

  def evaluate(variables: Variables, batch: Segment) -> Metrics:
    params = variables.params
    tokens = segment_tokens(variables, batch)
    unweighted = dataclasses.replace(losses, world_weight=1.0, rem=False)
    terms, metrics = world_action_losses(
      model, unweighted, params, variables.targets['q_heads'], tokens, batch
    )
    hidden = world_action.hidden_states(
      model.backbone, params['backbone'], tokens, batch.actions, batch.task
    )
    logits = world_action.world_logits(
      model.backbone, params['world_heads'], hidden
    )
    return {
      **tokenizer_lib.evaluate(tokenizer, params['tokenizer'], batch),
      **terms,
      **metrics,
      **_prediction_metrics(logits, tokens, batch),
    }

  return Method(
    spec=BatchSpec(
      length=model.backbone.max_blocks,
      statistics=tokenizer_lib.statistics(tokenizer),
    ),
    init=init,
    parts={
      'tokenizer': tokenizer_lib.part(tokenizer, training),
      'world': Part(('backbone', 'world_heads'), loss(joint=False)),
      'world_action': Part(
        ('backbone', 'world_heads', 'q_heads'), loss(joint=True)
      ),
    },
    after_update=after_update,
    encode=encode,
    evaluate=evaluate,
    policy=make_policy(model, encode),
  )


def check_tokens(tokenizer: VQVAEConfig, backbone) -> None:
  """Raises ValueError where tokenizer and backbone sizes disagree."""
  for name in ('vocab_size', 'tokens_per_frame'):
    ours, theirs = getattr(tokenizer, name), getattr(backbone, name)
    if ours != theirs:
      raise ValueError(
        f'tokenizer.{name}={ours} and backbone.{name}={theirs} differ'
      )


def make_policy(model: WorldActionConfig, encode):
  """Returns JOWA's `Method.policy`."""

  def policy(
    *,
    planner: str = 'none',
    width: int = 2,
    horizon: int = 2,
    context_length: int | None = None,
    epsilon: float = 0.001,
  ) -> Policy:
    """Acts greedily ('none') or by beam search ('beam').

    The context is cut to what the position table leaves beside `horizon`
    dreamed blocks (section 4.2).
    """
    if planner not in PLANNERS:
      raise ValueError(f'planner={planner!r} is not in {PLANNERS}')
    depth = horizon if planner == 'beam' else 0
    room = model.backbone.max_blocks - depth
    length = room if context_length is None else min(context_length, room)

    def decide(variables, context: Context, legal):
      params = variables.params
      hidden, cache = world_action.prefill(
        model.backbone,
        params['backbone'],
        context.tokens,
        context.actions,
        context.count,
        context.tasks,
        extra_blocks=depth,
      )
      q = world_action.q_values(model, params['q_heads'], hidden)
      plan = beam_search(
        world_model(model, params, context.tasks),
        q,
        cache,
        legal,
        width=width,
        horizon=depth,
        gamma=model.returns.gamma,
      )
      return plan.action, {'q': q, 'plan': plan}

    return transformer_policy(
      encode, decide, model.backbone.tokens_per_frame, length, epsilon
    )

  return policy
