"""One training step: the parts of a stage, each updated in turn.

The order of a step is: for every part of the stage, in the stage's order, on
the variables as the parts before it left them, its `augment` (imagined
segments), loss, gradients, clip and update; then the method's `after_update`
(target copies, code restarts).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh

from jowa_jax.methods.base import Aux, Method, Metrics
from jowa_jax.train import sharding
from jowa_jax.train.optimizer import make_optimizer, rate_after
from jowa_jax.train.state import Stage, TrainState
from jowa_jax.types import Segment

StepFn = Callable[[TrainState, Segment], tuple[TrainState, Metrics]]


def _gradients(loss, params, batch: Segment, key, parts: int):
  """Returns ((value, aux), gradients), over the parts of a batch in turn.

  Args:
    loss: (params, batch, key) -> (value, aux).
    params: what it is differentiated by.
    batch: [B, ...].
    key: of the loss; a part's key folds in its number.
    parts: that divide B. Values, metrics and gradients are their means, so
      that a part with more padding weighs as much as the others; what is
      carried is the last one's.
  """
  gradients = jax.value_and_grad(loss, has_aux=True)
  if parts == 1:
    return gradients(params, batch, key)

  def split(x):
    # Every part is spread over the devices as the batch is.
    return jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0)

  def add(total, part):
    index, rows = part
    (value, aux), grads = gradients(
      params, rows, jax.random.fold_in(key, index)
    )
    total = jax.tree.map(jnp.add, total, (value, aux.metrics, grads))
    return total, aux.carry

  rows = jax.tree.map(split, batch)
  first = jax.tree.map(lambda x: x[0], rows)
  (value, aux), grads = jax.eval_shape(gradients, params, first, key)
  zeros = jax.tree.map(
    lambda x: jnp.zeros(x.shape, x.dtype), (value, aux.metrics, grads)
  )
  total, carry = lax.scan(add, zeros, (jnp.arange(parts), rows))
  value, metrics, grads = jax.tree.map(lambda x: x / parts, total)
  carry = jax.tree.map(lambda x: x[-1], carry)
  return (value, Aux(metrics, carry)), grads


def step_fn(
  method: Method, stage: Stage, first_step: int, seed: int, parts: int = 1
) -> StepFn:
  """Returns the pure function of one step.

  Args:
    method: what is trained.
    stage: which parts, and how.
    first_step: steps taken before the stage.
    seed: of all randomness in training; a step's key folds in its number.
    parts: into which a batch is split, one after the other, for memory; see
      `_gradients`.
  """
  transforms = {
    name: make_optimizer(config, stage.steps)
    for name, config in stage.optimizers.items()
  }

  def step(state: TrainState, batch: Segment) -> tuple[TrainState, Metrics]:
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    variables, opt_state = state.variables, dict(state.opt_state)
    metrics, carry = {}, {}
    for i, (name, tx) in enumerate(transforms.items()):
      part = method.parts[name]
      part_key = jax.random.fold_in(key, i)

      def loss(params, batch, key, variables=variables, part=part):
        joined = {**variables.params, **params}
        return part.loss(variables.replace(params=joined), batch, key)

      rows = batch
      if part.augment:
        rows, extra = part.augment.apply(
          variables,
          batch,
          jax.random.fold_in(key, len(transforms) + i),
          state.step - first_step,
          parts,
        )
        metrics |= extra
      params = {group: variables.params[group] for group in part.params}
      (value, aux), grads = _gradients(loss, params, rows, part_key, parts)
      updates, opt_state[name] = tx.update(grads, opt_state[name], params)
      params = optax.apply_updates(params, updates)
      variables = variables.replace(params={**variables.params, **params})
      metrics |= aux.metrics
      metrics[f'loss/{name}'] = value
      metrics[f'gradient_norm/{name}'] = optax.tree.norm(grads)
      metrics[f'update_norm/{name}'] = optax.tree.norm(updates)
      # The state of its optimizer began with the stage, too.
      metrics[f'lr/{name}'] = rate_after(
        stage.optimizers[name], stage.steps, state.step - first_step
      )
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
  parts: int = 1,
) -> StepFn:
  """Returns the step, jitted once, sharded, and donating its state."""
  return jax.jit(
    step_fn(method, stage, first_step, seed, parts),
    in_shardings=(shardings, sharding.batch_sharding(mesh)),
    out_shardings=(shardings, sharding.replicated(mesh)),
    donate_argnums=0,
  )
