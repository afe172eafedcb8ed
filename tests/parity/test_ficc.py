"""FICC against recordings of the authors' pretraining program."""

import functools

import jax
import numpy as np
import optax
import pytest
from flax import traverse_util

from jowa_jax.methods import ficc_losses
from jowa_jax.methods.ficc_losses import FiccLosses
from jowa_jax.models import ficc as networks_lib
from jowa_jax.models.ficc import VIDEO, Networks
from jowa_jax.models.ficc_blocks import STATISTICS
from jowa_jax.train.optimizer import OptimizerConfig, make_optimizer
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

  def terms(self, watched, masked_l1=False, stacks=None):
    """The loss and its terms, by default as the program has them."""
    stacks = self.stacks if stacks is None else stacks
    losses = FiccLosses(
      masked_l1=masked_l1,
      l1_weight=float(self.data['l1_coefficient']),
      finest_only=bool(self.data['single_scope']),
    )
    return ficc_losses.watching_terms(
      losses,
      watched,
      ficc_losses.on_canvas(stacks),
      self.data['mask'].T.astype(bool),
    )

  def loss(self, params, stacks):
    """(loss, (terms, running statistics)) of training."""
    watched, statistics = networks_lib.run_and_note(
      self.networks, params, 'watch', stacks, stacks[0], True
    )
    total, terms = self.terms(watched, stacks=stacks)
    return total, (terms, statistics)

  @functools.cached_property
  def gradients(self):
    """A function of trained parameters and the others."""

    # Frames are an argument: of constants, XLA would compute all that it can
    # while it compiles, and slowly.
    def loss(trained, params, stacks):
      return self.loss({**params, **trained}, stacks)

    return functools.partial(
      jax.jit(jax.value_and_grad(loss, has_aux=True)), stacks=self.stacks
    )

  @property
  def trained(self):
    return {name: self.params[name] for name in VIDEO}

  @functools.cached_property
  def differentiated(self):
    return self.gradients(self.trained, self.params)

  @functools.cache  # noqa: B019, as long as the module's tests
  def watched(self, train):
    watch = jax.jit(
      lambda params, stacks: networks_lib.run_and_note(
        self.networks, params, 'watch', stacks, stacks[0], train
      )
    )
    return watch(self.params, self.stacks)


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


TERMS = {
  'repr': 'frames',
  'delta': 'changes',
  'dyna': 'cycle',
  'vq': 'codes',
  'l1': 'size',
}


def _check_terms(theirs, total, terms):
  ficc.assert_agree(total, theirs['total'], 'total')
  for name, ours in TERMS.items():
    ficc.assert_agree(terms[f'watching/{ours}'], theirs[name], name)


def test_gradients():
  recording = _read('ficc_main')
  (total, (terms, _)), found = recording.differentiated
  _check_terms(fixtures.under(recording.data, 'train/loss'), total, terms)
  theirs = fixtures.under(recording.data, 'train/grad')
  theirs = ficc.params(recording.config, theirs)
  assert set(theirs) == set(VIDEO)
  for name in VIDEO:
    ficc.assert_gradients_agree(found[name], theirs[name])


def test_norms_of_what_is_clipped():
  recording = _read('ficc_main')
  norms = fixtures.under(recording.data, 'train/grad_norm')
  assert len(norms) == len(VIDEO)
  for name, norm in norms.items():
    ours = optax.tree.norm(recording.differentiated[1][ficc.GROUPS[name]])
    np.testing.assert_allclose(ours, norm, rtol=2e-3)


@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('mode', ['train', 'eval'])
def test_losses(recording, mode, masked):
  theirs = fixtures.under(recording.data, f'{mode}/loss')
  watched, _ = recording.watched(mode == 'train')
  total, terms = recording.terms(watched, masked_l1=masked)
  if masked:
    ficc.assert_agree(terms['watching/size'], theirs['l1_masked'])
  else:
    _check_terms(theirs, total, terms)


def test_updates():
  recording = _read('ficc_main')
  data, params = recording.data, recording.params
  optimizer = OptimizerConfig(
    kind='sgd',
    learning_rate=float(data['sgd_lr']),
    b1=float(data['sgd_momentum']),
    weight_decay=float(data['sgd_weight_decay']),
    decay_mask='all',
    clip=float(data['clip_norm_per_module']),
    clip_each=True,
  )
  tx = make_optimizer(optimizer, 3, lambda path: False)
  trained = recording.trained
  state = tx.init(trained)
  update = jax.jit(tx.update)
  for before in data['sgd_loss']:
    (loss, (_, noted)), grads = recording.gradients(trained, params)
    ficc.assert_agree(loss, before, 'loss')
    updates, state = update(grads, state, trained)
    trained = optax.apply_updates(trained, updates)
    params = {**params, **trained, STATISTICS: noted}
  theirs = ficc.params(recording.config, fixtures.under(data, 'sgd'))
  theirs = traverse_util.flatten_dict(theirs, sep='/')
  for name, value in traverse_util.flatten_dict(params, sep='/').items():
    ficc.assert_agree(value, theirs[name], name)


def test_map_of_actions():
  data = fixtures.load('adapter', fixtures.Q_LEARNING)
  (games,) = {data[name].shape[0] for name in ('counts', 'chosen', 'table')}
  counts = ficc_losses.counted(
    len(data['codebook']),
    *(data[name] for name in ('game', 'action', 'code')),
    data['mask'].astype(bool),
  )[:games]
  np.testing.assert_array_equal(counts, data['counts'])
  chosen = ficc_losses.chosen_codes(counts)
  np.testing.assert_array_equal(chosen, data['chosen'])
  np.testing.assert_array_equal(data['codebook'][chosen], data['table'])
