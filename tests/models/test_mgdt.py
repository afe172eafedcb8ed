"""The network of MGDT: classes, what it sees, and runs in pieces."""

import functools

import jax
import numpy as np
import pytest
from flax import linen as nn

from jowa_jax.models import mgdt
from jowa_jax.models.mgdt import MgdtBackbone, Window
from tests.models import random_params

CONFIG = MgdtBackbone(
  num_layers=2, width=16, num_heads=2, steps=3, patch=42, return_bins=9
)


@pytest.fixture(scope='module')
def params():
  shapes = jax.eval_shape(
    lambda key: nn.meta.unbox(mgdt.init(CONFIG, key)), jax.random.key(0)
  )
  return random_params.fill(shapes)


@pytest.fixture(scope='module')
def run(params):
  expect = jax.jit(functools.partial(mgdt.expectations, CONFIG))
  return lambda window: expect(params, window)


def window(seed=0, rows=2):
  rng = np.random.default_rng(seed)
  shape = (rows, CONFIG.steps)
  return Window(
    frames=rng.integers(0, 256, (*shape, 84, 84), np.uint8),
    returns=rng.integers(0, 9, rows).astype(np.int32),
    actions=rng.integers(0, 18, shape).astype(np.int32),
    rewards=rng.normal(0, 5, shape).astype(np.float32),
  )


def changed(window, name, step):
  """The window with something else at a step of one of its fields."""
  value = getattr(window, name).copy()
  value[:, step] = {'frames': 7, 'actions': 17, 'rewards': 0}[name]
  return window._replace(**{name: value})


def test_returns_are_cut_off_and_clipped():
  config = MgdtBackbone(num_layers=1, width=8, num_heads=1)
  returns = np.array([-30, -20.5, -0.9, 0.9, 3, 99.9, 100, 400], np.float32)
  np.testing.assert_array_equal(
    mgdt.return_bins(config, returns), [0, 0, 20, 20, 23, 119, 120, 120]
  )


def test_rewards_are_signs():
  rewards = np.array([-200.0, -0.5, 0.0, 0.5, 30.0])
  np.testing.assert_array_equal(mgdt.reward_classes(rewards), [3, 3, 0, 1, 1])


def same(one, other, name, steps):
  """At which steps an output stays the same."""
  distance = np.abs(getattr(one, name) - getattr(other, name)).max((0, 2))
  found = [step for step in range(CONFIG.steps) if distance[step] < 1e-6]
  assert found == steps, (name, distance)


def test_nothing_sees_what_follows(run):
  start = window()
  base = run(start)
  for name, output, steps in (
    ('frames', 'returns', [0]),
    ('frames', 'actions', [0]),
    ('actions', 'returns', [0, 1]),
    ('actions', 'actions', [0, 1]),
    ('actions', 'rewards', [0]),
    ('rewards', 'rewards', [0, 1]),
    ('rewards', 'returns', [0, 1]),
  ):
    same(base, run(changed(start, name, 1)), output, steps)


def test_the_first_return_tells_actions_alone(run):
  """It follows the first frame, which never sees it."""
  start = window()
  base, other = run(start), run(start._replace(returns=(start.returns + 1) % 9))
  same(base, other, 'returns', [0])
  same(base, other, 'actions', [])


def test_a_decision_is_the_whole_window_in_two_runs(params, run):
  start = window(1)
  whole = run(start)

  @jax.jit
  def decide(window):
    unknown = window._replace(returns=0 * window.returns)
    logits, part = mgdt.expected_return(CONFIG, params, unknown)
    return logits, mgdt.last_action(CONFIG, params, window, part), part

  returns, actions, part = decide(start)
  np.testing.assert_allclose(returns, whole.returns[:, 0], atol=1e-5)
  np.testing.assert_allclose(actions, whole.actions[:, -1], atol=1e-5)
  # Four patches, and then three steps of seven but the last action and reward.
  assert part.valid.shape == (2, 4)
  text = decide.lower(start).as_text()
  assert 'tensor<2x15x16xf32>' in text and 'tensor<2x21x16xf32>' in text
  assert 'tensor<2x19x' not in text


def test_a_window_has_so_many_steps(params):
  short = jax.tree.map(lambda x: x[:, :2] if x.ndim > 1 else x, window())
  with pytest.raises(ValueError, match='2 steps, but a window has steps=3'):
    mgdt.expectations(CONFIG, params, short)


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    (dict(patch=13), 'patch=13 does not divide'),
    (dict(return_bins=1), 'return_bins=1 tell no returns apart'),
    (dict(steps=0), 'steps=0 is not positive'),
    (dict(num_heads=3), 'width=16 is not a multiple of num_heads=3'),
  ],
)
def test_bad_sizes(fields, message):
  with pytest.raises(ValueError, match=message):
    MgdtBackbone(**{**dict(num_layers=1, width=16, num_heads=1), **fields})


@pytest.mark.slow
def test_initial_weights():
  """Deviations of the notebook's; what is cut off beyond two of them."""
  config = MgdtBackbone(num_layers=2, width=64, num_heads=1)
  params = jax.jit(lambda key: nn.meta.unbox(mgdt.init(config, key)))(
    jax.random.key(0)
  )
  backbone, cut = params['backbone'], 0.8796
  for path, deviation in {
    ('layer_0', 'mlp_0', 'kernel'): (2 / 2 / 64) ** 0.5,
    ('layer_1', 'mlp_2', 'kernel'): (2 / 2 / 256) ** 0.5,
    ('frames', 'pixels', 'kernel'): cut / 14,
    ('positions',): cut * 0.02,
    ('frames', 'places'): 0.02,
  }.items():
    value = backbone
    for name in path:
      value = value[name]
    np.testing.assert_allclose(value.std(), deviation, rtol=0.05)
  kernel = params['heads']['returns']['kernel']
  assert np.abs(kernel).max() <= 2 / 8
  np.testing.assert_allclose(kernel.std(), cut / 8, rtol=0.05)
  assert not backbone['layer_0']['mlp_0']['bias'].any()
