"""Dreamed environments against what is imagined, and Gymnasium's rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from jowa_jax import games
from jowa_jax.envs import Contexts, DreamEnv, DreamVectorEnv
from jowa_jax.plan.imagine import unroll
from jowa_jax.types import History
from tests import compilations
from tests.eval.small_agent import make_agent

GAME = 'Carnival'
LEGAL = np.array(games.LEGAL_ACTIONS[GAME])
# Random parameters expect an end at every step.
NEVER, ALWAYS = 1.0, 0.0
TOKENS = dict(observations='tokens', ends=NEVER)


@pytest.fixture(scope='module')
def agent():
  return make_agent(backbone__num_layers=1, backbone__max_blocks=4)


def contexts(count=5, length=2):
  rng = np.random.default_rng(0)
  return Contexts(
    rng.integers(0, 256, (count, length, 84, 84), np.uint8),
    rng.choice(LEGAL, (count, length)).astype(np.int32),
  )


def actions(envs, steps, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, len(LEGAL), (steps, envs))


@pytest.mark.slow
def test_it_is_what_is_imagined(agent):
  given = contexts(count=1)
  env = DreamVectorEnv(agent, GAME, given, 2, **TOKENS)
  env.reset(seed=0)
  taken = actions(2, 2)
  found = [env.step(each) for each in taken]
  tokens = agent.tokenizer.encode(agent.variables, jnp.asarray(given.frames))
  tasks = jnp.full(2, games.task_id(GAME))
  context = History(
    seen=jnp.repeat(tokens, 2, axis=0),
    actions=jnp.repeat(jnp.asarray(given.actions), 2, axis=0),
    count=jnp.full(2, 2),
    tasks=tasks,
  )

  @jax.jit
  def imagine(variables):
    memory, q = agent.simulator.remember(variables, context)
    world = agent.simulator.world(variables, tasks)
    chosen = jnp.asarray(LEGAL[taken])
    return unroll(world, memory, q, lambda step, q, key: chosen[step], 2)

  expected = imagine(agent.variables)
  for step, (observations, rewards, *_) in enumerate(found):
    np.testing.assert_array_equal(observations, expected.tokens[:, step])
    np.testing.assert_array_equal(rewards, expected.rewards[:, step])


@pytest.mark.slow
def test_seeds_decide_everything(agent):
  """Environment i of seed s is environment 0 of seed s + i, drawn or not."""
  options = dict(temperature=1.0, horizon=5, **TOKENS)
  together = DreamVectorEnv(agent, GAME, contexts(), 3, **options)
  first, _ = together.reset(seed=7)
  taken = actions(3, 8)
  steps = [together.step(each) for each in taken]
  again, _ = together.reset(seed=7)
  np.testing.assert_array_equal(first, again)
  for each, before in zip(taken, steps, strict=True):
    for one, other in zip(together.step(each)[:4], before[:4], strict=True):
      np.testing.assert_array_equal(one, other)
  alone = DreamVectorEnv(agent, GAME, contexts(), 1, **options)
  start, _ = alone.reset(seed=9)
  np.testing.assert_array_equal(start[0], first[2])
  for each, before in zip(taken, steps, strict=True):
    np.testing.assert_array_equal(alone.step(each[2:])[0][0], before[0][2])
  other, _ = together.reset(seed=70)
  assert (np.stack([s[0] for s in steps]) != other).any()
  # Without a seed it goes on, and draws other contexts and frames.
  starts = {alone.reset()[0].tobytes() for _ in range(20)}
  assert 1 < len(starts) <= 5


@pytest.mark.slow
def test_it_resets_at_the_next_step(agent):
  env = RecordEpisodeStatistics(
    DreamVectorEnv(agent, GAME, contexts(1), 2, horizon=2, ends=NEVER)
  )
  assert env.metadata['autoreset_mode'] is AutoresetMode.NEXT_STEP
  start, _ = env.reset(seed=0)
  ended = []
  for each in actions(2, 7):
    frames, rewards, terminated, truncated, info = env.step(each)
    assert not terminated.any()
    ended.append(truncated.tolist())
    if 'episode' in info:
      assert info['episode']['l'].tolist() == [2, 2]
  assert ended == [[i % 3 == 1] * 2 for i in range(7)]
  # The step after an end begins: no reward, and the context's last frame.
  env.step(actions(2, 1)[0])
  frames, rewards, *_ = env.step(actions(2, 1)[0])
  np.testing.assert_array_equal(frames, start)
  assert not rewards.any() and env.episode_count == 6


@pytest.mark.slow
def test_it_resets_in_the_same_step(agent):
  env = DreamVectorEnv(
    *(agent, GAME, contexts(1), 2),
    ends=ALWAYS,
    autoreset_mode=AutoresetMode.SAME_STEP,
  )
  env = RecordEpisodeStatistics(env)
  start, _ = env.reset(seed=0)
  for each in actions(2, 3):
    frames, rewards, terminated, truncated, info = env.step(each)
    assert terminated.all() and not truncated.any()
    np.testing.assert_array_equal(frames, start)
    assert (info['final_obs'][0] != start[0]).any()
    assert info['_final_obs'].all() and info['episode']['l'].tolist() == [1, 1]


@pytest.mark.slow
@pytest.mark.parametrize('mode', [AutoresetMode.NEXT_STEP, 'SameStep'])
def test_it_resets_as_gymnasium_does(agent, mode):
  """Single environments, stepped together by Gymnasium itself, are the same."""
  options = dict(horizon=3, temperature=1.0, **TOKENS)
  mode = AutoresetMode(mode)
  expected = SyncVectorEnv(
    [lambda: DreamEnv(agent, GAME, contexts(), **options)] * 2,
    autoreset_mode=mode,
  )
  env = DreamVectorEnv(
    agent, GAME, contexts(), 2, autoreset_mode=mode, **options
  )
  assert env.observation_space == expected.observation_space
  assert env.action_space == expected.action_space
  found, wanted = env.reset(seed=4), expected.reset(seed=4)
  np.testing.assert_array_equal(found[0], wanted[0])
  # One episode is begun by hand, so that they end at different times.
  ended = []
  for step, each in enumerate(actions(2, 9)):
    if step == 1:
      only = {'reset_mask': np.array([True, False])}
      found = env.reset(seed=[8, None], options=dict(only))
      wanted = expected.reset(seed=[8, None], options=dict(only))
      np.testing.assert_array_equal(found[0], wanted[0])
    *found, info = env.step(each)
    *wanted, wanted_info = expected.step(each)
    for one, other in zip(found, wanted, strict=True):
      np.testing.assert_array_equal(one, other)
      assert one.dtype == other.dtype
    ended.append(tuple(found[3]))
    assert ('final_obs' in info) == ('final_obs' in wanted_info)
    if 'final_obs' in info:
      np.testing.assert_array_equal(
        info['_final_obs'], wanted_info['_final_obs']
      )
      for row in np.flatnonzero(info['_final_obs']):
        np.testing.assert_array_equal(
          info['final_obs'][row], wanted_info['final_obs'][row]
        )
  assert (True, False) in ended and (False, True) in ended


def test_it_leaves_resets_to_others(agent):
  options = dict(autoreset_mode=AutoresetMode.DISABLED)
  env = DreamVectorEnv(agent, GAME, contexts(1), 2, ends=NEVER, **options)
  start, _ = env.reset(seed=0)
  moved, *_ = env.step(actions(2, 1)[0])
  mask = np.array([True, False])
  frames, _ = env.reset(options={'reset_mask': mask})
  np.testing.assert_array_equal(frames[0], start[0])
  np.testing.assert_array_equal(frames[1], moved[1])
  env = DreamVectorEnv(agent, GAME, contexts(1), 2, ends=ALWAYS, **options)
  env.reset(seed=0)
  assert env.step(actions(2, 1)[0])[2].all()
  with pytest.raises(ValueError, match='has ended: reset it'):
    env.step(actions(2, 1)[0])


@pytest.mark.slow
def test_gymnasium_finds_nothing_wrong(agent):
  for observations in ('frames', 'tokens'):
    env = DreamEnv(
      agent,
      GAME,
      contexts(),
      observations=observations,
      render_mode='rgb_array',
      horizon=3,
    )
    check_env(env, skip_render_check=True)
    env.reset(seed=0)
    assert env.render().shape == (84, 84, 3)
  assert env.action_space.n == len(LEGAL)
  full = DreamEnv(agent, GAME, contexts(), full_action_space=True)
  assert full.action_space.n == 18


@pytest.mark.slow
def test_it_is_compiled_once(agent):
  env = DreamVectorEnv(agent, GAME, contexts(), 2, horizon=2, ends=NEVER)
  env.reset(seed=0)
  for each in actions(2, 2):
    env.step(each)
  with compilations.counted() as compiled:
    for each in actions(2, 5):
      env.step(each)
    env.reset(seed=3)
    env.reset()
    env.step(actions(2, 1)[0])
  assert not compiled


@pytest.mark.parametrize(
  'options, message',
  [
    (dict(game='Carnivall'), 'Carnivall'),
    (dict(horizon=0), 'horizon=0'),
    (dict(num_envs=0), 'num_envs=0'),
    (dict(observations='ram'), "'ram'"),
    (dict(temperature=-1), 'temperature=-1'),
    (dict(render_mode='human'), "'human'"),
    (dict(contexts=contexts(length=4)), '4 frames .* the 3'),
    (dict(contexts=Contexts(contexts()[0], contexts(4)[1])), 'as many actions'),
    (dict(contexts=Contexts(contexts()[0][..., 0], contexts()[1])), 'uint8'),
  ],
)
def test_what_cannot_be(agent, options, message):
  with pytest.raises(ValueError, match=message):
    DreamVectorEnv(agent, **{'game': GAME, 'contexts': contexts(), **options})


def test_steps_that_cannot_be(agent):
  env = DreamVectorEnv(agent, GAME, contexts(), 2)
  with pytest.raises(ValueError, match='Reset'):
    env.step([0, 0])
  env.reset(seed=[1, None])
  for wrong in ([0], [0, 99], [0.5, 0.5], [-1, 0]):
    with pytest.raises(ValueError, match='actions must be'):
      env.step(wrong)
  with pytest.raises(ValueError, match='3 seeds for 2'):
    env.reset(seed=[1, 2, 3])
  with pytest.raises(ValueError, match='reset_mask'):
    env.reset(options={'reset_mask': np.zeros(2, bool)})
