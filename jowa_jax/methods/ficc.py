"""FICC: latent actions from watching, then Q-values (appendix E.1.6).

Objectives: `watching` needs frames alone; `action_map` learns which latent
action every real one is; `q` is JOWA's second stage on the watched encoder.
The authors released their pretraining alone; what follows it is ours.
"""

import dataclasses
import functools
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jowa_jax import games
from jowa_jax.losses import ficc as losses_lib
from jowa_jax.losses.masked import masked_mean
from jowa_jax.methods import ficc_losses
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
from jowa_jax.methods.ficc_latents import (
  ACTION_CODES,
  ACTION_MAP,
  latent_actions,
  make_latents,
  told,
)
from jowa_jax.methods.ficc_losses import FiccLosses, stacks_of, with_loss
from jowa_jax.methods.history_policy import history_policy
from jowa_jax.methods.jowa_losses import JowaLosses, q_terms
from jowa_jax.models import ficc, ficc_flops, world_action
from jowa_jax.models.ficc import Q_HEAD, VIDEO, FiccNetwork, Networks
from jowa_jax.models.ficc_blocks import STATISTICS
from jowa_jax.models.frame_stack import stack_frames
from jowa_jax.models.world_action import ReturnConfig
from jowa_jax.plan.base import faulty
from jowa_jax.types import FRAME_SHAPE, History, Segment

# Of which there are copies that Q is trained towards.
_TARGETS = ('encoder', Q_HEAD, STATISTICS)


@dataclasses.dataclass(frozen=True)
class FiccConfig:
  """The sections of a config of FICC.

  Attributes:
    network: sizes.
    returns: of Q.
    losses: weights and variants.
    augmentation: of frames while Q is learned from them.
  """

  MODEL: ClassVar = ('network', 'returns')

  network: FiccNetwork
  returns: ReturnConfig = ReturnConfig()
  losses: FiccLosses = FiccLosses()
  augmentation: AugmentationConfig = AugmentationConfig()

  @property
  def networks(self) -> Networks:
    return Networks(self.network, self.returns.num_atoms)


@dataclasses.dataclass(frozen=True)
class FiccActing(Acting):
  """How FICC acts: by the best Q-value, without planning."""


def make_ficc(config: FiccConfig) -> Method:
  """FICC as a `Method` with the objectives of this module's docstring."""
  return Method(
    spec=BatchSpec(length=config.losses.steps, history=ficc.STACK - 1),
    tokens=config.losses.steps * ficc.GRID**2,
    dtype=config.network.dtype,
    init=functools.partial(_init, config),
    objectives={
      'watching': _watching(config),
      'action_map': _mapping(config),
      'q': _q_learning(config),
    },
    after_update=functools.partial(_after_update, config),
    begin_stage=_begin_stage,
    tokenizer=None,
    evaluate=functools.partial(_evaluate, config),
    policy=functools.partial(_make_policy, config),
    latents=make_latents(config.networks),
  )


def _init(
  config: FiccConfig, key: chex.PRNGKey, statistics: Mapping[str, chex.Array]
) -> Variables:
  del statistics
  params = ficc.init(config.networks, key)

  def table(columns: int):
    zeros = jnp.zeros((games.NUM_TASKS, games.NUM_ACTIONS, columns))
    return nn.LogicallyPartitioned(zeros, ('tasks', None, None))

  params[ACTION_MAP] = {'offset': table(config.network.code_size)}
  # Not in `extras`: whoever takes the map from a checkpoint takes it along, as
  # with the running statistics.
  params[ACTION_CODES] = {'counts': table(config.network.num_codes)}
  targets = {name: jax.tree.map(jnp.copy, params[name]) for name in _TARGETS}
  return Variables(params=params, targets=targets, extras={})


def _noted(statistics: Mapping[str, Any], names: Collection[str]):
  """Running statistics of some networks, as `Aux.carry` has them."""
  return {f'{STATISTICS}/{name}': statistics[name] for name in names}


def _watching(config: FiccConfig) -> Objective:
  """What trains all networks but Q, from frames alone."""
  networks = config.networks

  def loss(variables: Variables, segments: Segment, key, step):
    del step
    total, _, metrics, statistics = ficc_losses.watching_loss(
      networks, config.losses, variables.params, segments, key
    )
    return total, Aux(metrics, _noted(statistics, statistics))

  flops = ficc_flops.watching(config.network, config.losses.steps)
  return Objective(VIDEO, loss, flops, reads=())


def _mapping(config: FiccConfig) -> Objective:
  """What learns the map from real to latent actions; the networks stay.

  Codes are counted in every step, of the last micro-batch.
  """
  networks = config.networks

  def loss(variables: Variables, segments: Segment, key, step):
    del key, step
    params = variables.params
    states, codes, actions, mask = told(networks, params, segments)
    task = jnp.broadcast_to(segments.task, actions.shape)
    counts = ficc_losses.counted(
      config.network.num_codes, task, actions, codes, mask
    )
    predicted = ficc.run(
      networks,
      params,
      'forward',
      states[:-1],
      latent_actions(params)[task, actions],
    )
    targets, predicted = ficc.run(
      networks, params, 'compare', states[1:], predicted, False
    )
    cycle = jax.vmap(losses_lib.cycle_loss)(predicted, targets)
    total = masked_mean(cycle, mask)
    metrics = {'latent/map': total, **ficc_losses.purity(counts)}
    return total, Aux(metrics, {ACTION_CODES: counts})

  return Objective(
    (ACTION_MAP,), loss, ficc_flops.mapping(config.network, config.losses.steps)
  )


def _q_metrics(config: FiccConfig, logits, target_logits, segments: Segment):
  """JOWA's terms of Q, of logits [T, B, A * atoms]."""
  losses = config.losses
  rows = len(segments.task)

  def by_row(logits):
    return jnp.moveaxis(logits, 0, 1)[None]

  steps = jax.tree.map(
    lambda x: x[:, ficc.STACK - 1 :] if x.ndim > 1 else x,
    segments.replace(observations=None, train=None),
  )
  return q_terms(
    config,
    JowaLosses(
      cql_weight=losses.cql_weight,
      backup=losses.backup,
      target_period=losses.target_period,
    ),
    by_row(logits),
    lax.stop_gradient(by_row(target_logits)),
    steps,
    jnp.ones(rows, bool),
    None,
  )


def _q_learning(config: FiccConfig) -> Objective:
  """What trains Q and the encoder below it."""
  networks, losses = config.networks, config.losses

  def loss(variables: Variables, segments: Segment, key, step):
    del step
    stacks = stacks_of(segments)
    logits, statistics = ficc.run_and_note(
      networks, variables.params, 'q', stacks, True
    )
    target = ficc.run(networks, variables.targets, 'q', stacks)
    terms, metrics = _q_metrics(config, logits, target, segments)
    metrics = {**terms, **metrics}
    total = terms['q/td'] + losses.cql_weight * terms.get('q/cql', 0.0)
    carry = _noted(statistics, ('encoder',))
    if losses.world_weight:
      watching, _, found, noted = ficc_losses.watching_loss(
        networks, losses, variables.params, segments, key
      )
      total += losses.world_weight * watching
      metrics |= found
      carry = {**_noted(noted, noted), **carry}
    return total, Aux(metrics, carry)

  flops = ficc_flops.q_learning(
    config.network, losses.steps, config.returns.num_atoms
  )
  if not losses.world_weight:
    trained = ('encoder',)
  else:
    trained = VIDEO
    for name, more in _watching(config).flops.items():
      flops[name] = flops.get(name, 0.0) + more
  return Objective(
    (*trained, Q_HEAD), loss, flops, augmentation(config.augmentation)
  )


def _after_update(
  config: FiccConfig,
  variables: Variables,
  carry: dict[str, Any],
  step: chex.Array,
) -> Variables:
  """Notes running statistics and codes, and copies the targets now and then."""
  params = dict(variables.params)
  params[STATISTICS] = {
    name: carry.get(f'{STATISTICS}/{name}', old)
    for name, old in params[STATISTICS].items()
  }
  if ACTION_CODES in carry:
    counts = params[ACTION_CODES]['counts'] + carry[ACTION_CODES]
    params[ACTION_CODES] = {'counts': counts}
  copy = step % config.losses.target_period == 0
  targets = jax.tree.map(
    lambda new, old: jnp.where(copy, new, old),
    {name: params[name] for name in _TARGETS},
    variables.targets,
  )
  return variables.replace(params=params, targets=targets)


def _begin_stage(
  variables: Variables, objectives: Collection[str], before: Collection[str]
) -> Variables:
  """Q begins with targets of the encoder as it is."""
  del before
  if 'q' not in objectives:
    return variables
  return variables.replace(
    targets={
      name: jax.tree.map(jnp.copy, variables.params[name]) for name in _TARGETS
    }
  )


def _evaluate(
  config: FiccConfig, variables: Variables, segments: Segment
) -> Metrics:
  """What there is to measure of all objectives, norms as in play."""
  networks, params = config.networks, variables.params
  stacks = stacks_of(segments)
  _, watched, metrics, _ = ficc_losses.watching_loss(
    networks, config.losses, params, segments
  )
  frames = ficc_losses.on_canvas(stacks)
  mask = with_loss(segments.mask)
  metrics = {**metrics, **ficc_losses.sight(watched, frames, mask)}
  if segments.acted is not None:
    return metrics  # of videos, which have no actions
  _, codes, actions, kept = told(networks, params, segments)
  task = jnp.broadcast_to(segments.task, actions.shape)
  terms, values = _q_metrics(
    config,
    ficc.run(networks, params, 'q', stacks),
    ficc.run(networks, variables.targets, 'q', stacks),
    segments,
  )
  agreement = ficc_losses.agreement(
    config.network.num_codes, task, actions, codes, kept
  )
  return {**metrics, **agreement, **terms, **values}


def _make_policy(config: FiccConfig, **options: Any) -> Policy:
  """Takes the best legal action by Q; see `FiccActing`."""
  acting, networks = FiccActing.of(options), config.networks

  def decide(variables, history: History, legal, keys):
    del keys
    real = jnp.arange(ficc.STACK) >= ficc.STACK - history.count[:, None]
    stacks = stack_frames(history.seen, real, ficc.STACK - 1)
    stacks = jnp.moveaxis(stacks, 1, 0).astype(jnp.float32) / 255
    logits = ficc.run(networks, variables.params, 'q', stacks)
    q = world_action.expected_returns(
      config.returns, world_action.mixed_returns(config.returns, logits)
    )
    fault = faulty(q, legal)
    best = jnp.argmax(jnp.where(legal, q, -jnp.inf), axis=-1)
    return jnp.where(fault, -1, best), {'q': q}

  return history_policy(
    lambda variables, frames: frames,
    decide,
    jax.ShapeDtypeStruct(FRAME_SHAPE, jnp.uint8),
    ficc.STACK,
    acting.epsilon,
  )
