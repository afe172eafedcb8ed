"""The game, the dream and the agent of a session, against what they are of."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.collect import recordings
from jowa_jax.collect.replay import replay
from jowa_jax.data.store import stored
from jowa_jax.envs.vector import AtariEnvs
from jowa_jax.methods import jowa_dreams
from jowa_jax.methods.factory import method_config
from jowa_jax.play import session as session_lib
from jowa_jax.play.keys import FIRE, LEFT, RIGHT
from jowa_jax.play.session import REWIND, Session, warm_up
from jowa_jax.types import TimeStep
from tests import compilations

GAME = 'Carnival'
TASK = games.task_id(GAME)


def pressed(count, seed=0):
  return np.random.default_rng(seed).choice((0, FIRE, LEFT, RIGHT), count)


@pytest.fixture
def session(programs, monkeypatch):
  # Random parameters expect an end at every step.
  monkeypatch.setattr(session_lib, 'ENDS', 1.0)
  return Session(programs, GAME, seed=3)


@pytest.mark.slow
def test_the_emulator_is_an_evaluations(session):
  envs = AtariEnvs([GAME], 1, num_threads=1)
  frame = envs.reset(0).frames[0]
  score = 0
  for keys in pressed(40):
    np.testing.assert_array_equal(session.state.frame, frame)
    shown = session.step(int(keys))
    step, reward, *_ = envs.step(np.array([shown.action]))
    frame, score = step.frames[0], score + reward[0]
    assert shown.reward == reward[0] and shown.state.score == score
  assert shown.state.taken == 40 and not shown.state.over


@pytest.mark.slow
def test_the_agent_acts_as_in_an_evaluation(programs, session):
  agent = programs.agent
  policy = agent.policy(epsilon=0.0, context_length=programs.context)
  state = policy.init(np.array([TASK], np.int32))
  session.settings.player = 'greedy'
  for number in range(12):
    step = TimeStep(
      frames=jnp.asarray(session.state.frame)[None],
      first=jnp.array([number == 0]),
    )
    keys = jax.random.split(jax.random.key(0), 1)
    actions, state, info = policy.act(agent.variables, state, step, keys)
    np.testing.assert_allclose(session.state.q, info['q'][0], atol=1e-5)
    assert session.step().action == actions[0]


@pytest.mark.slow
def test_a_plan_is_the_policys(programs, session):
  agent = programs.agent
  options = agent.simulator.search(2, 2)
  policy = agent.policy(context_length=programs.context, **options)
  step = TimeStep(
    frames=jnp.asarray(session.state.frame)[None], first=jnp.array([True])
  )
  _, _, info = policy.act(
    agent.variables,
    policy.init(np.array([TASK], np.int32)),
    step,
    jax.random.split(jax.random.key(0), 1),
  )
  session.settings.player = 'planning'
  plan = session.step().plan
  np.testing.assert_array_equal(plan.paths, info['plan'].paths[0])
  np.testing.assert_allclose(plan.scores, info['plan'].scores[0], atol=1e-5)
  assert plan.frames.shape == (2, 2, 84, 84) and plan.frames.dtype == np.uint8


@pytest.mark.slow
@pytest.mark.parametrize('temperature', [0.0, 1.0])
def test_the_dream_is_what_is_imagined(programs, session, temperature):
  """Token by token, on the same context, actions and seed."""
  agent = programs.agent
  for keys in pressed(6):
    session.step(int(keys))
  session.branch()
  context = jax.tree.map(jnp.asarray, session.state.history)
  key = jax.random.key(session.branch_seed)
  session.settings.temperature = temperature
  horizon = programs.max_horizon
  shown = [session.step(int(keys)) for keys in pressed(horizon, 1)]
  actions = jnp.array([[each.action for each in shown]])
  found = jax.jit(
    lambda params, context: jowa_dreams.imagine(
      method_config(agent.config).model,
      params,
      context,
      lambda step, q, key: actions[:, step],
      horizon,
      key,
      temperature=temperature,
    )
  )(agent.variables.params, context)
  for step, each in enumerate(shown):
    np.testing.assert_array_equal(
      each.state.dream_tokens, found.tokens[0, step]
    )
    assert each.dream_reward == found.rewards[0, step]
  decoded = agent.tokenizer.decode(agent.variables, found.tokens[0, -1:])
  difference = shown[-1].state.dream_frame.astype(int) - np.asarray(decoded[0])
  assert np.abs(difference).max() <= 1
  # It goes on where nothing more can be imagined at once.
  assert horizon + programs.context == agent.simulator.max_steps
  window = session.state.window
  assert window.count[0] == programs.window
  again = session.step()
  memory, _ = agent.simulator.remember(agent.variables, window)
  if not temperature:
    world = agent.simulator.world(agent.variables, window.tasks)
    dream = world.dream(memory, jnp.array([again.action]), None)
    np.testing.assert_array_equal(again.state.dream_tokens, dream.tokens[0])


@pytest.mark.slow
def test_it_is_measured_against_the_game(programs, session):
  shown = session.step(LEFT)
  tokens = programs.agent.tokenizer.encode(
    programs.agent.variables, jnp.asarray(shown.state.frame)[None]
  )[0]
  right = np.mean(np.asarray(tokens) == shown.state.dream_tokens)
  assert shown.token_accuracy == right
  difference = shown.state.frame.astype(int) - shown.state.dream_frame
  assert shown.pixel_error == pytest.approx(np.abs(difference).mean() / 255)
  assert 0 <= shown.dream_end <= 1 and shown.passes >= 1


@pytest.mark.slow
def test_rewinding_takes_everything_back(session):
  session.settings.temperature = 1.0
  for keys in pressed(4):
    session.step(int(keys))
  before = session.state
  first = [session.step(int(keys)) for keys in pressed(8, 1)]
  assert session.rewind(8) == 8
  assert session.state is before
  assert len(list(session.scenes())) == 4
  again = [session.step(int(keys)) for keys in pressed(8, 1)]
  for one, other in zip(first, again, strict=True):
    np.testing.assert_array_equal(one.state.frame, other.state.frame)
    np.testing.assert_array_equal(
      one.state.dream_tokens, other.state.dream_tokens
    )
    assert one.state.score == other.state.score
  assert session.rewind() == 12 and session.rewindable == 0
  assert session.rewind() == 0 and session.state.taken == 0


def test_the_dream_goes_on_alone(session):
  session.step(RIGHT)
  frame = session.state.frame
  session.set_dream_on(True)
  for _ in range(3):
    shown = session.step(RIGHT)
    assert shown.token_accuracy is None and shown.reward == 0
  assert shown.state.dreamed == 4 and shown.state.taken == 1
  np.testing.assert_array_equal(shown.state.frame, frame)
  # Back to the middle of it: still alone.
  session.rewind(1)
  assert session.dream_on and session.state.dreamed == 3
  session.rewind(2)
  session.set_dream_on(False)
  assert not session.dream_on and session.state.dreamed == 0
  np.testing.assert_array_equal(session.state.dream_frame, frame)
  shown = session.step(RIGHT)
  assert shown.state.taken == 2 and shown.token_accuracy is not None


def test_a_dream_that_is_over_stands_still(session):
  session.set_dream_on(True)
  session.state = dataclasses.replace(session.state, dream_over=True)
  before = session.state
  shown = session.step(LEFT)
  assert shown.state.dreamed == before.dreamed
  np.testing.assert_array_equal(shown.state.dream_frame, before.dream_frame)
  session.branch()
  assert not session.state.dream_over and session.step().state.dreamed == 1


def test_it_branches_by_itself(session):
  session.settings.branch_every = 3
  steps = [session.step().state.dreamed for _ in range(7)]
  assert steps == [1, 2, 3, 1, 2, 3, 1]


def test_an_episode_begins_again(session):
  session.step(FIRE)
  session.state = dataclasses.replace(session.state, over=True)
  shown = session.step()
  assert shown.began and shown.state.taken == 1 and shown.state.dreamed == 1
  assert session.rewindable == 1
  session.restart()
  assert session.state.taken == 0
  assert session.recording().checkpoints[0].lengths.tolist() == [1, 1]


def test_nothing_is_compiled_twice(programs):
  warm_up(programs, GAME)
  with compilations.counted() as compiled:
    warm_up(programs, 'Assault')
    session = Session(programs, GAME)
    for player in ('you', 'greedy', 'planning'):
      session.settings.player = player
      session.settings.temperature += 0.3
      session.step()
      session.branch()
      session.step()
    session.rewind()
    session.step()
  assert not compiled


@pytest.mark.slow
def test_what_a_person_played_is_data(session, tmp_path):
  frames = [session.state.frame]
  for keys in pressed(20):
    frames.append(session.step(int(keys)).state.frame)
  session.rewind(5)
  path = tmp_path / 'play.npz'
  recordings.write(path, session.recording())
  (stats,) = replay(
    str(path), tmp_path / 'data', num_processes=1, progress=False
  )
  assert stats.steps == 15
  (episode,) = stored.load_episodes(tmp_path / 'data', (GAME,))
  out = np.empty((15, 84, 84), np.uint8)
  episode.decode(0, 15, out)
  np.testing.assert_array_equal(out, frames[:15])


def test_what_cannot_be(programs, session):
  with pytest.raises(ValueError, match='not trained on Pong'):
    Session(programs, 'Pong')
  with pytest.raises(ValueError, match='Nothing was played'):
    session.recording()
  session.settings.player, session.settings.horizon = 'planning', 9
  with pytest.raises(ValueError, match='horizon=9 from 1 to 2'):
    session.step()
  assert session.rewindable == 0 and session.state.number == 0


def test_what_is_kept_is_bounded(session):
  assert session._moments.maxlen == REWIND == 150
  assert session._scenes.maxlen == 900
