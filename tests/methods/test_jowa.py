"""JOWA as a method: updates, evaluation on known cases, and acting."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.methods import jowa_losses
from jowa_jax.methods.base import Ratio, Variables
from jowa_jax.methods.jowa_losses import JowaLosses
from jowa_jax.models import world_action
from jowa_jax.models.heads import WorldLogits
from jowa_jax.types import TimeStep
from tests.methods import small


def make(**losses):
  return small.jowa(losses=JowaLosses(**losses))


@pytest.fixture(scope='module')
def method():
  return make(cql_weight=0.0)


@pytest.fixture(scope='module')
def variables(method):
  return small.variables(method)


@pytest.fixture(scope='module')
def evaluate(method):
  return jax.jit(method.evaluate)


@pytest.mark.slow
def test_fresh_targets_are_copies_of_the_q_heads(method):
  @jax.jit
  def init(key):
    fresh = method.init(key, small.STATISTICS)
    assert set(fresh.targets) == {'q_heads'}
    return fresh.params['q_heads'], fresh.targets['q_heads']

  q_heads, targets = init(jax.random.key(0))
  assert jax.tree.leaves(q_heads)
  jax.tree.map(np.testing.assert_array_equal, q_heads, targets)


def test_targets_are_copied_once_a_period():
  method, copied = make(target_period=3), []
  targets = {'q_heads': {'w': jnp.zeros(2)}}
  update = jax.jit(method.after_update)
  for step in range(1, 8):
    # The parameters move at every step.
    params = {'q_heads': {'w': jnp.full(2, float(step))}}
    variables = Variables(params=params, targets=targets, extras={})
    out = update(variables, {}, step)
    np.testing.assert_array_equal(out.params['q_heads']['w'], [step] * 2)
    targets = out.targets
    copied.append(float(targets['q_heads']['w'][0]))
  assert copied == [0, 0, 3, 3, 3, 6, 6]


def test_parts_and_stage_losses(method, variables):
  batch, key = small.segment(), jax.random.key(0)
  assert method.objectives['world'].params == ('backbone', 'world_heads')
  joint = method.objectives['world_action']
  assert joint.params == ('backbone', 'world_heads', 'q_heads')
  value, aux = jax.jit(joint.loss)(variables, batch, key, 0)
  assert {'world/observations', 'q/td', 'q/max_value'} <= set(aux.metrics)
  # The metrics are unweighted, the total is not.
  total = aux.metrics['q/td'] + JowaLosses().world_weight * sum(
    aux.metrics[f'world/{name}'] for name in ('observations', 'rewards', 'ends')
  )
  np.testing.assert_allclose(value, total, rtol=1e-5)
  first, aux = jax.jit(method.objectives['world'].loss)(
    variables, batch, key, 0
  )
  assert set(aux.metrics) == {
    'world/observations',
    'world/rewards',
    'world/ends',
  }
  np.testing.assert_allclose(first, sum(aux.metrics.values()), rtol=1e-5)


@pytest.mark.slow
def test_encoded_frames_give_the_loss_of_the_frames(method, variables):
  batch, key = small.segment(), jax.random.key(0)
  loss = jax.jit(method.objectives['world_action'].loss)
  expected, _ = loss(variables, batch, key, 0)
  tokens = jax.jit(method.tokenizer.encode)(variables, batch.observations)
  assert tokens.shape == (2, small.LENGTH, small.TOKENS)
  assert len(np.unique(tokens)) > 2
  encoded = batch.replace(observations=None, tokens=tokens.astype('uint16'))
  got, _ = loss(variables, encoded, key, 0)
  np.testing.assert_allclose(got, expected, rtol=1e-6)


def one_hot(labels, classes):
  return 9.0 * (np.asarray(labels)[..., None] == np.arange(classes))


def prediction_metrics(tokens, observations, rewards, batch):
  logits = WorldLogits(
    observations=jnp.asarray(one_hot(observations, small.VOCAB)),
    rewards=jnp.asarray(one_hot(np.asarray(rewards) + 1, 3)),
    ends=jnp.zeros((*batch.mask.shape, 2)),
  )
  metrics = jowa_losses.prediction_metrics(logits, jnp.asarray(tokens), batch)
  return {name.removeprefix('world/'): _value(x) for name, x in metrics.items()}


def _value(x):
  if not isinstance(x, Ratio):
    return float(x)
  return float(x.part / x.whole) if x.whole else None


@pytest.mark.slow
def test_prediction_metrics_of_a_known_case():
  """Three steps of two tokens; five of the eight predictions are wrong."""
  tokens = [[[1, 2], [1, 3], [4, 3]], [[5, 6], [5, 6], [5, 6]]]
  # Places: token 2 of this frame, then token 1 of the next.
  observations = [
    [[0, 1], [3, 1], [0, 9]],  # frame 2: 1, 3 right; frame 3: 1 wrong, 0 wrong
    [[0, 7], [6, 9], [0, 9]],  # frame 2: 7 wrong, 6 right; frame 3 is padding
  ]
  batch = small.segment(
    observations=None,
    actions=np.zeros((2, 3), np.int32),
    rewards=np.array([[0.5, 0, -1], [1, 0, 0]], np.float32),
    mask=np.array([[1, 1, 1], [1, 1, 0]], bool),
  )
  rewards = [[1, 1, -1], [1, -1, 1]]
  got = prediction_metrics(tokens, observations, rewards, batch)
  assert got == pytest.approx(
    {
      'token_accuracy': 3 / 6,
      # Copied: (1), not 2 -> 3, not 1 -> 4, (3), (5), (6).
      'copy_accuracy': 4 / 6,
      # Changed: 2 -> 3, said right, and 1 -> 4, said wrong.
      'changed_token_accuracy': 1 / 2,
      # Signs 1, 0, -1, 1, 0: the first, third and fourth.
      'reward_accuracy': 3 / 5,
      # All three that are there; the second and fifth are made up.
      'reward_recall': 1,
      'reward_precision': 3 / 5,
    }
  )


def test_prediction_metrics_of_a_still_picture():
  tokens = np.full((2, small.LENGTH, small.TOKENS), 7)
  batch = small.segment()
  got = prediction_metrics(tokens, tokens, np.sign(batch.rewards), batch)
  assert got == {
    'token_accuracy': 1,
    'copy_accuracy': 1,
    'changed_token_accuracy': None,
    'reward_accuracy': 1,
    'reward_recall': 1,
    'reward_precision': 1,
  }


@pytest.mark.slow
def test_evaluate(method, variables, evaluate):
  batch = small.segment(mask=[[1, 1, 1, 1], [1, 1, 0, 0]])
  # The second segment stands still, the first does not.
  frames = batch.observations.copy()
  frames[1] = frames[1, :1]
  batch = batch.replace(observations=frames)
  got = evaluate(variables, batch)
  tokens = np.asarray(jax.jit(method.tokenizer.encode)(variables, frames))
  same = (tokens[:, 1:] == tokens[:, :-1])[batch.mask[:, 1:]]
  assert same[-1].all() and not same.all()
  np.testing.assert_allclose(got['world/copy_accuracy'], same.mean(), rtol=1e-5)
  for name in ('token', 'copy', 'changed_token'):
    assert 0 <= _value(got[f'world/{name}_accuracy']) <= 1
  assert 0 <= got['world/reward_accuracy'] <= 1
  assert all(np.isfinite(value).all() for value in got.values())
  assert {'tokenizer/perplexity', 'q/td', 'world/observations'} <= set(got)
  # The world terms are those of stage 1, whatever their weight in training.
  _, aux = jax.jit(method.objectives['world'].loss)(
    variables, batch, jax.random.key(0), 0
  )
  for name, value in aux.metrics.items():
    np.testing.assert_allclose(got[name], value, rtol=1e-5)


TASKS = np.array([small.PONG, small.FREEWAY], np.int32)
LEGAL = games.legal_mask()[TASKS]


def play(policy, variables, count, seed=0):
  """Returns frames, actions and infos; the second game restarts at step 3."""
  rng = np.random.default_rng(seed)
  frames = rng.integers(0, 256, (count, 2, 8, 8), np.uint8)
  state, actions, infos = policy.init(TASKS), [], []
  for i in range(count):
    first = np.array([i == 0, i in (0, 3)])
    action, state, info = policy.act(
      variables,
      state,
      TimeStep(frames=frames[i], first=first),
      jax.random.split(jax.random.key(i), 2),
    )
    actions.append(np.asarray(action))
    infos.append(jax.tree.map(np.asarray, info))
  return frames, np.array(actions), infos


@functools.partial(jax.jit, static_argnums=0)
def q_of_history(encode, variables, frames, actions, tasks):
  """Q [B, T, 18] of frames and the actions taken in them, without a cache."""
  hidden = world_action.hidden_states(
    small.BACKBONE,
    variables.params['backbone'],
    encode(variables, frames),
    actions,
    tasks,
  )
  read = world_action.at_last_observation(small.BACKBONE, hidden)
  return world_action.q_values(small.MODEL, variables.params['q_heads'], read)


@pytest.mark.slow
def test_greedy_policy_plays_the_best_legal_action(method, variables):
  policy = method.policy(epsilon=0.0)
  frames, actions, infos = play(policy, variables, 6)
  for action, info in zip(actions, infos, strict=True):
    best = np.where(LEGAL, info['q'], -np.inf).argmax(-1)
    np.testing.assert_array_equal(action, best)
  # At the last step: Pong's context is full, Freeway's began at step 3.
  for env, start in ((0, 6 - small.LENGTH), (1, 3)):
    q = q_of_history(
      method.tokenizer.encode,
      variables,
      frames[None, start:, env],
      actions[None, start:, env],
      TASKS[env : env + 1],
    )
    np.testing.assert_allclose(infos[-1]['q'][env], q[0, -1], atol=1e-5)
  assert policy.act._cache_size() == 1


def test_beam_policy_plays_its_plan_and_traces_once(method, variables):
  policy = method.policy(planner='beam', width=3, horizon=2, epsilon=0.0)
  # The context is what the position table leaves beside two dreamed blocks.
  assert policy.init(TASKS).actions.shape == (2, small.LENGTH - 2)
  _, actions, infos = play(policy, variables, 6)
  for action, info in zip(actions, infos, strict=True):
    plan = info['plan']
    np.testing.assert_array_equal(action, plan.action)
    for env in range(2):
      assert LEGAL[env, plan.paths[env]].all()
  assert policy.act._cache_size() == 1


@pytest.mark.slow
def test_tree_policy_plays_its_search_and_traces_once(method, variables):
  policy = method.policy(
    planner='mcts', horizon=2, num_simulations=5, epsilon=0.0
  )
  assert policy.init(TASKS).actions.shape == (2, small.LENGTH - 2)
  _, actions, infos = play(policy, variables, 6)
  for action, info in zip(actions, infos, strict=True):
    plan = info['plan']
    np.testing.assert_array_equal(action, plan.action)
    assert (plan.visits.sum(axis=1) == 5).all()
    assert not plan.visits[~LEGAL].any()
  assert policy.act._cache_size() == 1


@pytest.mark.slow
@pytest.mark.parametrize(
  ('planner', 'options'),
  [
    ('none', {}),
    ('beam', dict(horizon=1)),
    ('mcts', dict(horizon=1, num_simulations=2)),
  ],
)
def test_weights_that_diverged_give_no_action(
  method, variables, planner, options
):
  params = jax.tree.map(jnp.copy, variables.params)
  params['q_heads']['dense_2_bias'] *= np.nan
  policy = method.policy(planner=planner, **options)
  _, actions, _ = play(policy, variables.replace(params=params), 1)
  assert (actions == -1).all()


@pytest.mark.slow
def test_both_decoders_play_the_same(method, variables):
  parallel, sequential = (
    play(
      method.policy(planner='beam', epsilon=0.0, decoder=decoder), variables, 6
    )[2]
    for decoder in ('parallel', 'sequential')
  )
  for ours, theirs in zip(parallel, sequential, strict=True):
    np.testing.assert_array_equal(ours['plan'].paths, theirs['plan'].paths)
    np.testing.assert_allclose(
      ours['plan'].scores, theirs['plan'].scores, atol=1e-4
    )


def test_random_share_of_a_policy_is_legal(method, variables):
  policy = method.policy(epsilon=1.0, context_length=1)
  assert policy.init(TASKS).actions.shape == (2, 1)
  _, actions, _ = play(policy, variables, 30)
  assert all(LEGAL[env, actions[:, env]].all() for env in range(2))
  assert len(np.unique(actions[:, 1])) == 3


@pytest.mark.parametrize(
  ('options', 'error', 'message'),
  [
    ({'planner': 'bean'}, ValueError, "planner='bean'"),
    ({'planner': 'beam', 'horizon': 4}, ValueError, 'context_length=0'),
    ({'context_length': 0}, ValueError, 'context_length=0'),
    ({'context_length': 5}, ValueError, 'context_length=5 and horizon=0'),
    (
      {'planner': 'mcts', 'context_length': 3, 'horizon': 2},
      ValueError,
      'context_length=3 and horizon=2',
    ),
    ({'planner': 'beam', 'horizon': -1}, ValueError, 'horizon=-1'),
    ({'planner': 'beam', 'width': 0}, ValueError, 'width=0'),
    ({'planner': 'mcts', 'horizon': 0}, ValueError, 'horizon=0'),
    ({'planner': 'mcts', 'choose_by': 'luck'}, ValueError, 'luck'),
    ({'planner': 'beam', 'decoder': 'both'}, ValueError, "decoder='both'"),
    ({'horizon': 2}, ValueError, 'horizon=2 needs planner=beam or mcts, not'),
    (
      {'planner': 'mcts', 'width': 2},
      ValueError,
      'width=2 needs planner=beam, not mcts',
    ),
    ({'epsilon': 2.0}, ValueError, 'epsilon=2.0'),
    ({'widht': 2}, TypeError, 'widht'),
  ],
)
def test_bad_policy_options_are_errors(method, options, error, message):
  with pytest.raises(error, match=message):
    method.policy(**options)


@pytest.mark.parametrize('field', ['vocab_size', 'tokens_per_frame'])
def test_tokenizer_and_backbone_must_agree(field):
  backbone = dataclasses.replace(small.BACKBONE, **{field: 99})
  with pytest.raises(ValueError, match=f'tokenizer.{field}.*{field}=99'):
    small.jowa(backbone=backbone)
