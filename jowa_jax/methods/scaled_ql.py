"""Scaled-QL: conservative Q-learning of many games (appendix E.1.5).

C51 of n-step returns with the penalty of CQL, from stacks of frames (Kumar et
al., 2022). What its paper leaves open is JOWA's reproduction, or our choice.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jowa_jax import games as games_lib
from jowa_jax.losses import q_learning
from jowa_jax.losses.masked import masked_mean
from jowa_jax.methods.acting import Acting
from jowa_jax.methods.augmentation import AugmentationConfig, augmentation
from jowa_jax.methods.base import (
  Aux,
  BatchSpec,
  Method,
  Metrics,
  Objective,
  Policy,
  Variables,
)
from jowa_jax.methods.history_policy import history_policy
from jowa_jax.models import q_network, resnet
from jowa_jax.models.frame_stack import stack_frames
from jowa_jax.models.q_network import Outputs, QNetworkConfig
from jowa_jax.models.resnet import ResNetConfig
from jowa_jax.plan.base import faulty
from jowa_jax.types import FRAME_SHAPE, History, Segment


@dataclasses.dataclass(frozen=True)
class ScaledQlLosses:
  """What is learned, and from how many steps.

  Attributes:
    length: steps of a segment with a loss; neighbours share their frames.
    n: steps of a return.
    gamma: discount.
    cql_weight: of the penalty on Q values; 0 leaves it out.
    double: whether the trained network chooses the action that a target
      bootstraps from (van Hasselt et al., 2016), and not the target's own.
    target_period: steps between copies of the whole network.
    freeze_encoder: whether only what follows the encoder is trained.
  """

  length: int = 1
  n: int = 3
  gamma: float = 0.99
  cql_weight: float = 0.05
  double: bool = False
  target_period: int = 2000
  freeze_encoder: bool = False

  def __post_init__(self):
    for name in ('length', 'n', 'target_period'):
      if getattr(self, name) < 1:
        raise ValueError(f'losses.{name}={getattr(self, name)} is not >= 1')
    if not 0 <= self.gamma <= 1:
      raise ValueError(f'losses.gamma={self.gamma} is not in [0, 1]')
    if self.cql_weight < 0:
      raise ValueError(f'losses.cql_weight={self.cql_weight} is negative')


@dataclasses.dataclass(frozen=True)
class ScaledQlConfig:
  """The sections of a config of Scaled-QL."""

  MODEL: ClassVar = ('encoder', 'q_network')

  encoder: ResNetConfig = ResNetConfig()
  q_network: QNetworkConfig = QNetworkConfig()
  losses: ScaledQlLosses = ScaledQlLosses()
  augmentation: AugmentationConfig = AugmentationConfig()


@dataclasses.dataclass(frozen=True)
class ScaledQlActing(Acting):
  """How Scaled-QL acts: by the largest value of a legal action."""


class Transitions(NamedTuple):
  """N states of segments, and what came n steps later."""

  stacks: chex.Array  # [N, H, W, stack]
  next_stacks: chex.Array  # [N, H, W, stack]
  actions: chex.Array  # [N] int32
  returns: chex.Array  # [N] float32, of n steps
  discounts: chex.Array  # [N], of the value n steps later; 0 after an end
  legal: chex.Array  # [N, A] bool
  rows: chex.Array  # [N] int32, heads
  trained: chex.Array  # [N] bool, those that exist and have a target


class Errors(NamedTuple):
  """What the loss is made of, for N states."""

  td: chex.Array  # [N], cross-entropy, or half the squared error
  soft_maximum: chex.Array  # [N], of all actions' values
  taken: chex.Array  # [N], values of the data's actions
  bootstrapped: chex.Array  # [N, M], the target network's n steps later
  q: chex.Array  # [N, A]


def make_scaled_ql(config: ScaledQlConfig, games: Sequence[str]) -> Method:
  """Scaled-QL as a `Method` with the objective `q`.

  Args:
    config: its sections.
    games: of the run; each has a head.

  Raises:
    ValueError: the network has not Atari's actions.
  """
  if config.q_network.num_actions != games_lib.NUM_ACTIONS:
    raise ValueError(
      f'q_network.num_actions={config.q_network.num_actions}, but Atari has '
      f'{games_lib.NUM_ACTIONS}'
    )
  games = tuple(sorted(games, key=games_lib.GAMES.index))
  losses = config.losses
  return Method(
    spec=BatchSpec(
      length=losses.length,
      history=config.encoder.stack - 1,
      lookahead=losses.n,
    ),
    tokens=losses.length,
    dtype=config.encoder.dtype,
    init=functools.partial(_init, config, len(games)),
    objectives={'q': _objective(config, games)},
    after_update=functools.partial(_copy_targets, losses.target_period),
    tokenizer=None,
    evaluate=functools.partial(_evaluate, config, games),
    policy=functools.partial(_make_policy, config, games),
  )


def head_rows(games: Sequence[str]) -> np.ndarray:
  """The head of every game, [60] int32.

  That of a game without one is beyond the last: its values are not finite.

  Args:
    games: those that have one, in the order of `games.GAMES`.
  """
  rows = np.full(games_lib.NUM_TASKS, len(games), np.int32)
  rows[[games_lib.task_id(game) for game in games]] = np.arange(len(games))
  return rows


def transitions(
  config: ScaledQlConfig, games: Sequence[str], segments: Segment
) -> Transitions:
  """The states of segments that have a loss, one after the other.

  Args:
    config: says how many frames are stacked, and n.
    games: those that have a head, in the order of `games.GAMES`.
    segments: B of them, of the method's `BatchSpec`; N = B * length.
  """
  losses, history = config.losses, config.encoder.stack - 1
  stacks = stack_frames(segments.observations, segments.mask, history)
  ends = segments.ends[:, history:].astype(jnp.float32)
  returns, discounts, has_target = jax.vmap(
    functools.partial(q_learning.n_step, n=losses.n)
  )(
    segments.rewards[:, history:],
    losses.gamma * (1 - ends),
    segments.mask[:, history:],
  )
  length = losses.length

  def flat(x):  # [B, length + n, ...] -> [B * length, ...]
    return x[:, :length].reshape(-1, *x.shape[2:])

  def of_segments(x):  # [B, ...] -> [B * length, ...]
    return jnp.repeat(x, length, axis=0)

  task = segments.task
  return Transitions(
    stacks=flat(stacks),
    next_stacks=flat(stacks[:, losses.n :]),
    actions=flat(segments.actions[:, history:]),
    returns=flat(returns),
    discounts=flat(discounts),
    legal=of_segments(jnp.asarray(games_lib.legal_mask())[task]),
    rows=of_segments(jnp.asarray(head_rows(games))[task]),
    trained=flat(segments.train[:, history:] & has_target),
  )


def errors(
  config: ScaledQlConfig, variables: Variables, batch: Transitions
) -> Errors:
  """What the loss is made of: TD errors, and values for the penalty."""
  network = config.q_network

  def outputs(params, stacks) -> Outputs:
    return q_network.apply(config.encoder, network, params, stacks, batch.rows)

  now = outputs(variables.params, batch.stacks)
  later = outputs(variables.targets, batch.next_stacks)
  chosen_by = later
  if config.losses.double:
    params = jax.lax.stop_gradient(variables.params)
    chosen_by = outputs(params, batch.next_stacks)
  values = later.logits if network.scalar else jax.nn.softmax(later.logits)
  bootstrapped, _ = jax.vmap(q_learning.bootstrap_targets)(
    values, chosen_by.q, batch.legal
  )
  given = batch.actions, batch.returns, batch.discounts
  if network.scalar:
    td = q_learning.mse_loss(now.q, *given, bootstrapped[:, 0])
  else:
    td = q_learning.c51_loss(
      jax.nn.softmax(now.logits), *given, bootstrapped, network.atoms
    )
  return Errors(
    td, *q_learning.cql_terms(now.q, batch.actions), bootstrapped, now.q
  )


def metrics(
  config: ScaledQlConfig, variables: Variables, batch: Transitions
) -> Metrics:
  """The terms of the loss, and what tells how the values are."""
  found = errors(config, variables, batch)
  values = jnp.where(batch.legal, found.q, -jnp.inf)
  terms = {
    'td': found.td,
    'cql': found.soft_maximum - found.taken,
    'logsumexp': found.soft_maximum,
    'data_value': found.taken,
    'max_value': values.max(axis=-1),
    'agreement': (values.argmax(axis=-1) == batch.actions) * 1.0,
  }
  return {
    f'q/{name}': masked_mean(each, batch.trained)
    for name, each in terms.items()
  }


def total_loss(losses: ScaledQlLosses, terms: Metrics) -> chex.Array:
  """The TD loss and the penalty, weighed."""
  return terms['q/td'] + losses.cql_weight * terms['q/cql']


def _evaluate(
  config: ScaledQlConfig,
  games: Sequence[str],
  variables: Variables,
  segments: Segment,
) -> Metrics:
  return metrics(config, variables, transitions(config, games, segments))


def _objective(config: ScaledQlConfig, games: Sequence[str]) -> Objective:
  """What trains the network, the encoder perhaps left as it is."""
  losses, network = config.losses, config.q_network

  def loss(variables: Variables, segments: Segment, key, step):
    del key, step
    values = _evaluate(config, games, variables, segments)
    return total_loss(losses, values), Aux(values, {})

  forward = {
    q_network.ENCODER: resnet.encoder_flops(config.encoder),
    **q_network.count_flops(network, config.encoder.outputs, len(games)),
  }
  forward = {name: losses.length * each for name, each in forward.items()}
  # The target network's pass, and another that chooses its actions.
  passes = 2 if losses.double else 1
  return Objective(
    params=q_network.NAMES[1:] if losses.freeze_encoder else q_network.NAMES,
    loss=loss,
    flops={**forward, 'targets': passes * sum(forward.values())},
    augment=augmentation(config.augmentation),
  )


def _init(
  config: ScaledQlConfig,
  games: int,
  key: chex.PRNGKey,
  statistics: Mapping[str, chex.Array],
) -> Variables:
  del statistics
  params = q_network.init(config.encoder, config.q_network, games, key)
  return Variables(
    params=params, targets=jax.tree.map(jnp.copy, params), extras={}
  )


def _copy_targets(
  period: int, variables: Variables, carry: dict[str, Any], step: chex.Array
) -> Variables:
  """The target network becomes the trained one now and then."""
  del carry
  copy = step % period == 0
  targets = jax.tree.map(
    lambda new, old: jnp.where(copy, new, old),
    variables.params,
    variables.targets,
  )
  return variables.replace(targets=targets)


def _make_policy(
  config: ScaledQlConfig, games: Sequence[str], **options: Any
) -> Policy:
  """Takes the legal action of the largest value; see `ScaledQlActing`."""
  acting = ScaledQlActing.of(options)
  stack, rows = config.encoder.stack, head_rows(games)

  def decide(variables: Variables, history: History, legal, keys):
    del keys
    exist = jnp.arange(stack) >= stack - history.count[:, None]
    stacks = stack_frames(history.seen, exist, stack - 1)[:, 0]
    q = q_network.apply(
      config.encoder,
      config.q_network,
      variables.params,
      stacks,
      jnp.asarray(rows)[history.tasks],
    ).q
    actions = jnp.argmax(jnp.where(legal, q, -jnp.inf), axis=-1)
    return jnp.where(faulty(q, legal), -1, actions), {'q': q}

  policy = history_policy(
    lambda variables, frames: frames,
    decide,
    jax.ShapeDtypeStruct(FRAME_SHAPE, jnp.uint8),
    stack,
    acting.epsilon,
  )

  def init(tasks: chex.Array) -> History:
    without = {games_lib.GAMES[task] for task in np.asarray(tasks)}
    without -= set(games)
    if without and not config.q_network.shared_head:
      raise ValueError(
        f'No head for {", ".join(sorted(without))}: this agent was trained on '
        f'{", ".join(games)}; fine-tune it by launch.finetune'
      )
    return policy.init(tasks)

  return policy._replace(init=init)
