"""The terms of JOWA's loss and their switches."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax.methods.jowa_losses import (
  JowaLosses,
  q_terms,
  world_action_losses,
)
from jowa_jax.models import world_action
from jowa_jax.models.world_action import ReturnConfig
from tests.methods import small
from tests.models import random_params

WORLD = {'world/observations', 'world/rewards', 'world/ends'}
SCALAR = dataclasses.replace(
  small.MODEL, returns=ReturnConfig(num_atoms=1, gamma=0.5)
)


def make_params(seed):
  return random_params.like(
    lambda key: world_action.init(small.MODEL, key), seed
  )


@pytest.fixture(scope='module')
def params():
  return make_params(0)


@pytest.fixture(scope='module')
def targets():
  return make_params(1)['q_heads']


def terms_of(losses, params, targets, batch, key=None):
  fn = jax.jit(world_action_losses, static_argnums=(0, 1))
  tokens = jnp.asarray(small.tokens())
  return fn(small.MODEL, losses, params, targets, tokens, batch, key)[0]


@pytest.fixture(scope='module')
def plain(params, targets):
  """The default terms of the default batch."""
  return terms_of(JowaLosses(), params, targets, small.segment())


@pytest.mark.slow
def test_stage_one_is_the_world_part_at_full_weight(params, plain):
  stage1 = terms_of(JowaLosses(), params, None, small.segment())
  assert set(stage1) == WORLD
  for name in WORLD:
    np.testing.assert_allclose(plain[name], 0.1 * stage1[name], rtol=1e-5)
    assert stage1[name] > 0.1


def test_weights_scale_or_drop_terms(params, targets, plain):
  assert set(plain) == WORLD | {'q/td', 'q/cql'}
  losses = JowaLosses(world_weight=0.0, cql_weight=0.0)
  only = terms_of(losses, params, targets, small.segment())
  assert set(only) == {'q/td'}
  np.testing.assert_allclose(only['q/td'], plain['q/td'], rtol=1e-5)
  strong = terms_of(
    JowaLosses(cql_weight=1.0), params, targets, small.segment()
  )
  np.testing.assert_allclose(strong['q/cql'], 10 * plain['q/cql'], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('stopped', [False, True])
def test_stop_gradient_keeps_q_out_of_the_backbone(params, targets, stopped):
  losses = JowaLosses(world_weight=0.0, stop_gradient=stopped)

  def total(params, targets):
    terms, _ = world_action_losses(
      small.MODEL, losses, params, targets, small.tokens(), small.segment()
    )
    return sum(terms.values())

  grads, to_targets = jax.jit(jax.grad(total, (0, 1)))(params, targets)

  def largest(tree):
    return max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(tree))

  assert largest(grads['q_heads']) > 1e-4
  assert largest(grads['world_heads']) == 0
  assert largest(to_targets) == 0
  assert (largest(grads['backbone']) == 0) == stopped


def test_padding_changes_nothing(params, targets):
  """What stands after a right-padded segment's end is not read."""
  mask = [[1, 1, 1, 0], [1, 1, 0, 0]]
  one, two = small.segment(0, mask), small.segment(1, mask)
  valid = np.array(mask, bool)

  def join(a, b):
    if a.ndim == 1:
      return a
    keep = valid.reshape(*valid.shape, *(1,) * (a.ndim - 2))
    return np.where(keep, a, b)

  mixed = jax.tree.map(join, one, two).replace(task=one.task)
  mixed = mixed.replace(ends=mixed.ends | ~valid)
  base = terms_of(JowaLosses(), params, targets, one)
  other = terms_of(JowaLosses(), params, targets, mixed)
  for name in base:
    np.testing.assert_allclose(base[name], other[name], rtol=1e-5)


def test_world_part_learns_from_real_segments_alone(params):
  losses, batch = JowaLosses(), small.segment()
  imagined = batch.replace(imagined=np.array([False, True]))
  alone = batch.replace(mask=batch.mask & np.array([[True], [False]]))
  got = terms_of(losses, params, None, imagined)
  expected = terms_of(losses, params, None, alone)
  whole = terms_of(losses, params, None, batch)
  for name in WORLD:
    np.testing.assert_allclose(got[name], expected[name], rtol=1e-5)
    assert abs(got[name] - whole[name]) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize('seed', range(4))
def test_of_two_segments_one_trains_q_and_the_other_the_world(
  params, targets, seed
):
  fn = jax.jit(world_action_losses, static_argnums=(0, 1))
  tokens, batch = small.tokens(), small.segment()
  losses = JowaLosses(hide_actions=0.5)
  mixed, metrics = fn(
    *(small.MODEL, losses, params, targets, tokens, batch, jax.random.key(seed))
  )
  rows = np.arange(batch.task.size)
  assert rows.size == 2
  alone = [
    fn(
      *(small.MODEL, JowaLosses(), params, targets, tokens),
      batch.replace(mask=batch.mask & (rows == row)[:, None]),
    )
    for row in rows
  ]
  (shown,) = [
    row
    for row, (terms, _) in enumerate(alone)
    if all(np.isclose(mixed[name], terms[name], rtol=1e-5) for name in WORLD)
  ]
  # Q reads first frames before any action, and later ones after random ones.
  _, of_hidden = alone[1 - shown]
  assert not np.isclose(metrics['q/td'], of_hidden['q/td'], rtol=1e-5)
  first = batch.mask.copy()
  first[:, 1:] = False
  before, known = (
    fn(
      *(small.MODEL, JowaLosses(hide_actions=share), params, targets, tokens),
      *(batch.replace(mask=mask), jax.random.key(seed)),
    )[1]['q/data_value']
    for share, mask in ((0.5, first), (0.0, first & (rows != shown)[:, None]))
  )
  np.testing.assert_allclose(before, known, rtol=1e-5)
  moved = {}
  for row in rows:
    actions = batch.actions.copy()
    actions[row, -1] = (actions[row, -1] + 1) % 18
    _, other = fn(
      *(small.MODEL, losses, params, targets, tokens),
      *(batch.replace(actions=actions), jax.random.key(seed)),
    )
    moved[row] = abs(other['q/data_value'] - metrics['q/data_value']) > 1e-6
  assert moved == {shown: False, 1 - shown: True}


def test_actions_are_not_hidden_when_there_is_no_key(params, targets, plain):
  losses = JowaLosses(hide_actions=0.5)
  shown = terms_of(losses, params, targets, small.segment())
  for name, term in plain.items():
    np.testing.assert_array_equal(shown[name], term)


def test_rem_needs_a_key(params, targets):
  with pytest.raises(ValueError, match='losses.rem.*key'):
    terms_of(JowaLosses(rem=True), params, targets, small.segment())


@pytest.mark.slow
def test_rem_weights_sum_to_one_and_change_with_the_key(params, targets):
  batch, losses = small.segment(), JowaLosses(rem=True)

  def td(params, targets, seed):
    key = jax.random.key(seed)
    return terms_of(losses, params, targets, batch, key)['q/td']

  assert abs(td(params, targets, 0) - td(params, targets, 1)) > 1e-5
  # Where the heads are one and the same, a convex mixture changes nothing.
  same = jax.tree.map(lambda x: jnp.stack([x[0]] * 2), params['q_heads'])
  same_targets = jax.tree.map(lambda x: jnp.stack([x[0]] * 2), targets)
  params = {**params, 'q_heads': same}
  expected = terms_of(JowaLosses(), params, same_targets, batch)['q/td']
  np.testing.assert_allclose(td(params, same_targets, 0), expected, rtol=1e-5)


def constant_logits(first, second, count=1):
  """Scalar Q of two heads, the same for every step and action."""
  heads = jnp.array([first, second], jnp.float32)
  return jnp.broadcast_to(heads[:, None, None, None], (2, count, 2, 18))


def two_steps(actions, rewards, imagined=None, task=small.FREEWAY):
  """Segments of two valid steps."""
  actions = np.array(actions, np.int32)
  count = len(actions)
  return small.segment(
    observations=None,
    actions=actions,
    rewards=np.array(rewards, np.float32),
    ends=np.zeros((count, 2), bool),
    mask=np.ones((count, 2), bool),
    task=np.full(count, task, np.int32),
    imagined=imagined,
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  ('weights', 'td'),
  [
    # Prediction 4; target 1 + 0.5 * 2: half of 2 squared.
    (None, 2.0),
    # Prediction 2/4 + 18/4 = 5; target 1 + 0.5 * 3: half of 2.5 squared.
    ((0.25, 0.75), 3.125),
  ],
)
def test_rem_mixes_prediction_and_target_alike_but_not_the_penalty(weights, td):
  # Action 1 is not legal in Freeway: its value must not be bootstrapped from.
  target = constant_logits(0.0, 4.0).at[..., 1].set(100.0)
  terms, metrics = q_terms(
    SCALAR,
    JowaLosses(cql_weight=1.0),
    constant_logits(2.0, 6.0),
    target,
    two_steps([[2, 5]], [[1, 0]]),
    jnp.array([True]),
    None if weights is None else jnp.array(weights),
  )
  np.testing.assert_allclose(terms['q/td'], td, rtol=1e-6)
  # Equal weights, all 18 actions: log(18 e^4) - 4.
  np.testing.assert_allclose(terms['q/cql'], np.log(18), rtol=1e-5)
  np.testing.assert_allclose(metrics['q/data_value'], 4.0, rtol=1e-6)
  np.testing.assert_allclose(metrics['q/max_value'], 4.0, rtol=1e-6)


@pytest.mark.parametrize(('backup', 'td'), [('max', 2.0), ('data', 0.5)])
def test_a_target_bootstraps_from_the_best_or_the_next_action(backup, td):
  # The target is 1 + 0.5 * 6 of action 5, or 1 + 0.5 * 4 of the action 2 that
  # the data took next; the prediction is 2: half of 2 squared, or of 1.
  target = constant_logits(4.0, 4.0).at[..., 5].set(6.0)
  terms, _ = q_terms(
    SCALAR,
    JowaLosses(cql_weight=0.0, backup=backup),
    constant_logits(2.0, 2.0),
    target,
    two_steps([[5, 2]], [[1, 0]]),
    jnp.array([True]),
    None,
  )
  np.testing.assert_allclose(terms['q/td'], td, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('penalty', 'data_value'),
  # Q is the action's number: all four actions, or the real segment's two.
  [('cql', (2 + 5 + 0 + 5) / 4), ('combo', (2 + 5) / 2)],
)
def test_penalties_with_imagined_segments(penalty, data_value):
  q = jnp.broadcast_to(jnp.arange(18.0), (2, 2, 2, 18))
  imagined = np.array([False, True])
  batch = two_steps([[2, 5], [0, 5]], [[0, 0]] * 2, imagined)
  terms, metrics = q_terms(
    SCALAR,
    JowaLosses(cql_weight=0.5, penalty=penalty),
    q,
    q,
    batch,
    jnp.asarray(~imagined),
    None,
  )
  logsumexp = np.log(np.exp(np.arange(18.0)).sum())
  np.testing.assert_allclose(metrics['q/logsumexp'], logsumexp, rtol=1e-5)
  np.testing.assert_allclose(metrics['q/data_value'], data_value, rtol=1e-5)
  np.testing.assert_allclose(terms['q/cql'], logsumexp - data_value, rtol=1e-5)
  # The best of Freeway's legal actions is 5, at every step.
  np.testing.assert_allclose(metrics['q/max_value'], 5.0, rtol=1e-6)
  np.testing.assert_allclose(metrics['q/agreement'], 2 / 4, rtol=1e-6)


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'penalty': 'cqll'}, "penalty='cqll'"),
    ({'backup': 'mean'}, "backup='mean'"),
    ({'target_period': 0}, 'target_period=0'),
    ({'hide_actions': 1.0}, 'hide_actions=1.0'),
  ],
)
def test_bad_losses_are_errors(fields, message):
  with pytest.raises(ValueError, match=message):
    JowaLosses(**fields)
