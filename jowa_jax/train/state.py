"""The state of a training run and its stages."""

import dataclasses
import functools
from collections.abc import Collection, Mapping
from typing import Any

import chex
import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh

from jowa_jax.methods.base import Method, Variables
from jowa_jax.train import sharding
from jowa_jax.train.optimizer import OptimizerConfig, make_optimizer


@dataclasses.dataclass(frozen=True)
class Stage:
  """A stretch of training with one set of losses and fresh optimizers.

  Attributes:
    name: for logs and checkpoints.
    steps: optimizer updates in the stage.
    optimizers: of each of the method's objectives that is trained, in the
      order in which a step updates them.
  """

  name: str
  steps: int
  optimizers: Mapping[str, OptimizerConfig]


@chex.dataclass(frozen=True)
class TrainState:
  """Everything a step changes."""

  step: chex.Array  # [] int32, steps taken in all stages together
  variables: Variables
  opt_state: dict[str, Any]  # by objective


def check_stage(method: Method, stage: Stage) -> None:
  """Raises ValueError if the stage has an objective the method lacks."""
  unknown = set(stage.optimizers) - set(method.objectives)
  if unknown or not stage.optimizers:
    raise ValueError(
      f'stage {stage.name!r} trains {list(stage.optimizers)}; the method has '
      f'the parts {list(method.objectives)}'
    )


def stage_flops(method: Method, stage: Stage) -> float:
  """Floating-point operations of a stage's step for every segment, by formula.

  What is trained takes the forward pass and two of the same size, for the
  gradients of inputs and of weights; all else the forward pass alone.
  """
  total = 0.0
  for name in stage.optimizers:
    objective = method.objectives[name]
    for group, forward in objective.flops.items():
      total += (3 if group in objective.params else 1) * forward
  return total


def abstract_variables(
  method: Method,
  statistics: Mapping[str, chex.Array | jax.ShapeDtypeStruct],
  mesh: Mesh,
  rules: sharding.Rules,
) -> tuple[Variables, Variables]:
  """The shapes of a method's variables, and their shardings."""
  boxed = jax.eval_shape(
    method.init, jax.eval_shape(lambda: jax.random.key(0)), dict(statistics)
  )
  return nn.meta.unbox(boxed), sharding.tree_shardings(boxed, mesh, rules)


def init_variables(
  method: Method,
  seed: int,
  statistics: Mapping[str, chex.Array],
  shardings: Variables,
) -> Variables:
  """Fresh variables, placed."""

  def init(key):
    return nn.meta.unbox(method.init(key, statistics))

  return jax.jit(init, out_shardings=shardings)(jax.random.key(seed))


def abstract_optimizers(
  method: Method,
  stage: Stage,
  variables: Variables,
  shardings: Variables,
  mesh: Mesh,
) -> tuple[dict[str, Any], dict[str, Any]]:
  """The shapes of a stage's optimizer states, and their shardings.

  Args:
    method: what is trained.
    stage: which objectives, and how.
    variables: (abstract) arrays.
    shardings: where each of the variables lives.
    mesh: the devices.
  """
  states, state_shardings = {}, {}
  for name, config in stage.optimizers.items():
    objective = method.objectives[name]
    tx = make_optimizer(config, stage.steps, objective.decays)
    params = {group: variables.params[group] for group in objective.params}
    states[name] = jax.eval_shape(tx.init, params)
    state_shardings[name] = sharding.optimizer_shardings(
      tx,
      states[name],
      {group: shardings.params[group] for group in objective.params},
      mesh,
    )
  return states, state_shardings


def begin_stage(
  method: Method,
  stage: Stage,
  step: int,
  variables: Variables,
  shardings: Variables,
  mesh: Mesh,
  opt_state: dict[str, Any] | None = None,
  before: Collection[str] = (),
) -> tuple[TrainState, TrainState]:
  """The state a stage starts from, and its shardings.

  Args:
    method: what is trained.
    stage: which objectives, and how.
    step: steps taken.
    variables: as they are now.
    shardings: where each of the variables lives.
    mesh: the devices.
    opt_state: of a stage that goes on; None for one that begins.
    before: objectives of the stages before it.
  """
  check_stage(method, stage)
  if opt_state is None and method.begin_stage:
    begin = functools.partial(
      method.begin_stage,
      objectives=tuple(stage.optimizers),
      before=tuple(before),
    )
    variables = jax.jit(begin, out_shardings=shardings)(variables)
  _, places = abstract_optimizers(method, stage, variables, shardings, mesh)
  if opt_state is None:
    opt_state = {}
    for name, config in stage.optimizers.items():
      objective = method.objectives[name]
      params = {group: variables.params[group] for group in objective.params}
      tx = make_optimizer(config, stage.steps, objective.decays)
      init = jax.jit(tx.init, out_shardings=places[name])
      opt_state[name] = init(params)
  place = sharding.replicated(mesh)
  state = TrainState(
    step=jax.device_put(np.int32(step), place),
    variables=variables,
    opt_state=opt_state,
  )
  return state, TrainState(step=place, variables=shardings, opt_state=places)
