"""MGDT against recordings of the public port of the authors' notebook."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax.checkpoint import released_mgdt
from jowa_jax.checkpoint.shapes import variable_shapes
from jowa_jax.methods import mgdt_policy
from jowa_jax.methods.base import Variables
from jowa_jax.methods.mgdt import MgdtConfig, make_mgdt, read
from jowa_jax.methods.mgdt_policy import MgdtActing, Noise
from jowa_jax.models import mgdt
from jowa_jax.models.mgdt import Backbone
from jowa_jax.types import History, Segment
from tests.parity import decision, fixtures

CLOSE = functools.partial(fixtures.assert_close, tolerance=decision.TOLERANCE)


@pytest.fixture(scope='module')
def recording():
  return decision.load('mgdt')


@pytest.fixture(scope='module')
def config(recording):
  return decision.mgdt_config(recording[1])


@pytest.fixture(scope='module')
def method(config):
  return make_mgdt(MgdtConfig(backbone=config))


def tree(method, state):
  """Our parameters, filled with the port's tensors, all of them used."""
  arrays = decision.haiku_arrays(state)
  template = variable_shapes(method).params
  assert not released_mgdt._mismatches(arrays, template)
  return released_mgdt.from_haiku(arrays, template)


@pytest.fixture(scope='module')
def variables(recording, method):
  params = tree(method, fixtures.under(recording[0], 'state_dict'))
  return Variables(params=params, targets={}, extras={})


@pytest.fixture(scope='module')
def segment(recording):
  data = fixtures.under(recording[0], 'in')
  rows, steps = data['actions'].shape
  return Segment(
    observations=data['frames'],
    actions=data['actions'],
    rewards=data['rewards'],
    ends=np.zeros((rows, steps), bool),
    mask=np.ones((rows, steps), bool),
    task=np.zeros(rows, np.int32),
    return_to_go=data['returns_to_go'],
  )


def test_classes_are_the_programs(recording, config):
  data = recording[0]
  np.testing.assert_array_equal(
    mgdt.return_bins(config, data['in/returns_to_go']), data['in/return_bins']
  )
  np.testing.assert_array_equal(
    mgdt.reward_classes(data['in/rewards']), data['in/reward_classes']
  )


def test_outputs(recording, config, variables, segment):
  data, window = recording[0], read(config, segment)
  logits = jax.jit(mgdt.expectations, static_argnums=0)(
    config, variables.params, window
  )
  CLOSE(logits.returns, data['out/return_logits'], name='returns')
  CLOSE(logits.actions, data['out/action_logits'], name='actions')
  CLOSE(logits.rewards, data['out/reward_logits'], name='rewards')
  hidden, _ = jax.jit(Backbone(config).apply)(
    {'params': variables.params['backbone']}, window
  )
  rows, steps = segment.actions.shape
  hidden = hidden.reshape(rows, steps, -1, config.width)
  place = hidden.shape[2] - mgdt.TOLD
  both = jnp.concatenate(
    [hidden[:, :, place - 1], hidden[:, :, place]], axis=-1
  )
  CLOSE(both, data['out/embeds'], name='hidden states')


def test_losses_and_gradients(recording, method, config, variables, segment):
  data = recording[0]

  def loss(params):
    return method.objectives['policy'].loss(
      variables.replace(params=params), segment, None, 0
    )

  (total, aux), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(
    variables.params
  )
  CLOSE(total, data['loss/total'])
  counts = {
    'action': ('policy', config.num_actions),
    'return': ('returns', config.return_bins),
    'reward': ('rewards', mgdt.NUM_REWARD_CLASSES),
  }
  for name, (ours, classes) in counts.items():
    found = aux.metrics
    CLOSE(found[f'{ours}/cross_entropy'] / classes, data[f'loss/{name}'])
    CLOSE(found[f'{ours}/accuracy'], data[f'accuracy/{name}'])
  theirs = tree(method, fixtures.under(data, 'grad'))
  fixtures.assert_gradients_close(grads, theirs, decision.TOLERANCE)


@pytest.mark.parametrize(
  ('name', 'sampling'), [('kappa', 'expert'), ('colab', 'notebook')]
)
def test_decisions(recording, config, variables, name, sampling):
  data = fixtures.under(recording[0], 'act')
  rows, steps = data['actions'].shape
  given = fixtures.under(data, name)
  # The recording's padding is black frames with action and reward 0, read as
  # any other: as `window_of` makes them, whatever stands there.
  history = History(
    seen=data['frames'],
    actions=data['actions'],
    rewards=data['rewards'],
    count=np.full(rows, steps),
    tasks=np.zeros(rows, np.int32),
  )
  acting = MgdtActing(
    sampling=sampling,
    kappa=float(given['opt_weight']),
    return_samples=int(given['num_samples']),
    return_inverse_temperature=float(given['return_temperature']),
    action_inverse_temperature=float(given['action_temperature']),
    action_percentile=float(given['action_top_percentile'])
    if 'action_top_percentile' in given
    else None,
  )
  noise = Noise(given['return_gumbel'].swapaxes(0, 1), given['action_gumbel'])
  legal = np.ones((rows, config.num_actions), bool)
  actions, info = jax.jit(mgdt_policy.decide, static_argnums=(0, 1))(
    config, acting, variables.params, history, legal, noise
  )
  CLOSE(info['return_logits'], given['return_logits'])
  shift = info['return_scores'] - given['return_scores']
  assert np.ptp(shift, axis=-1).max() <= decision.TOLERANCE
  samples = jnp.argmax(info['return_scores'][:, None] + noise.returns, axis=-1)
  np.testing.assert_array_equal(samples.T, given['return_samples'])
  np.testing.assert_array_equal(info['return'], given['return_value'])
  CLOSE(info['logits'], given['action_logits'])
  dropped = np.isinf(given['action_scores'])
  np.testing.assert_array_equal(np.isinf(info['scores']), dropped)
  CLOSE(info['scores'][~dropped], given['action_scores'][~dropped])
  np.testing.assert_array_equal(actions, given['action'])


def test_padding_is_as_recorded(recording):
  """The first rows begin with black frames: what was there is not read."""
  data = fixtures.under(recording[0], 'act')
  steps = data['actions'].shape[1]
  counts = data['frames'][:2].any(axis=(2, 3)).sum(axis=1).astype(np.int32)
  assert (counts < steps).all()
  noise = np.random.default_rng(0)
  seen, actions, rewards = (
    data[name][:2].copy() for name in ('frames', 'actions', 'rewards')
  )
  for row, count in enumerate(counts):
    padded = slice(0, steps - count)
    seen[row, padded] = noise.integers(0, 256, seen[row, padded].shape)
    actions[row, padded], rewards[row, padded] = 3, 2.0
  window = mgdt_policy.window_of(
    History(
      seen=seen,
      actions=actions,
      rewards=rewards,
      count=counts,
      tasks=np.zeros(2, np.int32),
    )
  )
  np.testing.assert_array_equal(window.frames, data['frames'][:2])
  np.testing.assert_array_equal(window.actions, data['actions'][:2])
  np.testing.assert_array_equal(window.rewards, data['rewards'][:2])
