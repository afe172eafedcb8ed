"""FICC against recordings of the authors' pretraining program."""

import functools

import jax
import numpy as np
import pytest
from flax import traverse_util

from jowa_jax.models import ficc as networks_lib
from jowa_jax.models.ficc import Networks
from tests.parity import ficc, fixtures


class Recording:
  """One recording, our networks of its sizes and their parameters."""

  def __init__(self, name):
    self.name = name
    self.data = fixtures.load(name, fixtures.Q_LEARNING)
    self.config = ficc.network(self.data)
    self.networks = Networks(self.config)
    self.params = ficc.params(
      self.config, fixtures.under(self.data, 'state_dict')
    )
    # Theirs are [B, T, 4, H, W], the oldest frame first.
    stacks = self.data['obs'].transpose(1, 0, 3, 4, 2)
    self.stacks = stacks.astype(np.float32) / 255

  @functools.cache  # noqa: B019, as long as the module's tests
  def watched(self, train):
    watch = jax.jit(
      lambda params: networks_lib.run_and_note(
        self.networks, params, 'watch', self.stacks, self.stacks[0], train
      )
    )
    return watch(self.params)


_read = functools.cache(Recording)


@pytest.fixture(scope='module', params=ficc.RECORDINGS)
def recording(request):
  return _read(request.param)


def _channels_first(x):
  return np.moveaxis(np.asarray(x), -1, -3)


@pytest.mark.parametrize('mode', ['train', 'eval'])
def test_outputs(recording, mode):
  data = fixtures.under(recording.data, mode)
  found, _ = recording.watched(mode == 'train')
  ficc.assert_agree(_channels_first(found.states), data['s'], 's')
  ficc.assert_agree(_channels_first(found.unrolled), data['s_hat'], 's_hat')
  np.testing.assert_array_equal(found.codes, data['code'])
  ficc.assert_agree(found.rows, data['z'], 'z')
  if 'reconstruction_item0' in data:
    ficc.assert_agree(
      jax.nn.sigmoid(found.frames[:, 0]), data['reconstruction_item0']
    )
    for change in found.changes:
      side = change.shape[2]
      ficc.assert_agree(
        jax.nn.sigmoid(change[0, 0].transpose(2, 0, 1)),
        data[f'delta_item0_step1/{side}'],
        f'delta {side}',
      )


def test_running_statistics():
  recording = _read('ficc_main')
  theirs = ficc.params(
    recording.config, fixtures.under(recording.data, 'after_forward')
  )['statistics']
  theirs = traverse_util.flatten_dict(theirs, sep='/')
  ours = traverse_util.flatten_dict(recording.watched(True)[1], sep='/')
  assert set(ours) == set(theirs)
  for name, value in theirs.items():
    ficc.assert_agree(ours[name], value, name)
