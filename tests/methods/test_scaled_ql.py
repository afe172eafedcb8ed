"""Scaled-QL on states and values worked out by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.configuration import ConfigError
from jowa_jax.methods import factory, scaled_ql
from jowa_jax.methods.base import Variables
from jowa_jax.methods.scaled_ql import (
  ScaledQlConfig,
  ScaledQlLosses,
  make_scaled_ql,
)
from jowa_jax.models import q_network
from jowa_jax.models.q_network import QNetworkConfig
from jowa_jax.models.resnet import ResNetConfig
from jowa_jax.types import Segment, TimeStep
from tests.train import helpers

GAMES = ('Breakout', 'Freeway', 'Pong')
# Legal are 0, 1, 3, 4; 0, 2, 5; and 0, 1, 3, 4, 11, 12.
BREAKOUT, FREEWAY, PONG = (games.task_id(game) for game in GAMES)
ENCODER = ResNetConfig(
  stage_sizes=(1,), stage_strides=(1,), width=4, pooling='mean', stack=3
)
# Two steps with a loss, two frames before them and two steps after.
CONFIG = ScaledQlConfig(
  ENCODER,
  QNetworkConfig(mlp_width=4, mlp_layers=1, num_atoms=1),
  ScaledQlLosses(length=2, n=2, gamma=0.5, cql_weight=0.1, target_period=3),
)


def segment(task=(BREAKOUT, FREEWAY, PONG), **fields):
  """An episode's beginning, one that ends, and one that was cut.

  Every frame is one value, so that stacks can be read off.
  """
  mask = np.ones((3, 6), bool)
  mask[0, :2] = False
  mask[1, 4:] = mask[2, 4:] = False
  ends = np.zeros((3, 6), bool)
  ends[1, 3] = True
  train = np.zeros((3, 6), bool)
  train[:, 2:4] = True
  frames = np.arange(1, 19, dtype=np.uint8).reshape(3, 6, 1, 1)
  rewards = np.array([9, 9, 1, 0.5, -1, 0.25], np.float32)
  values = {
    'observations': np.broadcast_to(frames, (3, 6, 84, 84)),
    'actions': np.array([[0, 0, 3, 4, 0, 0], [0, 0, 2, 5, 0, 0]] * 2)[:3],
    'rewards': np.tile(rewards, (3, 1)),
    'ends': ends,
    'mask': mask,
    'train': train & mask,
    'task': np.array(task, np.int32),
  }
  return Segment(**{**values, **fields})


@pytest.mark.slow
def test_states_of_segments():
  found = scaled_ql.transitions(CONFIG, GAMES, segment())
  assert found.stacks.shape == (6, 84, 84, 3)
  assert found.stacks.dtype == jnp.uint8
  np.testing.assert_array_equal(
    found.stacks[:, 0, 0],
    # Black before an episode's first frame; what is real crosses the border of
    # the steps that are trained.
    [[0, 0, 3], [0, 3, 4], [7, 8, 9], [8, 9, 10], [13, 14, 15], [14, 15, 16]],
  )
  np.testing.assert_array_equal(
    found.next_stacks[:2, 0, 0], [[3, 4, 5], [4, 5, 6]]
  )
  np.testing.assert_array_equal(found.actions, [3, 4, 2, 5, 3, 4])
  np.testing.assert_array_equal(found.rows, [0, 0, 1, 1, 2, 2])
  # Of the cut episode nothing is known two steps later: no target.
  np.testing.assert_array_equal(found.trained, [1, 1, 1, 1, 0, 0])
  # 1 + 0.5 / 2 and 0.5 - 1 / 2; the end is counted up to, not beyond.
  np.testing.assert_allclose(found.returns[:4], [1.25, 0, 1.25, 0.5])
  np.testing.assert_allclose(found.discounts[:4], [0.25, 0.25, 0, 0])
  np.testing.assert_array_equal(
    found.legal, games.legal_mask()[[BREAKOUT] * 2 + [FREEWAY] * 2 + [PONG] * 2]
  )


def constant(bias, target=None):
  """Variables whose values are those of [G, A], whatever is seen."""

  def params(values):
    shapes = jax.eval_shape(
      lambda key: q_network.init(ENCODER, CONFIG.q_network, 3, key),
      jax.random.key(0),
    )
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape), shapes)
    zeros = jax.tree.map(
      lambda box: getattr(box, 'value', box),
      zeros,
      is_leaf=lambda x: hasattr(x, 'names'),
    )
    heads = {**zeros['heads'], 'bias': jnp.asarray(values, jnp.float32)}
    return {**zeros, 'heads': heads}

  return Variables(
    params=params(bias),
    targets=params(bias if target is None else target),
    extras={},
  )


def values():
  """(Trained, target) values [3, 18]: illegal actions are worth most."""
  q, target = np.zeros((3, 18)), np.zeros((3, 18))
  q[:, 17], target[:, 17] = 50, 100
  q[0, 3], q[0, 4], q[1, 2], q[1, 5] = 1, 2, 3, 4
  target[0, 1], target[0, 4], target[1, 2] = 8, 6, 7
  return q, target


def test_losses_by_hand():
  q, target = values()
  loss = make_scaled_ql(CONFIG, GAMES).objectives['q'].loss
  total, aux = jax.jit(lambda variables: loss(variables, segment(), None, 0))(
    constant(q, target)
  )
  # Best legal of Breakout's target is 8, after two steps at half: 2. Freeway's
  # episode ends.
  wanted = np.array([1.25 + 2, 0 + 2, 1.25, 0.5])
  td = (0.5 * (np.array([1, 2, 3, 4]) - wanted) ** 2).mean()
  np.testing.assert_allclose(aux.metrics['q/td'], td, rtol=1e-6)
  # Over illegal actions, too: 50 towers above the others.
  np.testing.assert_allclose(aux.metrics['q/cql'], 50 - 2.5, rtol=1e-5)
  np.testing.assert_allclose(total, td + 0.1 * 47.5, rtol=1e-5)
  np.testing.assert_allclose(aux.metrics['q/data_value'], 2.5)
  np.testing.assert_allclose(aux.metrics['q/max_value'], 3)  # legal: 2 and 4
  # Breakout's best is 4, Freeway's 5: each was taken once.
  np.testing.assert_allclose(aux.metrics['q/agreement'], 0.5)


def test_the_trained_network_may_choose():
  q, target = values()
  losses = dataclasses.replace(CONFIG.losses, double=True)
  config = dataclasses.replace(CONFIG, losses=losses)
  found = jax.jit(scaled_ql.errors, static_argnums=0)(
    config,
    constant(q, target),
    scaled_ql.transitions(config, GAMES, segment()),
  )
  # Breakout's best legal action is 4, and the target's value of it 6.
  np.testing.assert_allclose(found.bootstrapped[:2], [[6], [6]])
  flops = [
    make_scaled_ql(each, GAMES).objectives['q'].flops['targets']
    for each in (CONFIG, config)
  ]
  assert flops[1] == 2 * flops[0]


def test_only_heads_of_the_batchs_games_move():
  method = make_scaled_ql(CONFIG, GAMES)
  variables = constant(*values())
  batch = segment(task=(BREAKOUT, PONG, PONG))

  @jax.jit
  @jax.grad
  def gradient_of(params):
    moved = variables.replace(params=params)
    return method.objectives['q'].loss(moved, batch, None, 0)[0]

  gradient = gradient_of(variables.params)
  moved = np.asarray(gradient['heads']['bias']).any(axis=1)
  np.testing.assert_array_equal(moved, [True, False, True])


def test_targets_are_copied_now_and_then():
  method = make_scaled_ql(CONFIG, GAMES)
  variables = constant(*values())
  for step, copied in ((1, False), (2, False), (3, True), (6, True)):
    after = method.after_update(variables, {}, jnp.int32(step))
    now = (variables.params if copied else variables.targets)['heads']['bias']
    np.testing.assert_array_equal(after.targets['heads']['bias'], now)


def act(policy, variables, state, frames, first):
  step = TimeStep(
    frames=jnp.full((2, 84, 84), frames, jnp.uint8), first=jnp.array(first)
  )
  return policy.act(
    variables, state, step, jax.random.split(jax.random.key(0), 2)
  )


def test_it_acts_by_the_best_legal_value():
  policy = make_scaled_ql(CONFIG, GAMES).policy(epsilon=0.0)
  state = policy.init(np.array([BREAKOUT, FREEWAY]))
  variables = constant(values()[0])
  actions, state, info = act(policy, variables, state, 7, [True, True])
  np.testing.assert_array_equal(actions, [4, 5])
  np.testing.assert_allclose(info['q'][:, 17], 50)
  # Later frames follow, and black ones where an episode begins anew.
  _, state, _ = act(policy, variables, state, 8, [False, True])
  np.testing.assert_array_equal(state.count, [2, 1])
  np.testing.assert_array_equal(state.seen[0, :, 0, 0], [0, 7, 8])


def test_values_that_are_not_finite_give_no_action():
  policy = make_scaled_ql(CONFIG, GAMES).policy(epsilon=0.0)
  bias = values()[0]
  bias[1, 2] = np.nan
  actions, _, _ = act(
    policy,
    constant(bias),
    policy.init(np.array([BREAKOUT, FREEWAY])),
    7,
    [True, True],
  )
  np.testing.assert_array_equal(actions, [4, -1])


def test_a_game_without_a_head_is_refused():
  tasks = np.array([BREAKOUT, games.task_id('Alien')])
  with pytest.raises(ValueError, match='No head for Alien: .* Breakout, Free'):
    make_scaled_ql(CONFIG, GAMES).policy().init(tasks)
  network = dataclasses.replace(CONFIG.q_network, shared_head=True)
  shared = dataclasses.replace(CONFIG, q_network=network)
  assert make_scaled_ql(shared, GAMES).policy().init(tasks).tasks.shape == (2,)


def test_an_encoder_can_be_left_as_it_is():
  losses = dataclasses.replace(CONFIG.losses, freeze_encoder=True)
  method = make_scaled_ql(dataclasses.replace(CONFIG, losses=losses), GAMES)
  assert method.objectives['q'].params == ('mlp', 'heads')


def test_heads_are_of_the_runs_games(tmp_path):
  config = helpers.smoke_config(tmp_path, 'scaled_ql')
  shapes = jax.eval_shape(
    lambda key: factory.make_method(config).init(key, {}), jax.random.key(0)
  )
  assert len(shapes.params['heads']['bias'].value) == 2
  # In the order of all games, whatever the config's.
  config['data']['games'] = ('Pong', 'Breakout', 'Freeway')
  assert scaled_ql.head_rows(GAMES)[[BREAKOUT, FREEWAY, PONG]].tolist() == [
    *(0, 1, 2)
  ]
  policy = factory.make_method(config).policy(epsilon=0.0)
  state = policy.init(np.array([PONG, BREAKOUT]))
  assert state.seen.shape == (2, 4, 84, 84)


@pytest.mark.parametrize(
  ('section', 'field', 'value', 'message'),
  [
    ('losses', 'n', 0, 'losses.n=0'),
    ('losses', 'gamma', 1.5, 'losses.gamma=1.5'),
    ('losses', 'cql_weight', -1.0, 'losses.cql_weight'),
    ('q_network', 'num_actions', 6, 'q_network.num_actions=6, but Atari'),
    ('encoder', 'pooling', 'max', "pooling='max'"),
  ],
)
def test_what_cannot_be(section, field, value, message, tmp_path):
  config = helpers.smoke_config(tmp_path, 'scaled_ql')
  config[section][field] = value
  with pytest.raises((ConfigError, ValueError), match=message):
    factory.make_method(config)
