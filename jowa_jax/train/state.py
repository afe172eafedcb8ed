"""The state of a training run and its stages."""

import dataclasses
from collections.abc import Mapping
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
    steps: how many.
    optimizers: of each of the method's parts that is trained, in the order
      in which a step updates them.
  """

  name: str
  steps: int
  optimizers: Mapping[str, OptimizerConfig]


@chex.dataclass(frozen=True)
class TrainState:
  """Everything a step changes."""

  step: chex.Array  # [] int32, steps taken in all stages together
  variables: Variables
  opt_state: dict[str, Any]  # by part


def check_stage(method: Method, stage: Stage) -> None:
  """Raises ValueError if the stage trains a part the method lacks."""
  unknown = set(stage.optimizers) - set(method.parts)
  if unknown or not stage.optimizers:
    raise ValueError(
      f'stage {stage.name!r} trains {list(stage.optimizers)}; the method has '
      f'the parts {list(method.parts)}'
    )


def init_variables(
  method: Method,
  seed: int,
  statistics: Mapping[str, chex.Array],
  mesh: Mesh,
  rules: sharding.Rules,
) -> tuple[Variables, Variables]:
  """Returns fresh variables, placed on the mesh, and their shardings."""

  def init(key):
    return method.init(key, statistics)

  boxed = jax.eval_shape(init, jax.random.key(seed))
  shardings = sharding.tree_shardings(boxed, mesh, rules)
  make = jax.jit(lambda key: nn.meta.unbox(init(key)), out_shardings=shardings)
  return make(jax.random.key(seed)), shardings


def init_optimizers(
  method: Method,
  stage: Stage,
  variables: Variables,
  shardings: Variables,
  mesh: Mesh,
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Returns fresh optimizer states of a stage's parts, and their shardings."""
  states, state_shardings = {}, {}
  for name, config in stage.optimizers.items():
    tx, groups = make_optimizer(config), method.parts[name].params
    params = {group: variables.params[group] for group in groups}
    state_shardings[name] = sharding.optimizer_shardings(
      tx,
      jax.eval_shape(tx.init, params),
      {group: shardings.params[group] for group in groups},
      mesh,
    )
    states[name] = jax.jit(tx.init, out_shardings=state_shardings[name])(params)
  return states, state_shardings


def begin_stage(
  method: Method,
  stage: Stage,
  step: int,
  variables: Variables,
  shardings: Variables,
  mesh: Mesh,
) -> tuple[TrainState, TrainState]:
  """Returns the state a stage starts from, and its shardings."""
  check_stage(method, stage)
  opt_state, opt_shardings = init_optimizers(
    method, stage, variables, shardings, mesh
  )
  place = sharding.replicated(mesh)
  state = TrainState(
    step=jax.device_put(np.int32(step), place),
    variables=variables,
    opt_state=opt_state,
  )
  return state, TrainState(
    step=place, variables=shardings, opt_state=opt_shardings
  )
