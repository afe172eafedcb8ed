"""EDT as a method: its losses by hand, and its search against a plain loop."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.checkpoint.shapes import variable_shapes
from jowa_jax.methods import edt_policy
from jowa_jax.methods.edt import (
  EdtConfig,
  EdtLosses,
  Targets,
  loss_terms,
  make_edt,
  read,
)
from jowa_jax.methods.edt_policy import EdtActing, Noise
from jowa_jax.models import edt
from jowa_jax.models.edt import EdtBackbone, Outputs, Window
from jowa_jax.types import History, Segment, TimeStep
from tests.models import random_params

STEPS = 4
BACKBONE = EdtBackbone(
  num_layers=1, width=8, num_heads=2, steps=STEPS, patch=42, dropout=0.0
)
CONFIG = EdtConfig(backbone=BACKBONE)
GAMES = ('Assault', 'Carnival')
TASKS = np.array([games.task_id(game) for game in GAMES], np.int32)


@pytest.fixture(scope='module')
def method():
  return make_edt(CONFIG)


@pytest.fixture(scope='module')
def variables(method):
  shapes = variable_shapes(method)
  return shapes.replace(params=random_params.fill(shapes.params))


def test_a_segment_is_one_step_longer_than_a_window(method):
  assert (method.spec.length, method.spec.lookahead) == (STEPS, 1)
  rng = np.random.default_rng(0)
  mask = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], bool)
  segments = Segment(
    observations=rng.integers(0, 256, (2, STEPS + 1, 84, 84), np.uint8),
    actions=rng.integers(0, 18, (2, STEPS + 1)).astype(np.int32),
    rewards=np.zeros((2, STEPS + 1), np.float32),
    ends=np.zeros((2, STEPS + 1), bool),
    mask=mask,
    task=TASKS,
    return_to_go=np.full((2, STEPS + 1), 3.0, np.float32),
  )
  window, targets = read(BACKBONE, segments)
  np.testing.assert_array_equal(window.frames, segments.observations[:, :4])
  np.testing.assert_array_equal(targets.frames, segments.observations[:, 1:])
  np.testing.assert_array_equal(targets.mask, mask[:, :4])
  np.testing.assert_array_equal(targets.has_next, [[1, 1, 1, 1], [1, 0, 0, 0]])


def test_losses_by_hand():
  config = dataclasses.replace(
    CONFIG,
    backbone=dataclasses.replace(BACKBONE, return_scale=10.0),
    losses=EdtLosses(0.9, 0.5, 0.25, 2.0),
  )
  uniform = np.zeros((1, 2, 60), np.float32), np.zeros((1, 2, 18), np.float32)
  outputs = Outputs(
    returns=jnp.asarray(uniform[0]),
    expectiles=jnp.array([[0.5, 0.0]]),
    actions=jnp.asarray(uniform[1]),
    frames=jnp.full((1, 2, 4), 0.5),
  )
  targets = Targets(
    returns=np.array([[15.0, -2.0]], np.float32),
    actions=np.zeros((1, 2), np.int32),
    frames=np.full((1, 2, 2, 2), 255, np.uint8),
    mask=np.ones((1, 2), bool),
    has_next=np.array([[True, False]]),
  )
  total, terms = loss_terms(config, outputs, targets)
  # Too low by 1.0, and too high by 0.2.
  expectile = (0.9 * 1.0 + 0.1 * 0.04) / 2
  expected = {
    'policy/cross_entropy': np.log(18),
    'returns/cross_entropy': np.log(60),
    'returns/expectile': expectile,
    'frames/squared_error': 0.25,
  }
  for name, value in expected.items():
    np.testing.assert_allclose(terms[name], value, rtol=1e-5, err_msg=name)
  np.testing.assert_allclose(
    total,
    np.log(18) + 2 * 0.25 + 0.5 * expectile + 0.25 * np.log(60),
    rtol=1e-5,
  )
  # Returns of any size are learned, though bins end.
  far = targets._replace(returns=np.full((1, 2), 400.0, np.float32))
  _, other = loss_terms(config, outputs, far)
  np.testing.assert_allclose(
    other['returns/expectile'], 0.9 * (39.5**2 + 40**2) / 2, rtol=1e-5
  )


def history(counts):
  rng = np.random.default_rng(3)
  rows = len(counts)
  actions = rng.integers(0, 18, (rows, STEPS)).astype(np.int32)
  actions[:, -1] = 0
  return History(
    seen=rng.integers(0, 256, (rows, STEPS, 84, 84), np.uint8),
    actions=actions,
    count=np.array(counts, np.int32),
    tasks=np.zeros(rows, np.int32),
  )


def noise_of(acting, rows, seed=0):
  rng = np.random.default_rng(seed)
  count = -(-STEPS // acting.history_stride)
  return Noise(
    returns=rng.gumbel(size=(rows, count, STEPS, 60)).astype(np.float32),
    actions=rng.gumbel(size=(rows, 18)).astype(np.float32),
  )


@pytest.fixture(scope='module')
def outputs_of(variables):
  return jax.jit(
    functools.partial(edt.decision_outputs, BACKBONE, variables.params)
  )


def plain_search(outputs_of, acting, history, legal, noise):
  """One environment and one history after another."""
  ramp = acting.kappa * np.linspace(0, 1, 60)
  found = []
  for env, count in enumerate(history.count):
    best = None
    for row, offset in enumerate(range(0, count, acting.history_stride)):
      length = count - offset
      frames = np.zeros((1, STEPS, 84, 84), np.uint8)
      actions = np.zeros((1, STEPS), np.int32)
      frames[0, :length] = history.seen[env, STEPS - length :]
      actions[0, :length] = history.actions[env, STEPS - length :]
      window = Window(frames, np.full((1, STEPS), 59, np.int32), actions)
      logits = np.asarray(outputs_of(window)[0][0])
      bins = np.zeros((1, STEPS), np.int32)
      for step in range(length):
        scores = logits[step] + ramp
        low = np.percentile(scores, acting.return_percentile)
        drawn = scores + noise.returns[env, row, step]
        bins[0, step] = np.argmax(np.where(scores < low, -np.inf, drawn))
      _, expectiles, action_logits = outputs_of(window._replace(returns=bins))
      value = float(expectiles[0, length - 1])
      if best is None or value > best[0]:
        best = value, length, np.asarray(action_logits[0, length - 1])
    value, length, logits = best
    scores = np.where(legal[env], logits, -np.inf)
    drawn = scores if acting.greedy else scores + noise.actions[env]
    found.append((np.argmax(drawn), length, value))
  return [np.array(column) for column in zip(*found, strict=True)]


@pytest.mark.parametrize('stride', [1, 2, 3])
@pytest.mark.parametrize('greedy', [False, True])
def test_search_is_that_of_a_plain_loop(variables, outputs_of, stride, greedy):
  acting = EdtActing(history_stride=stride, greedy=greedy)
  counts = [1, 2, 3, 4, 4, 4]
  legal = np.random.default_rng(1).random((6, 18)) < 0.5
  legal[:, 2] = True
  run = jax.jit(edt_policy.decide, static_argnums=(0, 1))
  lengths = set()
  for seed in range(3):
    noise, past = noise_of(acting, 6, seed), history(counts)
    actions, info = run(BACKBONE, acting, variables.params, past, legal, noise)
    expected = plain_search(outputs_of, acting, past, legal, noise)
    np.testing.assert_array_equal(actions, expected[0])
    np.testing.assert_array_equal(info['history_length'], expected[1])
    np.testing.assert_allclose(
      info['expectiles'].max(axis=-1), expected[2], atol=1e-5
    )
    lengths |= set(expected[1].tolist())
  assert len(lengths) > 2 or stride > 1


def test_histories_end_now_and_never_reach_before_the_episode():
  past = history([4, 2])
  found = edt_policy.candidates(past, 2)
  np.testing.assert_array_equal(found.lengths, [[4, 2], [2, 0]])
  actions = np.asarray(found.window.actions).reshape(2, 2, STEPS)
  np.testing.assert_array_equal(actions[0, 0], past.actions[0])
  np.testing.assert_array_equal(actions[0, 1, :2], past.actions[0, 2:])
  np.testing.assert_array_equal(actions[1, 0, :2], past.actions[1, 2:])
  frames = np.asarray(found.window.frames).reshape(2, 2, STEPS, 84, 84)
  np.testing.assert_array_equal(frames[0, 1, :2], past.seen[0, 2:])
  # What there is not is black.
  assert not frames[0, 1, 2:].any() and not frames[1, 1].any()
  assert not actions[0, 1, 2:].any()


def test_returns_that_score_least_are_not_drawn():
  logits = jnp.arange(60.0)[None]
  scores = edt_policy.return_scores(EdtActing(kappa=0.0), logits)
  # The 15th percentile of 0..59 is 8.85.
  assert np.isinf(scores[0, :9]).all() and np.isfinite(scores[0, 9:]).all()
  tied = edt_policy.return_scores(EdtActing(kappa=0.0), jnp.zeros((1, 60)))
  assert np.isfinite(tied).all()


@pytest.mark.slow
def test_no_action_where_there_is_none(variables):
  acting = EdtActing()
  run = jax.jit(edt_policy.decide, static_argnums=(0, 1))
  legal = np.zeros((2, 18), bool)
  past, noise = history([4, 1]), noise_of(acting, 2)
  actions, _ = run(BACKBONE, acting, variables.params, past, legal, noise)
  np.testing.assert_array_equal(actions, [-1, -1])
  broken = jax.tree.map(lambda x: x * jnp.nan, variables.params)
  actions, _ = run(BACKBONE, acting, broken, past, ~legal, noise)
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
        frames=shown[rows], first=np.full(len(shown[rows]), time == 0)
      )
      actions, state, _ = policy.act(variables, state, step, keys[rows])
      played.append(np.asarray(actions))
    return np.stack(played, axis=1)

  together = play(slice(0, 2))
  for row, game in enumerate(GAMES):
    np.testing.assert_array_equal(play(slice(row, row + 1))[0], together[row])
    assert set(together[row]) <= set(games.LEGAL_ACTIONS[game])


@pytest.mark.parametrize(
  ('options', 'error', 'message'),
  [
    (dict(history_stride=0), ValueError, 'history_stride=0 is not positive'),
    (dict(return_percentile=200.0), ValueError, 'return_percentile=200.0'),
    (
      dict(action_inverse_temperature=-1.0),
      ValueError,
      'action_inverse_temperature=-1.0 is not',
    ),
    (dict(sampling='notebook'), TypeError, "no option 'sampling'"),
  ],
)
def test_bad_options(method, options, error, message):
  with pytest.raises(error, match=message):
    method.policy(**options)


def test_bad_expectile():
  with pytest.raises(ValueError, match='expectile=1.0 is not in'):
    EdtLosses(expectile=1.0)
