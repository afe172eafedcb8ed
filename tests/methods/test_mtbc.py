"""Behaviour cloning as a method."""

import dataclasses

import jax
import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.methods.mtbc import MtbcLosses, make_mtbc
from jowa_jax.models import world_action
from jowa_jax.types import TimeStep
from tests.methods import small

MASK = [[1, 1, 1, 0], [1, 1, 0, 0]]


@pytest.fixture(scope='module')
def method():
  return make_mtbc(small.MTBC)


@pytest.fixture(scope='module')
def variables(method):
  return small.variables(method)


@pytest.fixture(scope='module')
def loss(method):
  return jax.jit(method.objectives['policy'].loss)


@pytest.fixture(scope='module')
def logits(method, variables):
  """Heads' logits [heads, B, T, 18] of a batch, without the method."""

  def run(batch):
    hidden = world_action.hidden_states(
      small.MTBC.backbone,
      variables.params['backbone'],
      method.tokenizer.encode(variables, batch.observations),
      batch.actions,
      batch.task,
    )
    return world_action.ensemble_logits(
      small.MTBC.policy_heads,
      variables.params['policy_heads'],
      world_action.at_last_observation(small.MTBC.backbone, hidden),
    )

  run = jax.jit(run)
  return lambda batch: np.asarray(run(batch))


def test_loss_is_the_mean_over_heads_and_valid_steps(
  method, variables, loss, logits
):
  batch = small.segment(mask=MASK)
  value, aux = loss(variables, batch, jax.random.key(0), 0)
  outputs = logits(batch)
  assert outputs.shape == (2, 2, small.LENGTH, games.NUM_ACTIONS)
  terms, right = [], []
  for b, t in np.argwhere(batch.mask):
    action = batch.actions[b, t]
    right.append(outputs[:, b, t].mean(axis=0).argmax() == action)
    for head in outputs[:, b, t]:
      terms.append(np.log(np.exp(head).sum()) - head[action])
  np.testing.assert_allclose(value, np.mean(terms), rtol=1e-4)
  np.testing.assert_allclose(
    aux.metrics['policy/cross_entropy'], value, rtol=1e-6
  )
  np.testing.assert_allclose(
    aux.metrics['policy/accuracy'], np.mean(right), rtol=1e-6
  )
  metrics = jax.jit(method.evaluate)(variables, batch)
  np.testing.assert_allclose(metrics['policy/cross_entropy'], value, rtol=1e-5)
  assert 'tokenizer/perplexity' in metrics


def test_padded_steps_do_not_count(variables, loss):
  batch = small.segment(mask=MASK)
  padding = ~batch.mask
  frames = np.where(padding[..., None, None], 0, batch.observations)
  other = batch.replace(
    actions=np.where(padding, 17, batch.actions),
    observations=frames.astype(np.uint8),
  )
  key = jax.random.key(0)
  base, _ = loss(variables, batch, key, 0)
  np.testing.assert_allclose(loss(variables, other, key, 0)[0], base, rtol=1e-5)
  # And a valid one does.
  actions = batch.actions.copy()
  actions[0, 0] = 17
  changed, _ = loss(variables, batch.replace(actions=actions), key, 0)
  assert abs(changed - base) > 1e-3


def test_a_steps_own_action_is_not_seen(variables, logits):
  """The heads read the frame before the action, or cloning would be copying."""
  batch = small.segment()
  actions = batch.actions.copy()
  actions[:, 2] = 17
  base, other = logits(batch), logits(batch.replace(actions=actions))
  np.testing.assert_allclose(base[:, :, :3], other[:, :, :3], atol=1e-6)
  assert np.abs(base[:, :, 3] - other[:, :, 3]).max() > 1e-3


@pytest.mark.slow
def test_hidden_actions_are_not_read(variables, loss):
  losses = MtbcLosses(hide_actions=1.0)
  method = make_mtbc(dataclasses.replace(small.MTBC, losses=losses))
  hidden = jax.jit(method.objectives['policy'].loss)
  batch, key = small.segment(), jax.random.key(0)
  # Only the last step has a label, and the actions before it differ.
  last = np.arange(small.LENGTH) == small.LENGTH - 1
  batch = batch.replace(mask=np.broadcast_to(last, batch.mask.shape))
  batches = [
    batch.replace(actions=np.where(last, np.int32(3), actions))
    for actions in (batch.actions, np.full_like(batch.actions, 17))
  ]
  read, unread = (
    [fn(variables, b, key, 0)[0] for b in batches] for fn in (loss, hidden)
  )
  assert abs(read[0] - read[1]) > 1e-4 and unread[0] == unread[1]
  # Held-out figures are of the contexts that play has.
  evaluate = jax.jit(method.evaluate)
  held_out = [evaluate(variables, b)['policy/cross_entropy'] for b in batches]
  assert abs(held_out[0] - held_out[1]) > 1e-4
  with pytest.raises(ValueError, match='hide_actions=1.5'):
    MtbcLosses(hide_actions=1.5)


@pytest.mark.slow
def test_only_backbone_and_heads_learn(method, variables):
  part = method.objectives['policy']
  assert set(part.params) == {'backbone', 'policy_heads'}

  @jax.jit
  @jax.grad
  def gradient(params):
    batch = small.segment()
    joined = variables.replace(params=params)
    return part.loss(joined, batch, jax.random.key(0), 0)[0]

  grads = gradient(variables.params)
  assert not any(np.any(g) for g in jax.tree.leaves(grads['tokenizer']))
  for name in part.params:
    assert any(np.abs(g).max() > 1e-4 for g in jax.tree.leaves(grads[name]))


def test_policy_takes_the_likeliest_legal_action(method, variables):
  policy = method.policy(epsilon=0.0)
  tasks = np.array([small.PONG, small.FREEWAY], np.int32)
  legal = games.legal_mask()[tasks]
  state = policy.init(tasks)
  rng = np.random.default_rng(0)
  overruled = False
  for i in range(6):
    frames = rng.integers(0, 256, (2, small.SIDE, small.SIDE), np.uint8)
    step = TimeStep(frames=frames, first=np.full(2, i == 0))
    action, state, info = policy.act(
      variables,
      state,
      step,
      jax.random.split(jax.random.key(i), len(state.count)),
    )
    outputs = np.asarray(info['logits'])
    np.testing.assert_array_equal(np.isfinite(outputs), legal)
    np.testing.assert_array_equal(action, outputs.argmax(-1))
    overruled |= len(set(action.tolist())) > 1
  assert overruled, 'the games act alike: the test sees nothing'
  assert policy.act._cache_size() == 1


def test_an_option_of_another_method_is_an_error(method):
  with pytest.raises(TypeError, match='planner'):
    method.policy(planner='beam')
