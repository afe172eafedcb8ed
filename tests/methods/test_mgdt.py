"""MGDT as a method: what its loss counts, and how it acts."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.checkpoint.shapes import variable_shapes
from jowa_jax.methods import mgdt_policy
from jowa_jax.methods.adaptation import AdaptationConfig
from jowa_jax.methods.augmentation import AugmentationConfig
from jowa_jax.methods.mgdt import (
  MgdtConfig,
  MgdtLosses,
  make_mgdt,
  read,
)
from jowa_jax.methods.mgdt_policy import MgdtActing, Noise
from jowa_jax.models import mgdt
from jowa_jax.models.mgdt import MgdtBackbone
from jowa_jax.types import History, Segment, TimeStep
from tests.models import random_params

STEPS = 3
BACKBONE = MgdtBackbone(
  num_layers=1, width=8, num_heads=2, steps=STEPS, patch=42, dropout=0.0
)
CONFIG = MgdtConfig(backbone=BACKBONE)
MASK = np.array([[1, 1, 1], [0, 1, 1]], bool)  # padded before the first step
GAMES = ('Assault', 'Carnival')
TASKS = np.array([games.task_id(game) for game in GAMES], np.int32)


@pytest.fixture(scope='module')
def method():
  return make_mgdt(CONFIG)


@pytest.fixture(scope='module')
def variables(method):
  shapes = variable_shapes(method)
  return shapes.replace(params=random_params.fill(shapes.params))


def segment(mask=MASK):
  rng = np.random.default_rng(0)
  rows, steps = mask.shape
  returns = np.array([[4.0, 3.0, 3.0], [0.0, -6.0, -5.0]], np.float32)
  return Segment(
    observations=rng.integers(0, 256, (rows, steps, 84, 84), np.uint8),
    actions=rng.integers(0, 18, (rows, steps)).astype(np.int32),
    rewards=np.array([[1, 0, -1], [0, 0, 1]], np.float32),
    ends=np.zeros((rows, steps), bool),
    mask=mask,
    task=TASKS,
    return_to_go=returns,
  )


def test_the_return_is_that_of_the_first_real_step():
  window = read(BACKBONE, segment())
  np.testing.assert_array_equal(window.returns, [4 + 20, -6 + 20])


def nll(logits, label):
  return np.log(np.exp(logits).sum()) - logits[label]


@pytest.mark.parametrize('class_mean', [True, False])
def test_loss_is_the_mean_of_three(variables, class_mean):
  method = make_mgdt(
    dataclasses.replace(CONFIG, losses=MgdtLosses(class_mean=class_mean))
  )
  batch = segment()
  value, aux = jax.jit(method.objectives['policy'].loss)(
    variables, batch, jax.random.key(0), 0
  )
  logits = jax.jit(functools.partial(mgdt.expectations, BACKBONE))(
    variables.params, read(BACKBONE, batch)
  )
  actions, rewards, right = [], [], []
  classes = {-1: 3, 0: 0, 1: 1}
  for b, t in np.argwhere(MASK):
    actions.append(nll(logits.actions[b, t], batch.actions[b, t]))
    rewards.append(nll(logits.rewards[b, t], classes[batch.rewards[b, t]]))
    right.append(np.argmax(logits.actions[b, t]) == batch.actions[b, t])
  returns = [
    nll(logits.returns[b, 0], label) for b, label in enumerate((24, 14))
  ]
  terms = np.array([np.mean(actions), np.mean(returns), np.mean(rewards)])
  over = np.array([18, 121, 4]) if class_mean else 1
  np.testing.assert_allclose(value, (terms / over).mean(), rtol=1e-4)
  names = [f'{n}/cross_entropy' for n in ('policy', 'returns', 'rewards')]
  np.testing.assert_allclose([aux.metrics[n] for n in names], terms, rtol=1e-4)
  np.testing.assert_allclose(
    aux.metrics['policy/accuracy'], np.mean(right), rtol=1e-6
  )
  held_out = jax.jit(method.evaluate)(variables, batch)
  assert held_out.keys() == aux.metrics.keys()


def test_padded_labels_do_not_count(method, variables):
  loss = jax.jit(method.objectives['policy'].loss)
  batch = segment()
  rewards = batch.rewards.copy()
  returns = batch.return_to_go.copy()
  rewards[1, 0], returns[1, 0] = 0.0, 50.0
  key = jax.random.key(0)
  other = batch.replace(rewards=rewards, return_to_go=returns)
  values = [loss(variables, each, key, 0)[0] for each in (batch, other)]
  assert values[0] == values[1]


def test_returns_out_of_range_are_told_of(method, variables):
  batch = segment()
  far = batch.replace(return_to_go=np.full((2, 3), 300.0, np.float32))
  evaluate = jax.jit(method.evaluate)
  shares = [evaluate(variables, x)['returns/clipped'] for x in (batch, far)]
  assert shares == [0.0, 1.0]


def test_a_range_that_the_data_have_not_is_an_error():
  sizes = dataclasses.replace(BACKBONE, return_min=50)
  method = make_mgdt(dataclasses.replace(CONFIG, backbone=sizes))
  assert method.spec.statistics == ('return_percentiles',)
  found = {'return_percentiles': np.full((60, 101), 3.0, np.float32)}
  with pytest.raises(ValueError, match='told apart from 50 to 170'):
    jax.jit(lambda key: method.init(key, found))(jax.random.key(0))


@pytest.mark.slow
def test_augmentation_is_of_the_objective_alone(method):
  assert method.objectives['policy'].augment is None
  moved = make_mgdt(
    dataclasses.replace(CONFIG, augmentation=AugmentationConfig(4, 5.0))
  )
  augment = moved.objectives['policy'].augment
  batch, _ = augment(None, segment(), jax.random.key(0), 0)
  assert batch.observations.dtype == jnp.float32


def test_what_is_trained_may_be_adapters():
  adapted = make_mgdt(
    dataclasses.replace(CONFIG, adaptation=AdaptationConfig('lora', 2, 4.0))
  )
  full = make_mgdt(CONFIG).objectives['policy']
  objective = adapted.objectives['policy']
  assert objective.params == ('lora', 'heads')
  assert full.params == ('backbone', 'heads')
  layer = variable_shapes(adapted).params['lora']['layer_0']['attn']
  assert layer['query']['a'].shape == (8, 2)


def history(rows=2):
  rng = np.random.default_rng(3)
  return History(
    seen=rng.integers(0, 256, (rows, STEPS, 84, 84), np.uint8),
    actions=rng.integers(0, 18, (rows, STEPS)).astype(np.int32),
    rewards=rng.normal(size=(rows, STEPS)).astype(np.float32),
    count=np.full(rows, STEPS, np.int32),
    tasks=TASKS,
  )


def decide(variables, acting, returns=0.0, actions=0.0, legal=None):
  noise = Noise(
    returns=jnp.zeros((2, acting.settings['return_samples'], 121)) + returns,
    actions=jnp.zeros((2, 18)) + actions,
  )
  legal = np.ones((2, 18), bool) if legal is None else legal
  run = jax.jit(mgdt_policy.decide, static_argnums=(0, 1))
  return run(BACKBONE, acting, variables.params, history(), legal, noise)


def test_the_largest_of_the_drawn_returns_is_wished_for(variables):
  acting = MgdtActing(sampling='notebook', return_samples=2)
  noise = np.zeros((2, 2, 121), np.float32)
  noise[:, 0, 90] = noise[:, 1, 30] = 1e3
  _, info = decide(variables, acting, noise)
  np.testing.assert_array_equal(info['return'], [70, 70])
  low, _ = decide(variables, acting, noise[:, ::-1])
  high, _ = decide(variables, acting, noise)
  np.testing.assert_array_equal(low, high)


def test_kappa_prefers_high_returns(variables):
  low, high = (
    decide(variables, MgdtActing(kappa=kappa))[1] for kappa in (0.0, 1e4)
  )
  np.testing.assert_array_equal(high['return'], [100, 100])
  assert (low['return'] < 100).all()
  np.testing.assert_array_equal(low['return_logits'], high['return_logits'])


def test_illegal_actions_are_never_drawn(variables):
  legal = np.zeros((2, 18), bool)
  legal[0, [2, 5, 7]] = legal[1, 4] = True
  noise = np.zeros((2, 18), np.float32)
  noise[:, 9] = 1e3
  for sampling in mgdt_policy.SAMPLING:
    acting = MgdtActing(sampling=sampling)
    actions, info = decide(variables, acting, 0.0, noise, legal)
    assert legal[np.arange(2), actions].all()
    assert np.isinf(np.asarray(info['scores'])[~legal]).all()
  # Of three legal actions, one is above their median.
  assert np.isfinite(info['scores'][0]).sum() == 1
  nothing, _ = decide(variables, MgdtActing(), legal=np.zeros((2, 18), bool))
  np.testing.assert_array_equal(nothing, [-1, -1])


def test_diverged_weights_have_no_action(variables):
  broken = jax.tree.map(lambda x: x * jnp.nan, variables.params)
  actions, _ = decide(variables.replace(params=broken), MgdtActing())
  np.testing.assert_array_equal(actions, [-1, -1])


@pytest.mark.slow
def test_one_call_decides_for_all_environments(method, variables):
  policy = method.policy(epsilon=0.0)
  frames = np.random.default_rng(0).integers(0, 256, (5, 2, 84, 84), np.uint8)
  keys = jax.random.split(jax.random.key(0), 2)

  def play(rows):
    state, played = policy.init(TASKS[rows]), []
    for time, shown in enumerate(frames):
      step = TimeStep(
        frames=shown[rows],
        first=np.full(len(shown[rows]), time == 0),
        rewards=np.full(len(shown[rows]), time % 2, np.float32),
      )
      actions, state, _ = policy.act(variables, state, step, keys[rows])
      played.append(np.asarray(actions))
    return np.stack(played, axis=1)

  together = play(slice(0, 2))
  for row, game in enumerate(GAMES):
    alone = play(slice(row, row + 1))
    np.testing.assert_array_equal(alone[0], together[row])
    assert set(together[row]) <= set(games.LEGAL_ACTIONS[game])


def test_past_rewards_are_needed(method, variables):
  policy = method.policy()
  step = TimeStep(
    frames=np.zeros((2, 84, 84), np.uint8), first=np.ones(2, bool)
  )
  with pytest.raises(ValueError, match='reads the rewards of the decisions'):
    policy.act(
      variables, policy.init(TASKS), step, jax.random.split(jax.random.key(0))
    )


@pytest.mark.parametrize(
  ('options', 'error', 'message'),
  [
    (dict(sampling='best'), ValueError, "sampling='best' is not in"),
    (dict(return_samples=0), ValueError, 'return_samples=0 is not positive'),
    (
      dict(action_inverse_temperature=0.0),
      ValueError,
      'action_inverse_temperature=0.0 is not positive',
    ),
    (dict(action_percentile=101.0), ValueError, 'action_percentile=101.0'),
    (dict(planner='beam'), TypeError, "no option 'planner'"),
  ],
)
def test_bad_options(method, options, error, message):
  with pytest.raises(error, match=message):
    method.policy(**options)


def test_words():
  assert MgdtActing().words == ('expert sampling', 'kappa 10')
  notebook = MgdtActing(sampling='notebook', kappa=3.0)
  assert notebook.words == ('best of sampled returns', 'kappa 3', '128 returns')
  assert notebook.settings['return_inverse_temperature'] == 0.75
