"""EDT against recordings of its authors' program, and of its blocks on patches.

One patch as large as the frame stands for the program's state vector.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jowa_jax.methods import edt_policy
from jowa_jax.methods.edt import Targets, loss_terms
from jowa_jax.methods.edt_policy import EdtActing
from jowa_jax.models import edt
from jowa_jax.models.edt import Window
from jowa_jax.train.optimizer import OptimizerConfig, make_optimizer
from jowa_jax.types import History
from tests.parity import decision, fixtures

CLOSE = functools.partial(fixtures.assert_close, tolerance=decision.TOLERANCE)
# Their gradients are 0 in exact arithmetic, and Adam makes steps of rounding.
_ROUNDING = "['key']['bias']"


class Recorded:
  """A recording as our arrays."""

  def __init__(self, name):
    self.data, self.meta = decision.load(name)
    self.config = decision.edt_config(self.meta)
    self.params = self.tree('state_dict')
    given = fixtures.under(self.data, 'in')
    steps = self.meta['steps']
    self.window = Window(
      frames=given['frames'][:, :steps],
      returns=edt.return_bins(self.config.backbone, given['returns_to_go']),
      actions=given['actions'],
    )
    mask = given['mask'].astype(bool)
    # The program has a next state for every step.
    self.targets = Targets(
      returns=given['returns_to_go'],
      actions=given['actions'],
      frames=given['frames'][:, 1:],
      mask=mask,
      has_next=mask,
    )

  def tree(self, prefix):
    state = fixtures.under(self.data, prefix)
    return decision.edt_params(self.config, state, self.meta['frame'])

  def loss(self, params):
    outputs = edt.outputs(self.config.backbone, params, self.window)
    return loss_terms(self.config, outputs, self.targets)


@pytest.fixture(scope='module', params=['edt', 'edt_pixels'])
def recorded(request):
  return Recorded(request.param)


@pytest.fixture(scope='module')
def program():
  return Recorded('edt')


def test_outputs(recorded):
  data = recorded.data
  np.testing.assert_array_equal(recorded.window.returns, data['in/return_bins'])
  found = jax.jit(functools.partial(edt.outputs, recorded.config.backbone))(
    recorded.params, recorded.window
  )
  CLOSE(found.returns, data['out/return_logits'], name='returns')
  CLOSE(found.expectiles[..., None], data['out/expectile'], name='expectiles')
  CLOSE(found.actions, data['out/action_logits'], name='actions')
  CLOSE(found.frames, data['out/next_state'], name='frames')


def test_losses_and_gradients(recorded):
  data = recorded.data
  (total, terms), grads = jax.jit(
    jax.value_and_grad(recorded.loss, has_aux=True)
  )(recorded.params)
  CLOSE(total, data['loss/total'])
  names = {
    'action': 'policy/cross_entropy',
    'state': 'frames/squared_error',
    'expectile': 'returns/expectile',
    'return_ce': 'returns/cross_entropy',
  }
  for theirs, ours in names.items():
    CLOSE(terms[ours], data[f'loss/{theirs}'], name=theirs)
  theirs = recorded.tree('grad')
  if 'grad/image_pos_enc' not in data:
    # The program has none: a patch is the frame.
    grads['backbone']['frames']['places'] *= 0
  fixtures.assert_gradients_close(grads, theirs, decision.TOLERANCE)


def test_three_steps_of_adamw(program):
  data = program.data
  config = OptimizerConfig(
    learning_rate=1e-3,
    weight_decay=1e-2,
    decay_mask='all',
    clip=0.25,
    warmup_steps=1,
    warmup_from=0.5,
  )
  optimizer = make_optimizer(config, 3, lambda path: False)
  grad = jax.value_and_grad(program.loss, has_aux=True)

  @jax.jit
  def step(params, state):
    (total, _), grads = grad(params)
    # A patch is the frame: its place is not learned there.
    grads['backbone']['frames']['places'] *= 0
    updates, state = optimizer.update(grads, state, params)
    norm = optax.tree.norm(grads)
    return optax.apply_updates(params, updates), state, total, norm

  params = program.params
  state = optimizer.init(params)
  for i in range(3):
    params, state, total, norm = step(params, state)
    CLOSE(total, data['adamw/losses'][i])
    np.testing.assert_allclose(norm, data['adamw/grad_norms'][i], rtol=2e-5)

  def check(path, ours, theirs):
    name = jax.tree_util.keystr(path)
    if not name.endswith(_ROUNDING):
      near = decision.TOLERANCE * np.abs(theirs).max()
      fixtures.assert_close(ours, theirs, near, name)

  jax.tree_util.tree_map_with_path(check, params, program.tree('adamw/params'))


def test_bins(program):
  """At the program's scale: at others, rounding decides its edges."""
  scale = f'_{program.meta["return_scale"]}'
  names = {key.split('/')[1] for key in program.data if key.startswith('bins/')}
  names = [name for name in names if name.endswith(scale)]
  assert names
  for name in names:
    data = fixtures.under(program.data, f'bins/{name}')
    bins = int(name.removesuffix(scale))
    config = decision.edt_config(program.meta, return_bins=bins).backbone
    np.testing.assert_array_equal(
      edt.return_bins(config, data['returns']), data['encoded']
    )


def history_at(program, t):
  """The last steps of the recorded episode, right-aligned, after step t."""
  steps = program.meta['steps']
  count = min(t + 1, steps)
  frames = program.data['search/frames']
  seen = np.full((1, steps, *frames.shape[1:]), 77, np.uint8)  # noise before
  actions = np.full((1, steps), 5, np.int32)
  seen[0, steps - count :] = frames[t + 1 - count : t + 1]
  actions[0, steps - count :] = program.data['search/actions'][
    t + 1 - count : t + 1
  ]
  # What is to be done is not known yet.
  actions[0, -1] = 0
  return History(
    seen=seen,
    actions=actions,
    count=np.array([count], np.int32),
    tasks=np.zeros(1, np.int32),
  )


@pytest.fixture(scope='module')
def passes(program):
  """The two passes of a decision, compiled."""
  backbone = program.config.backbone

  @functools.partial(jax.jit, static_argnums=0)
  def first(acting, window, noise):
    return edt_policy.propose(backbone, acting, program.params, window, noise)

  @jax.jit
  def second(window, lengths):
    return edt_policy.judge(backbone, program.params, window, lengths)

  return first, second


def test_search(program, passes):
  data, steps = program.data, program.meta['steps']
  for case in range(int(data['search/cases'])):
    given = fixtures.under(data, f'search/{case}')
    acting = EdtActing(kappa=20.0, history_stride=int(given['rs_steps']))
    history = history_at(program, int(given['t']))
    found = edt_policy.candidates(history, acting.history_stride)
    count = len(given['lengths'])
    lengths = np.asarray(found.lengths[0])
    np.testing.assert_array_equal(lengths[:count], given['lengths'])
    assert (lengths[count:] < 1).all()
    rows = len(lengths)
    noise = np.zeros((rows, *given['gumbel'].shape[1:]), np.float32)
    noise[:count] = given['gumbel']
    logits, scores, samples = passes[0](acting, found.window, noise)
    bins = np.zeros((rows, steps), np.int32)
    for row, length in enumerate(given['lengths']):
      real = (row, slice(0, length))
      CLOSE(logits[real], given['return_logits'][real])
      dropped = np.isinf(given['return_scores'][real])
      np.testing.assert_array_equal(np.isinf(scores[real]), dropped)
      CLOSE(scores[real][~dropped], given['return_scores'][real][~dropped])
      np.testing.assert_array_equal(samples[real], given['samples'][real])
      # Not the samples: the program loses a bin on the way.
      bins[real] = given['bins_in'][real]
    window = found.window._replace(returns=jnp.asarray(bins))
    expectiles, actions = passes[1](window, found.lengths[0])
    CLOSE(expectiles[:count], given['expectile'])
    CLOSE(actions[:count], given['action_logits'])
    best = int(jnp.argmax(expectiles[:count]))
    assert best == given['best']
    CLOSE(actions[best], given['best_action_logits'])
    # The program counts back from the place that the winner starts at.
    start = best * acting.history_stride
    assert steps - start == given['returned_length']
