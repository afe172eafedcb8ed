"""Half of a batch goes on in dreams, and the losses know which."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.methods.imagination import Imagination, imagine_half
from jowa_jax.methods.jowa_losses import JowaLosses, q_terms
from jowa_jax.train import step as step_lib
from jowa_jax.train.optimizer import OptimizerConfig
from jowa_jax.train.state import Stage, TrainState
from tests.methods import small
from tests.train.helpers import quick_compilation

HORIZON = 2


def make(**fields):
  return small.jowa(imagination=Imagination(horizon=HORIZON, **fields))


@pytest.fixture(scope='module')
def variables():
  return small.variables(make())


@pytest.fixture(scope='module')
def batch():
  """Eight segments, of two games in turn."""
  parts = [small.segment(seed) for seed in range(4)]
  return jax.tree.map(lambda *x: np.concatenate(x), *parts)


@pytest.fixture(scope='module')
def tokens():
  rng = np.random.default_rng(0)
  shape = (8, small.LENGTH, small.TOKENS)
  return rng.integers(0, small.VOCAB, shape).astype(np.int32)


def half(variables, tokens, batch, step, **fields):
  imagination = Imagination(horizon=HORIZON, start_step=3, **fields)
  run = jax.jit(imagine_half, static_argnums=(0, 1))
  key = jax.random.key(1)
  return run(
    *(small.MODEL, imagination, variables.params, tokens, batch),
    *(key, jnp.int32(step)),
  )


@pytest.mark.slow
@pytest.mark.parametrize('policy', ['planning', 'epsilon_greedy'])
def test_half_of_a_batch_is_imagined(policy, variables, tokens, batch):
  ours, metrics = half(variables, tokens, batch, 3, policy=policy)
  imagined = np.array([0, 1, 0, 1, 0, 1, 0, 1], bool)
  np.testing.assert_array_equal(ours.imagined, imagined)
  # The other rows are as they were.
  assert ours.observations is None  # its tokens are read
  for name in ('actions', 'rewards', 'ends', 'mask', 'task'):
    np.testing.assert_array_equal(
      getattr(ours, name)[~imagined], getattr(batch, name)[~imagined]
    )
  np.testing.assert_array_equal(ours.tokens[~imagined], tokens[~imagined])
  # Those that are imagined begin where theirs go on from.
  np.testing.assert_array_equal(
    ours.tokens[imagined, :-HORIZON], tokens[imagined, HORIZON:]
  )
  np.testing.assert_array_equal(
    ours.actions[imagined, : -HORIZON - 1], batch.actions[imagined, HORIZON:-1]
  )
  np.testing.assert_array_equal(ours.task, batch.task)
  legal = games.legal_mask()[batch.task]
  chosen = np.take_along_axis(legal, np.asarray(ours.actions), axis=1)
  assert chosen[imagined, -HORIZON - 1 : -1].all()
  assert set(np.unique(ours.rewards)) <= {-1.0, 0.0, 1.0}
  assert metrics['imagination/segments'] == 1
  assert metrics['imagination/passes'] >= 1


def test_nothing_is_imagined_before_the_start(variables, tokens, batch):
  ours, metrics = half(variables, tokens, batch, 2, policy='planning')
  for name in ('actions', 'rewards', 'ends', 'mask', 'task', 't'):
    np.testing.assert_array_equal(getattr(ours, name), getattr(batch, name))
  np.testing.assert_array_equal(ours.tokens, tokens)
  assert not ours.imagined.any() and ours.acted.all()
  assert not any(np.asarray(value).any() for value in metrics.values())


@pytest.mark.slow
def test_epsilon_draws_among_legal_actions(variables, tokens, batch):
  found = {}
  for epsilon in (0.0, 1.0):
    ours, _ = half(
      *(variables, tokens, batch, 3), policy='epsilon_greedy', epsilon=epsilon
    )
    found[epsilon] = np.asarray(ours.actions[1::2, -HORIZON - 1])
  assert (found[0.0] != found[1.0]).any()
  again, _ = half(
    variables, tokens, batch, 3, policy='epsilon_greedy', epsilon=1.0
  )
  np.testing.assert_array_equal(
    again.actions[1::2, -HORIZON - 1], found[1.0], err_msg='of the key alone'
  )


@pytest.mark.slow
def test_no_penalty_where_no_action_was_taken():
  q = jnp.broadcast_to(jnp.arange(18.0), (2, 2, small.LENGTH, 18))
  batch = small.segment(actions=np.full((2, small.LENGTH), 4, np.int32))
  acted = np.ones((2, small.LENGTH), bool)
  acted[1, -1] = False
  actions = np.array(batch.actions)
  actions[1, -1] = 0  # no action: were it counted, the mean would not be 4
  real = jnp.array([True, False])
  scalar = dataclasses.replace(
    small.MODEL, returns=dataclasses.replace(small.MODEL.returns, num_atoms=1)
  )
  arguments = (scalar, JowaLosses(), q, q)
  batch = batch.replace(actions=actions)
  _, counted = q_terms(*arguments, batch, real, None)
  _, masked = q_terms(*arguments, batch.replace(acted=acted), real, None)
  np.testing.assert_allclose(counted['q/data_value'], 3.5)
  np.testing.assert_allclose(masked['q/data_value'], 4.0)


def start(method, variables, stage):
  opt_state = {}
  for name, config in stage.optimizers.items():
    objective = method.objectives[name]
    tx = step_lib.make_optimizer(config, stage.steps, objective.decays)
    trained = {group: variables.params[group] for group in objective.params}
    opt_state[name] = tx.init(trained)
  return TrainState(step=jnp.int32(0), variables=variables, opt_state=opt_state)


@pytest.mark.slow
def test_a_step_is_compiled_once_and_learns_from_dreams(
  variables, batch, compilation_cache
):
  """Before and after the first dreams; they change the step and no more."""
  stage = Stage('s', 4, {'world_action': OptimizerConfig()})

  def run(start_step):
    method = make(policy='planning', start_step=start_step)
    step = jax.jit(step_lib.step_fn(method, stage, 0, 0))
    state = start(method, variables, stage)
    metrics = []
    for _ in range(3):
      state, values = step(state, batch)
      metrics.append({name: float(value) for name, value in values.items()})
    assert step._cache_size() == 1
    return metrics

  with quick_compilation(compilation_cache):
    dreams, none = run(2), run(9)
  assert [m['imagination/segments'] for m in dreams] == [0, 0, 1]
  assert [m['imagination/segments'] for m in none] == [0, 0, 0]
  assert dreams[:2] == none[:2]
  # The world part reads real segments alone, the action part all.
  assert dreams[2]['world/rewards'] != none[2]['world/rewards']
  assert dreams[2]['q/td'] != none[2]['q/td']
  assert all(np.isfinite(list(m.values())).all() for m in dreams)


def first_step(method, variables, batch, *parts, microbatches=1):
  """The state and metrics after a step of these parts."""
  optimizers = {name: OptimizerConfig(learning_rate=0.1) for name in parts}
  stage = Stage('s', 1, optimizers)
  step = jax.jit(step_lib.step_fn(method, stage, 0, 0, microbatches))
  return step(start(method, variables, stage), batch)


@pytest.mark.slow
def test_until_it_starts_it_changes_nothing(
  variables, batch, compilation_cache
):
  """Also frames are encoded by the tokenizer as it is after its update."""
  parts = ('tokenizer', 'world_action')
  with quick_compilation(compilation_cache):
    _, without = first_step(make(), variables, batch, *parts)
    _, later = first_step(
      make(policy='planning', start_step=1), variables, batch, *parts
    )
  for name, value in without.items():
    np.testing.assert_allclose(later[name], value, rtol=1e-5, err_msg=name)


@pytest.mark.slow
def test_the_world_part_alone_imagines_nothing(
  variables, batch, compilation_cache
):
  method = make(policy='planning', start_step=0)
  with quick_compilation(compilation_cache):
    _, metrics = first_step(method, variables, batch, 'world')
  assert not [name for name in metrics if name.startswith('imagination/')]


@pytest.mark.slow
def test_half_of_every_microbatch_is_imagined(
  variables, batch, compilation_cache
):
  """Planning draws nothing: the dreams are those of the whole batch."""
  # Two microbatches of the same segments, of which 1 and 3 are imagined.
  pairs = jax.tree.map(lambda x: np.repeat(x[:4], 2, axis=0), batch)
  method = make(policy='planning', start_step=0)
  name = 'world_action'
  with quick_compilation(compilation_cache):
    whole = first_step(
      method, variables, jax.tree.map(lambda x: x[:4], batch), name
    )
    halves = first_step(method, variables, pairs, name, microbatches=2)
  assert halves[1]['imagination/segments'] == 1
  for metric, value in whole[1].items():
    np.testing.assert_allclose(
      halves[1][metric], value, rtol=1e-4, atol=1e-6, err_msg=metric
    )


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'policy': 'plan'}, "policy='plan'"),
    ({'horizon': 0}, 'horizon=0'),
    ({'width': 0}, 'width=0'),
    ({'start_step': -1}, 'start_step=-1'),
    ({'epsilon': 1.5}, 'epsilon=1.5'),
  ],
)
def test_bad_fields_are_errors(fields, message):
  with pytest.raises(ValueError, match=message):
    Imagination(**fields)


def test_horizon_must_leave_a_real_step():
  with pytest.raises(ValueError, match=r'imagination.horizon=4 leaves no real'):
    small.jowa(imagination=Imagination(policy='planning', horizon=small.LENGTH))
