"""The network of EDT: classes of returns, and what it sees."""

import functools

import jax
import numpy as np
import pytest
from flax import linen as nn

from jowa_jax.models import edt
from jowa_jax.models.edt import EdtBackbone, Window
from tests.models import random_params

CONFIG = EdtBackbone(num_layers=2, width=16, num_heads=2, steps=3, patch=42)


@pytest.fixture(scope='module')
def run():
  shapes = jax.eval_shape(
    lambda key: nn.meta.unbox(edt.init(CONFIG, key)), jax.random.key(0)
  )
  params = random_params.fill(shapes)
  expect = jax.jit(functools.partial(edt.outputs, CONFIG))
  return lambda window: expect(params, window)


def window(rows=2):
  rng = np.random.default_rng(0)
  shape = (rows, CONFIG.steps)
  return Window(
    frames=rng.integers(0, 256, (*shape, 84, 84), np.uint8),
    returns=rng.integers(0, 60, shape).astype(np.int32),
    actions=rng.integers(0, 18, shape).astype(np.int32),
  )


def changed(window, name, step):
  value = getattr(window, name).copy()
  value[:, step] = {'frames': 7, 'actions': 17, 'returns': 59}[name]
  return window._replace(**{name: value})


def same(one, other, name):
  """At which steps an output stays the same."""
  ours, theirs = getattr(one, name), getattr(other, name)
  distance = np.abs(ours - theirs).max(0)
  distance = distance if distance.ndim == 1 else distance.max(1)
  return [step for step in range(CONFIG.steps) if distance[step] < 1e-6]


def test_returns_are_the_nearest_bin_below():
  returns = np.array([-50, -20, -17.97, -17.96, 0, 99.99, 100, 500])
  # A bin is 120 / 59 = 2.034 points wide.
  np.testing.assert_array_equal(
    edt.return_bins(CONFIG, returns), [0, 0, 0, 1, 9, 58, 59, 59]
  )


def test_what_is_seen(run):
  start = window()
  base = run(start)
  for name, step, output, steps in (
    # The first return reaches all that follows it.
    ('returns', 0, 'actions', []),
    ('returns', 0, 'returns', [0]),
    # A later one is read at its own place alone.
    ('returns', 1, 'actions', [0, 2]),
    ('returns', 1, 'frames', [0, 2]),
    ('returns', 1, 'returns', [0, 1, 2]),
    ('returns', 1, 'expectiles', [0, 1, 2]),
    ('frames', 1, 'returns', [0]),
    ('actions', 1, 'actions', [0, 1]),
    ('actions', 1, 'expectiles', [0, 1]),
  ):
    found = same(base, run(changed(start, name, step)), output)
    assert found == steps, (name, step, output)


def test_the_next_frame_is_read_from_the_expected_action(run):
  base = run(window())
  assert base.frames.shape == (2, 3, 84 * 84)
  assert base.expectiles.shape == (2, 3)


@pytest.mark.slow
def test_initial_weights():
  config = EdtBackbone(num_layers=1, width=64, num_heads=1)
  params = jax.jit(lambda key: nn.meta.unbox(edt.init(config, key)))(
    jax.random.key(0)
  )
  backbone = params['backbone']
  kernel = backbone['layer_0']['mlp_2']['kernel']
  assert 0.95 / 16 < np.abs(kernel).max() <= 1 / 16
  bias = backbone['frames']['pixels']['bias']
  assert 0 < np.abs(bias).max() <= 1 / 14
  np.testing.assert_allclose(backbone['actions'].std(), 1, rtol=0.1)
  np.testing.assert_allclose(backbone['frames']['places'].std(), 0.02, rtol=0.1)


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    (dict(return_bins=1), 'return_bins=1 from return_min=-20.0'),
    (dict(return_min=100.0), 'give at least 2 of a rising range'),
    (dict(return_scale=0.0), 'return_scale=0.0 is not positive'),
  ],
)
def test_bad_sizes(fields, message):
  with pytest.raises(ValueError, match=message):
    EdtBackbone(num_layers=1, width=16, num_heads=1, **fields)
