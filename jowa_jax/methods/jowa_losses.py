"""JOWA's losses: the world part and the action part of sections 4.1.2-4.1.3."""

import dataclasses
from typing import Protocol

import chex
import jax
import jax.numpy as jnp
from jax import lax

from jowa_jax import games
from jowa_jax.losses import q_learning
from jowa_jax.losses import world as world_losses
from jowa_jax.losses.masked import masked_mean
from jowa_jax.methods.base import Metrics, Ratio
from jowa_jax.methods.copycat import count_hidden, hide_actions
from jowa_jax.models import world_action
from jowa_jax.models.heads import WorldLogits
from jowa_jax.models.world_action import ReturnConfig, WorldActionConfig
from jowa_jax.types import Params, Segment

PENALTIES = ('cql', 'combo')
BACKUPS = ('max', 'data')


@dataclasses.dataclass(frozen=True)
class JowaLosses:
  """Weights and variants of the losses; the defaults are the paper's.

  Attributes:
    world_weight: of the world part in `world_action`; 0 leaves it out.
    cql_weight: of the penalty on Q values; 0 leaves it out.
    penalty: 'cql', or 'combo', which takes the data's actions from real
      segments alone.
    backup: the action that a target bootstraps from: the 'max', as in the
      paper, or the one that the 'data' took next (one-step improvement of the
      data's policy, Brandfonbrener et al., 2021). Where the penalty is strong
      it holds the values apart, and the maximum's excess over the data's
      action, passed on from step to step, lifts all of them to the end of the
      support.
    stop_gradient: keep the gradients of Q from the backbone.
    rem: mix the heads with random weights, drawn at every step.
    target_period: steps between copies of the target heads.
    hide_actions: share of a batch's segments whose Q is trained from contexts
      with random actions in place of those taken, while the other segments
      train the world part alone. 0 trains both on all, as in the paper. Where
      play repeats itself, the action taken last tells the next one better than
      any frame, so that Q learns to copy it and to look at nothing (de Haan et
      al., 2019, "Causal confusion in imitation learning").
  """

  world_weight: float = 0.1
  cql_weight: float = 0.1
  penalty: str = 'cql'
  backup: str = 'max'
  stop_gradient: bool = False
  rem: bool = False
  target_period: int = 1000
  hide_actions: float = 0.0

  def __post_init__(self):
    if not 0 <= self.hide_actions < 1:
      raise ValueError(
        f'losses.hide_actions={self.hide_actions} is not in [0, 1)'
      )
    if self.penalty not in PENALTIES:
      raise ValueError(f'losses.penalty={self.penalty!r} is not in {PENALTIES}')
    if self.backup not in BACKUPS:
      raise ValueError(f'losses.backup={self.backup!r} is not in {BACKUPS}')
    if self.target_period < 1:
      raise ValueError(f'losses.target_period={self.target_period} is not >= 1')


def world_terms(
  logits: WorldLogits, tokens: chex.Array, batch: Segment, real: chex.Array
) -> dict[str, chex.Array]:
  """The world part's three loss terms, over real segments [B]."""
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


def _td_errors(
  returns: ReturnConfig,
  mixed: chex.Array,
  target: chex.Array,
  batch: Segment,
  backups: chex.Array,
) -> tuple[chex.Array, chex.Array]:
  """The TD loss of every step, and which steps have one, [B, T] each.

  Args:
    returns: the representation.
    mixed: predicted returns, [B, T, A, atoms].
    target: those of the target heads.
    batch: the segments.
    backups: [B, T, A] bool, the actions that targets may bootstrap from.
  """
  discounts = returns.gamma * (1 - batch.ends.astype(jnp.float32))

  def one(mixed, target, target_q, backups, a, r, discount, mask):
    greedy, best = jax.vmap(q_learning.bootstrap_targets)(
      target, target_q, backups
    )
    r, discount, has_target = q_learning.n_step(r, discount, mask, n=1)
    if returns.num_atoms == 1:
      later = q_learning.steps_later(best, 1)
      td = q_learning.mse_loss(mixed[..., 0], a, r, discount, later)
    else:
      later = q_learning.steps_later(greedy, 1)
      td = q_learning.c51_loss(mixed, a, r, discount, later, returns.atoms)
    return td, has_target

  return jax.vmap(one)(
    mixed,
    target,
    world_action.expected_returns(returns, target),
    backups,
    *(batch.actions, batch.rewards, discounts, batch.mask),
  )


class OfReturns(Protocol):
  """What has Q values."""

  @property
  def returns(self) -> ReturnConfig: ...


def q_terms(
  config: OfReturns,
  losses: JowaLosses,
  logits: chex.Array,
  target_logits: chex.Array,
  batch: Segment,
  real: chex.Array,
  weights: chex.Array | None,
  trained: chex.Array | None = None,
) -> tuple[dict[str, chex.Array], Metrics]:
  """The action part's loss terms, unweighted, and its metrics.

  Args:
    config: of the model's returns.
    losses: variants.
    logits: of the Q heads, [num_q, B, T, A * atoms].
    target_logits: of the target heads, of the same shape.
    batch: the segments.
    real: [B] bool, false for imagined segments.
    weights: [num_q] of REM, or None.
    trained: [B, T] bool, the steps whose Q is trained; None for all.
  """
  returns = config.returns
  legal = jnp.asarray(games.legal_mask())[batch.task][:, None]
  mixed = world_action.mixed_returns(returns, logits, weights)
  target = world_action.mixed_returns(returns, target_logits, weights)
  q = world_action.expected_returns(
    returns, world_action.mixed_returns(returns, logits)
  )
  backups = jnp.broadcast_to(legal, q.shape)
  if losses.backup == 'data':
    backups = jax.nn.one_hot(batch.actions, q.shape[-1], dtype=bool)
  td, has_target = _td_errors(returns, mixed, target, batch, backups)
  mask = batch.mask if trained is None else batch.mask & trained
  logsumexp, taken = jax.vmap(q_learning.cql_terms)(q, batch.actions)
  in_data = acted = mask if batch.acted is None else mask & batch.acted
  if losses.penalty == 'combo':
    in_data = acted & real[:, None]
  negative = masked_mean(logsumexp, acted)
  positive = masked_mean(taken, in_data)
  terms = {'q/td': masked_mean(td, has_target & mask)}
  if losses.cql_weight:
    terms['q/cql'] = negative - positive
  allowed = jnp.where(legal, q, -jnp.inf)
  agrees = jnp.argmax(allowed, axis=-1) == batch.actions
  metrics = {
    'q/logsumexp': negative,
    'q/data_value': positive,
    'q/max_value': masked_mean(jnp.max(allowed, axis=-1), mask),
    # How often greedy play would have done what the data did.
    'q/agreement': masked_mean(agrees * 1.0, acted),
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
  """Weighted loss terms and metrics of the world-action model.

  The metrics hold every term unweighted, under the same name, so that curves
  of stages and of held-out data can be compared.

  Args:
    config: of the model.
    losses: weights and variants.
    params: with the top-level names of `world_action.init`.
    target_params: of the target Q heads; None leaves the action part out and
      takes the world part at full weight (stage 1).
    tokens: [B, T, K] int32, the encoded frames.
    batch: the segments.
    key: for dropout, REM and which rows' actions are hidden; None switches
      dropout and hiding off, so that metrics of Q are of the actions that were
      taken there, and in training partly of drawn ones.

  Raises:
    ValueError: REM has no key, or the rows cannot be divided, see
      `copycat.count_hidden`.
  """
  keys = [None] * 3 if key is None else jax.random.split(key, 3)
  backbone = config.backbone
  real = jnp.ones(batch.task.shape, bool)
  if batch.imagined is not None:
    real = ~batch.imagined
  actions, trained, of_world = batch.actions, None, slice(None)
  if losses.hide_actions and target_params is not None and key is not None:
    actions, hidden_rows = hide_actions(
      losses.hide_actions,
      batch.actions,
      # Not one of the keys that were there before it: these stay the same.
      jax.random.fold_in(key, 3),
    )
    # The others alone get logits of tokens, which cost a quarter of a step.
    # They lie anywhere in the batch: where it is spread over devices, each
    # device computes those of all.
    rows = len(hidden_rows)
    shown = rows - count_hidden(losses.hide_actions, rows)
    of_world = jnp.flatnonzero(~hidden_rows, size=shown)
    trained = jnp.broadcast_to(hidden_rows[:, None], batch.actions.shape)
  hidden = world_action.hidden_states(
    backbone, params['backbone'], tokens, actions, batch.task, keys[0]
  )
  terms, metrics = {}, {}
  weight = 1.0 if target_params is None else losses.world_weight
  if weight:
    told, seen, is_real = jax.tree.map(
      lambda x: x[of_world], (batch, tokens, real)
    )
    logits = world_action.world_logits(
      backbone, params['world_heads'], hidden[of_world]
    )
    metrics = world_terms(logits, seen, told, is_real)
    terms = {name: weight * term for name, term in metrics.items()}
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
    q_part, values = q_terms(
      config, losses, q, target, batch, real, weights, trained
    )
    metrics = {**metrics, **q_part, **values}
    terms = {**terms, **q_part}
    if 'q/cql' in terms:
      terms['q/cql'] = losses.cql_weight * terms['q/cql']
  return terms, metrics


def next_tokens(logits: chex.Array) -> chex.Array:
  """The likeliest tokens of the frames that follow, [B, T - 1, K].

  Token 0 of a frame is read at the action before it, the rest at the tokens
  before them.

  Args:
    logits: of the observation head, [B, T, K, V].
  """
  predicted = jnp.argmax(logits, axis=-1)
  return jnp.concatenate(
    [predicted[:, :-1, -1:], predicted[:, 1:, :-1]], axis=-1
  )


def prediction_metrics(
  logits: WorldLogits, tokens: chex.Array, batch: Segment
) -> Metrics:
  """Token accuracies on next frames, beside those of copying the last one.

  Of tokens that change, the recall of rewards that are not 0, and the precision
  where they are predicted, they are ratios of counts: a batch may hold none.
  """
  predicted = next_tokens(logits.observations)
  last, truth = tokens[:, :-1], tokens[:, 1:]
  mask = jnp.broadcast_to(batch.mask[:, 1:, None], truth.shape)
  changed = mask & (truth != last)
  right, copied = predicted == truth, last == truth
  sign = jnp.argmax(logits.rewards, axis=-1) - 1
  reward = sign == jnp.sign(batch.rewards)
  hits = jnp.sum(reward & (sign != 0) & batch.mask)
  return {
    'world/token_accuracy': masked_mean(right * 1.0, mask),
    'world/copy_accuracy': masked_mean(copied * 1.0, mask),
    'world/changed_token_accuracy': Ratio(
      jnp.sum(right & changed), jnp.sum(changed)
    ),
    'world/reward_accuracy': masked_mean(reward * 1.0, batch.mask),
    'world/reward_recall': Ratio(
      hits, jnp.sum((batch.rewards != 0) & batch.mask)
    ),
    'world/reward_precision': Ratio(hits, jnp.sum((sign != 0) & batch.mask)),
  }
