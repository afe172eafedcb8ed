"""What a recording keeps, of real play with a small model."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from configs import jowa, mtbc
from jowa_jax import games
from jowa_jax.agent import Agent
from jowa_jax.checkpoint.shapes import variable_shapes
from jowa_jax.envs.protocol import Protocol
from jowa_jax.envs.vector import AtariEnvs
from jowa_jax.eval.recording import decode_tokens, record
from jowa_jax.eval.rollout import decision_keys, evaluate
from jowa_jax.methods import factory
from jowa_jax.methods import tokenizer as tokenizer_lib
from jowa_jax.methods.base import Policy, Variables
from tests import compilations
from tests.models import random_params
from tests.train import helpers

GAME, SEED = 'Carnival', 3
RULES = Protocol(epsilon=0.3, sticky_actions=0.25)
BEAM = dict(planner='beam', width=2, horizon=1, context_length=1)


def small_agent(module, **changes):
  """An agent of random parameters: four tokens a frame, two blocks."""
  config = module.get_config('smoke').to_dict()
  helpers.change(
    config,
    tokenizer__downsample=(7, 6),
    backbone__tokens_per_frame=4,
    backbone__max_blocks=2,
    **changes,
  )
  method = factory.make_method(config)
  shapes = variable_shapes(method)
  variables = Variables(
    params=random_params.fill(shapes.params, 1), targets={}, extras={}
  )
  # Placed, as those of a checkpoint are.
  variables = jax.device_put(variables, jax.devices()[0])
  return Agent(config, method, variables, 0)


@pytest.fixture(scope='module')
def agent():
  return small_agent(jowa)


def play(agent, seed=SEED, **options):
  return record(
    agent, GAME, protocol=RULES, seed=seed, max_decisions=30, **options
  )


@pytest.fixture(scope='module')
def recording(agent):
  return play(agent, **BEAM)


@pytest.mark.slow
def test_frames_and_rewards_are_the_games(recording):
  envs = AtariEnvs([GAME], 1, RULES, num_threads=1)
  frames, rewards = [envs.reset(SEED).frames[0]], []
  for action in recording.actions:
    time_step, reward, *_ = envs.step(np.array([action]))
    frames.append(time_step.frames[0])
    rewards.append(reward[0])
  np.testing.assert_array_equal(recording.frames, frames[:-1])
  np.testing.assert_array_equal(recording.rewards, rewards)
  assert recording.score == sum(rewards) > 0
  np.testing.assert_array_equal(recording.scores[1:], np.cumsum(rewards)[:-1])
  assert recording.scores[0] == 0 and not recording.ended
  assert set(recording.actions) <= set(games.LEGAL_ACTIONS[GAME])
  assert len(set(recording.actions)) > 1


@pytest.mark.slow
def test_values_and_dreams_are_the_policys(agent, recording):
  """Acting on the recorded frames gives them again, decoded one by one."""
  policy = agent.policy(epsilon=RULES.epsilon, **BEAM)
  config = factory.method_config(agent.config).tokenizer
  decode = jax.jit(functools.partial(tokenizer_lib.decode, config))
  tasks = np.array([games.task_id(GAME)], np.int32)
  envs = AtariEnvs([GAME], 1, RULES, num_threads=1)
  time_step, state = envs.reset(SEED), policy.init(tasks)
  dreams = recording.dreams
  assert dreams.frames.shape == (30, 1, 84, 84)
  for t, action in enumerate(recording.actions):
    keys = decision_keys(SEED, tasks, np.array([0]), np.array([t]))
    actions, state, info = policy.act(agent.variables, state, time_step, keys)
    assert actions[0] == action
    np.testing.assert_array_equal(recording.values[t], info['q'][0])
    plan = info['plan']
    np.testing.assert_array_equal(dreams.actions[t], plan.paths[0, 0])
    np.testing.assert_array_equal(dreams.rewards[t], plan.rewards[0, 0])
    assert dreams.scores[t] == plan.scores[0, 0] == plan.scores[0].max()
    decoded = decode(agent.variables.params['tokenizer'], plan.tokens[0, 0])
    # Another batch size rounds another way.
    difference = np.abs(dreams.frames[t].astype(int) - np.asarray(decoded))
    assert difference.max() <= 1
    time_step, *_ = envs.step(np.asarray(actions))
  assert dreams.frames.std() > 1


@pytest.mark.slow
def test_it_repeats_what_an_evaluation_played(agent, recording):
  with compilations.counted() as compiled:
    again = play(agent, **BEAM)
  assert compiled['act'] == 1 and compiled['_decode'] <= 1
  other = play(agent, seed=SEED + 1, **BEAM)
  np.testing.assert_array_equal(again.frames, recording.frames)
  np.testing.assert_array_equal(again.actions, recording.actions)
  assert (other.actions != recording.actions).any()
  protocol = dataclasses.replace(RULES, rollouts=2, max_frames=120)
  rollouts = evaluate(
    agent.policy(epsilon=RULES.epsilon, **BEAM),
    agent.variables,
    [GAME],
    protocol,
    SEED,
    agent='small',
    progress=False,
    num_threads=1,
  )
  whole = record(agent, GAME, protocol=protocol, seed=SEED, rollout=1, **BEAM)
  assert whole.ended and len(whole.frames) == rollouts[1].decisions
  assert whole.score == rollouts[1].score


@pytest.mark.slow
def test_decoding_does_not_depend_on_the_batch(agent):
  rng = np.random.default_rng(0)
  vocabulary = agent.config['tokenizer']['vocab_size']
  tokens = rng.integers(0, vocabulary, (70, 4)).astype(np.int32)
  frames = decode_tokens(agent, tokens)
  assert frames.shape == (70, 84, 84) and frames.dtype == np.uint8
  np.testing.assert_array_equal(frames[66:], decode_tokens(agent, tokens[66:]))
  assert decode_tokens(agent, tokens[:0]).shape == (0, 84, 84)


@pytest.mark.slow
def test_agents_that_do_not_dream(agent):
  greedy = play(agent)
  assert greedy.dreams is None and greedy.value_name == 'Q value'
  assert greedy.agent == 'JOWA, greedy'
  assert play(agent, planner='beam', horizon=0).dreams is None
  cloned = play(small_agent(mtbc))
  assert cloned.agent == 'MTBC' and cloned.value_name == 'Probability'
  np.testing.assert_allclose(cloned.values.sum(1), 1, rtol=1e-5)
  legal = games.legal_mask()[games.task_id(GAME)]
  assert not cloned.values[:, ~legal].any()


@pytest.mark.parametrize(
  'options, message',
  [
    (dict(game='Carnivall'), 'Carnivall'),
    (dict(max_decisions=0), 'max_decisions is 0'),
    (dict(seed=-1), 'seed is -1'),
    (dict(rollout=-1), 'rollout is -1'),
    (dict(width=2), 'width=2 needs planner=beam'),
    (dict(depth=2), "jowa has no such option.*'depth'"),
    (dict(planner='beem'), 'beem'),
    (dict(epsilon=0.5), 'Protocol.epsilon'),
  ],
)
def test_errors(agent, options, message):
  with pytest.raises(ValueError, match=message):
    record(agent, **{'game': GAME, **options})


def test_a_policy_that_tells_no_values_is_an_error(agent, monkeypatch):
  def act(variables, state, time_step, keys):
    del variables, time_step, keys
    return np.zeros(1, np.int32), state, {}

  silent = Policy(init=lambda tasks: None, act=act)
  monkeypatch.setattr(agent, 'policy', lambda **options: silent)
  with pytest.raises(ValueError, match='cannot be recorded'):
    record(agent, GAME)


@pytest.mark.slow
def test_a_recording_must_fit_together(recording):
  with pytest.raises(ValueError, match=r'actions .* \(30,\), not \(29,\)'):
    dataclasses.replace(recording, actions=recording.actions[1:])
  dreams = dataclasses.replace(
    recording.dreams, rewards=recording.dreams.rewards[:, :0]
  )
  with pytest.raises(ValueError, match='dreams.rewards'):
    dataclasses.replace(recording, dreams=dreams)
  with pytest.raises(ValueError, match='at least one'):
    dataclasses.replace(recording, frames=recording.frames[:0])
