"""One training step: the parts of a stage, each updated in turn.

The order of a step is: for every part of the stage, in the stage's order, its
loss on the variables as the parts before it left them, its gradients, clip
and update; then the method's `after_update` (target copies, code restarts).
"""

from collections.abc import Callable

import jax
import optax
from jax.sharding import Mesh

from jowa_jax.methods.base import Method, Metrics
from jowa_jax.train import sharding
from jowa_jax.train.optimizer import make_optimizer
from jowa_jax.train.state import Stage, TrainState
from jowa_jax.types import Segment

StepFn = Callable[[TrainState, Segment], tuple[TrainState, Metrics]]


def step_fn(method: Method, stage: Stage, first_step: int, seed: int) -> StepFn:
  """Returns the pure function of one step.

  Args:
    method: what is trained.
    stage: which parts, and how.
    first_step: steps taken before the stage.
    seed: of all randomness in training; a step's key folds in its number.
  """
  transforms = {
    name: make_optimizer(config) for name, config in stage.optimizers.items()
  }

  def step(state: TrainState, batch: Segment) -> tuple[TrainState, Metrics]:
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    variables, opt_state = state.variables, dict(state.opt_state)
    metrics, carry = {}, {}
    for i, (name, tx) in enumerate(transforms.items()):
      part = method.parts[name]
      part_key = jax.random.fold_in(key, i)

      def loss(params, variables=variables, part=part, key=part_key):
        joined = {**variables.params, **params}
        return part.loss(variables.replace(params=joined), batch, key)

      params = {group: variables.params[group] for group in part.params}
      (value, aux), grads = jax.value_and_grad(loss, has_aux=True)(params)
      updates, opt_state[name] = tx.update(grads, opt_state[name], params)
      params = optax.apply_updates(params, updates)
      variables = variables.replace(params={**variables.params, **params})
      metrics |= aux.metrics
      metrics[f'loss/{name}'] = value
      metrics[f'gradient_norm/{name}'] = optax.tree.norm(grads)
      carry |= aux.carry
    taken = state.step + 1
    variables = method.after_update(variables, carry, taken - first_step)
    state = TrainState(step=taken, variables=variables, opt_state=opt_state)
    return state, metrics

  return step


def compile_step(
  method: Method,
  stage: Stage,
  first_step: int,
  seed: int,
  mesh: Mesh,
  shardings: TrainState,
) -> StepFn:
  """Returns the step, jitted once, sharded, and donating its state."""
  return jax.jit(
    step_fn(method, stage, first_step, seed),
    in_shardings=(shardings, sharding.batch_sharding(mesh)),
    out_shardings=(shardings, sharding.replicated(mesh)),
    donate_argnums=0,
  )
