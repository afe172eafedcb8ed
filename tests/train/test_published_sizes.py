"""The published configs: every step traces, in bfloat16 with float32 state.

Nothing is allocated: shapes alone go through the whole step.
"""

import collections
import itertools

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from jax.extend import core as jax_core

from jowa_jax.bench.train import batch as noise
from jowa_jax.methods.factory import make_method
from jowa_jax.train import optimizer, state, step
from jowa_jax.train.settings import parse_stages
from jowa_jax.types import Segment
from tests.cases import quick
from tests.train import helpers

CASES = quick(
  itertools.product(
    ('jowa', 'mtbc'), ('40m', '70m', '150m'), ('stage1', 'stage2')
  ),
  # The longest path through the largest model.
  ('jowa', '150m', 'stage2'),
)


def _abstract_batch(size, length):
  def array(shape, dtype):
    return jax.ShapeDtypeStruct((size, *shape), dtype)

  return Segment(
    observations=array((length, 84, 84), jnp.uint8),
    actions=array((length,), jnp.int32),
    rewards=array((length,), jnp.float32),
    ends=array((length,), jnp.bool_),
    mask=array((length,), jnp.bool_),
    task=array((), jnp.int32),
  )


def _abstract_state(method, config, stage):
  variables = nn.meta.unbox(helpers.abstract_variables(config))
  opt_state = {}
  for name, config in stage.optimizers.items():
    objective = method.objectives[name]
    opt_state[name] = jax.eval_shape(
      optimizer.make_optimizer(config, stage.steps, objective.decays).init,
      {k: variables.params[k] for k in objective.params},
    )
  return state.TrainState(
    step=jax.ShapeDtypeStruct((), jnp.int32),
    variables=variables,
    opt_state=opt_state,
  )


def _products(jaxpr, found):
  """Counts matrix products and convolutions by operand type."""
  for eqn in jaxpr.eqns:
    if eqn.primitive.name in ('dot_general', 'conv_general_dilated'):
      found[eqn.primitive.name, str(eqn.invars[0].aval.dtype)] += 1
    for inner in jax_core.jaxprs_in_params(eqn.params):
      _products(inner, found)
  return found


@pytest.mark.parametrize(('method', 'size', 'stage'), CASES)
def test_step_traces(method, size, stage):
  config = helpers.CONFIGS[method].get_config(size).to_dict()
  built = make_method(config)
  (parsed,) = (s for s in parse_stages(config['stages']) if s.name == stage)
  before = _abstract_state(built, config, parsed)
  batch = _abstract_batch(config['run']['batch_size'], built.spec.length)
  traced = jax.jit(step.step_fn(built, parsed, 0, 0)).trace(before, batch)
  after, metrics = traced.out_info
  assert jax.tree.structure(after) == jax.tree.structure(before)
  pairs = zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True)
  assert all((a.shape, a.dtype) == (b.shape, b.dtype) for a, b in pairs)
  params = jax.tree.leaves((after.variables.params, after.opt_state))
  assert {leaf.dtype for leaf in params} == {
    jnp.dtype(jnp.float32),
    jnp.dtype(jnp.int32),  # Adam's counter
  }
  assert all(value.shape == () for value in metrics.values())
  found = _products(traced.jaxpr.jaxpr, collections.Counter())
  assert found['conv_general_dilated', 'bfloat16'] > 0
  assert found['conv_general_dilated', 'float32'] == 0
  # What is left in float32: distances to the codebook.
  assert found['dot_general', 'bfloat16'] > 10 * found['dot_general', 'float32']


@pytest.mark.slow
@pytest.mark.parametrize('method', ['mgdt', 'edt'])
def test_step_of_a_decision_transformer_traces(method):
  config = helpers.CONFIGS[method].get_config('200m').to_dict()
  built = make_method(config)
  (parsed,) = parse_stages(config['stages'])
  before = _abstract_state(built, config, parsed)
  rows = config['run']['batch_size']
  batch = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype),
    noise(built, 1),
  )
  traced = jax.jit(step.step_fn(built, parsed, 0, 0)).trace(before, batch)
  after, metrics = traced.out_info
  assert jax.tree.structure(after) == jax.tree.structure(before)
  assert all(value.shape == () for value in metrics.values())
  leaves = jax.tree.leaves(after.variables.params)
  assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.float32)}
  found = _products(traced.jaxpr.jaxpr, collections.Counter())
  assert not found['conv_general_dilated', 'bfloat16']
  # What is left in float32: the heads.
  assert found['dot_general', 'bfloat16'] > 10 * found['dot_general', 'float32']


@pytest.mark.slow
@pytest.mark.parametrize('stage', ['watching', 'action_map', 'q'])
def test_step_of_ficc_traces(stage):
  config = helpers.CONFIGS['ficc'].get_config('85m').to_dict()
  built = make_method(config)
  (parsed,) = (s for s in parse_stages(config['stages']) if s.name == stage)
  before = _abstract_state(built, config, parsed)
  rows = config['run']['batch_size']
  batch = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype),
    noise(built, 1),
  )
  traced = jax.jit(step.step_fn(built, parsed, 0, 0)).trace(before, batch)
  after, metrics = traced.out_info
  assert jax.tree.structure(after) == jax.tree.structure(before)
  pairs = zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True)
  assert all((a.shape, a.dtype) == (b.shape, b.dtype) for a, b in pairs)
  assert all(value.shape == () for value in metrics.values())
  found = _products(traced.jaxpr.jaxpr, collections.Counter())
  assert found['conv_general_dilated', 'bfloat16'] > 0
  assert found['conv_general_dilated', 'float32'] == 0
