"""One training step: the objectives of a stage, each updated in turn.

The order of a step is: for every objective of the stage, in the stage's order,
on the variables as those before it left them, its gradients (of every
micro-batch in turn: `augment`, such as imagined segments, then the loss), clip
and update; then the method's `after_update` (target copies, code restarts).
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh

from jowa_jax.methods.base import Aux, Method, Metrics, Objective, Variables
from jowa_jax.train import sharding
from jowa_jax.train.optimizer import make_optimizer, rate_after
from jowa_jax.train.state import Stage, TrainState
from jowa_jax.types import Params, Segment

StepFn = Callable[[TrainState, Segment], tuple[TrainState, Metrics]]


class _Keys(NamedTuple):
  """An objective's randomness in a step."""

  loss: chex.PRNGKey
  augment: chex.PRNGKey


def _gradients(
  objective: Objective,
  variables: Variables,
  batch: Segment,
  keys: _Keys,
  step: chex.Array,
):
  """(value, aux, gradients) of an objective.

  Args:
    objective: what is differentiated, by its parameters.
    variables: as they are.
    batch: [B, ...], one micro-batch.
    keys: of this micro-batch.
    step: [] int32, steps taken in the stage.
  """

  def loss(params, batch):
    joined = {**variables.params, **params}
    return objective.loss(
      variables.replace(params=joined), batch, keys.loss, step
    )

  metrics = {}
  if objective.augment:
    batch, metrics = objective.augment(variables, batch, keys.augment, step)
  params = _trained(objective, variables)
  gradients = jax.value_and_grad(loss, has_aux=True)
  (value, aux), grads = gradients(params, batch)
  return value, Aux({**metrics, **aux.metrics}, aux.carry), grads


def _trained(objective: Objective, variables: Variables) -> dict[str, Params]:
  return {name: variables.params[name] for name in objective.params}


def _in_microbatches(gradients, batch: Segment, keys: _Keys, count: int):
  """What `gradients` does, over the micro-batches of a batch in turn.

  Args:
    gradients: (micro-batch, keys) -> (value, aux, gradients).
    batch: [B, ...].
    keys: those of a micro-batch fold in its number.
    count: of micro-batches, which divides B. Values, metrics and gradients are
      their means, so that a micro-batch with more padding weighs as much as the
      others; what is carried is the last one's.
  """
  if count == 1:
    return gradients(batch, keys)

  def split(x):
    # Every micro-batch is spread over the devices as the batch is.
    return jnp.moveaxis(x.reshape(-1, count, *x.shape[1:]), 1, 0)

  def add(total, microbatch):
    index, rows = microbatch
    folded = _Keys(*(jax.random.fold_in(key, index) for key in keys))
    value, aux, grads = gradients(rows, folded)
    return jax.tree.map(jnp.add, total, (value, aux.metrics, grads)), aux.carry

  rows = jax.tree.map(split, batch)
  first = jax.tree.map(lambda x: x[0], rows)
  value, aux, grads = jax.eval_shape(gradients, first, keys)
  zeros = jax.tree.map(
    lambda x: jnp.zeros(x.shape, x.dtype), (value, aux.metrics, grads)
  )
  total, carry = lax.scan(add, zeros, (jnp.arange(count), rows))
  value, metrics, grads = jax.tree.map(lambda x: x / count, total)
  carry = jax.tree.map(lambda x: x[-1], carry)
  return value, Aux(metrics, carry), grads


def step_fn(
  method: Method,
  stage: Stage,
  first_step: int,
  seed: int,
  microbatches: int = 1,
) -> StepFn:
  """The pure function of one step.

  Args:
    method: what is trained.
    stage: which objectives, and how.
    first_step: steps taken before the stage.
    seed: of all randomness in training; a step's key folds in its number.
    microbatches: into which a batch is split, one after the other, for memory;
      see `_in_microbatches`.
  """
  transforms = {
    name: make_optimizer(config, stage.steps, method.objectives[name].decays)
    for name, config in stage.optimizers.items()
  }

  def step(state: TrainState, batch: Segment) -> tuple[TrainState, Metrics]:
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    # The states of the optimizers began with the stage, too.
    taken = state.step - first_step
    variables, opt_state = state.variables, dict(state.opt_state)
    metrics, carry = {}, {}
    for i, (name, tx) in enumerate(transforms.items()):
      objective = method.objectives[name]
      keys = _Keys(
        loss=jax.random.fold_in(key, i),
        augment=jax.random.fold_in(key, len(transforms) + i),
      )

      def gradients(batch, keys, variables=variables, objective=objective):
        return _gradients(objective, variables, batch, keys, taken)

      value, aux, grads = _in_microbatches(gradients, batch, keys, microbatches)
      params = _trained(objective, variables)
      updates, opt_state[name] = tx.update(grads, opt_state[name], params)
      params = optax.apply_updates(params, updates)
      variables = variables.replace(params={**variables.params, **params})
      metrics |= aux.metrics
      metrics[f'loss/{name}'] = value
      metrics[f'gradient_norm/{name}'] = optax.tree.norm(grads)
      metrics[f'update_norm/{name}'] = optax.tree.norm(updates)
      metrics[f'lr/{name}'] = rate_after(
        stage.optimizers[name], stage.steps, taken
      )
      carry |= aux.carry
    variables = method.after_update(variables, carry, taken + 1)
    state = TrainState(
      step=state.step + 1, variables=variables, opt_state=opt_state
    )
    return state, metrics

  return step


def compile_step(
  method: Method,
  stage: Stage,
  first_step: int,
  seed: int,
  mesh: Mesh,
  shardings: TrainState,
  microbatches: int = 1,
) -> StepFn:
  """The step, jitted once, sharded, and donating its state."""
  return jax.jit(
    step_fn(method, stage, first_step, seed, microbatches),
    in_shardings=(shardings, sharding.batch_sharding(mesh)),
    out_shardings=(shardings, sharding.replicated(mesh)),
    donate_argnums=0,
  )
