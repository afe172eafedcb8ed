"""A small agent that learns in the dream, and what it scores in the game."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from jowa_jax import games
from jowa_jax.envs.dream import Contexts, DreamVectorEnv
from jowa_jax.envs.protocol import Protocol
from jowa_jax.eval.records import read_rollouts
from jowa_jax.play import pupil
from jowa_jax.play.pupil import Pupil, PupilConfig
from jowa_jax.stable_baselines import import_library
from jowa_jax.types import TimeStep

ROOT = pathlib.Path(__file__).parents[2]
GAME = 'Carnival'
LEGAL = np.array(games.LEGAL_ACTIONS[GAME])


def one_hot(seen):
  """Nearly always the action that the last frame's last token names."""
  return 50.0 * np.eye(len(LEGAL), dtype=np.float32)[seen[:, -1] % len(LEGAL)]


def test_frames_are_appended():
  seen = np.array([[[1], [2]], [[3], [4]]])
  found = pupil.appended(seen, np.array([[5], [6]]), np.array([False, True]))
  assert found.tolist() == [[[2], [5]], [[6], [6]]]


@pytest.mark.slow
def test_it_acts_on_tokens_of_real_frames(programs):
  agent = programs.agent
  read = []

  def logits(seen):
    read.append(seen)
    return one_hot(seen)

  policy = pupil.policy(agent, GAME, 2, logits, epsilon=0.0)
  state = policy.init(np.full(3, games.task_id(GAME)))
  rng = np.random.default_rng(0)
  frames = rng.integers(0, 256, (3, 3, 84, 84), np.uint8)
  keys = jax.random.split(jax.random.key(0), 3)
  for step, first in enumerate(([1, 1, 1], [0, 0, 0], [0, 1, 0])):
    time_step = TimeStep(frames=frames[step], first=np.array(first, bool))
    actions, state, _ = policy.act(agent.variables, state, time_step, keys)
    assert (np.asarray(actions) == LEGAL[one_hot(read[-1]).argmax(-1)]).all()
  encode = jax.jit(agent.tokenizer.encode)
  tokens = [np.asarray(encode(agent.variables, each)) for each in frames]
  for row, before in enumerate((1, 2, 1)):
    expected = [*tokens[before][row], *tokens[2][row]]
    assert read[-1][row].tolist() == expected
  # All of it is random, and legal.
  policy = pupil.policy(agent, GAME, 2, one_hot, epsilon=1.0)
  state = policy.init(np.full(200, games.task_id(GAME)))
  many = TimeStep(
    frames=np.repeat(frames[:1, 0], 200, axis=0), first=np.ones(200, bool)
  )
  keys = jax.random.split(jax.random.key(1), 200)
  actions, _, _ = policy.act(agent.variables, state, many, keys)
  assert set(np.asarray(actions).tolist()) == set(LEGAL.tolist())


@pytest.mark.slow
def test_it_is_scored_as_an_evaluation_is(programs, tmp_path):
  taught = Pupil(one_hot, steps=7, parameters=3, weights='a')
  protocol = Protocol(rollouts=2, max_frames=40)
  given = programs.agent, GAME, 2, taught, tmp_path, protocol
  found = pupil.scores(*given)
  assert list(found) == ['pupil', 'random']
  for name, score in found.items():
    rollouts = read_rollouts(tmp_path / f'{name}.jsonl')
    assert [r.score for r in rollouts] == score['scores']
    assert score['mean'] == np.mean(score['scores'])
    assert {r.setup['protocol']['max_frames'] for r in rollouts} == {40}
    assert [r.decisions for r in rollouts] == [10, 10]
  before = (tmp_path / 'pupil.jsonl').read_bytes()
  assert pupil.scores(*given) == found
  assert (tmp_path / 'pupil.jsonl').read_bytes() == before
  with pytest.raises(ValueError, match='weights'):
    other = taught._replace(weights='b')
    pupil.scores(programs.agent, GAME, 2, other, tmp_path, protocol)


def test_what_is_missing_is_said(monkeypatch):
  monkeypatch.setitem(sys.modules, 'stable_baselines3', None)
  with pytest.raises(ValueError, match=r"pip install '\.\[dream\]'"):
    import_library('A small agent')
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: name)
  monkeypatch.setitem(sys.modules, 'tensorflow', sys)
  monkeypatch.delitem(sys.modules, 'triton', raising=False)
  with pytest.raises(ValueError, match='TensorFlow is loaded'):
    import_library('A small agent')


@pytest.mark.parametrize('name', ['steps', 'horizon', 'temperature'])
def test_what_cannot_be(name):
  with pytest.raises(ValueError, match=f'{name}=-1 must be at least'):
    PupilConfig(**{name: -1})


needs_library = pytest.mark.skipif(
  importlib.util.find_spec('stable_baselines3') is None,
  reason="needs stable-baselines3: pip install '.[dream]'",
)


@pytest.mark.slow
@needs_library
def test_environments_are_as_the_library_steps_them(programs):
  from jowa_jax.play.pupil_ppo import DreamVecEnv

  rng = np.random.default_rng(0)
  contexts = Contexts(
    rng.integers(0, 256, (3, 2, 84, 84), np.uint8),
    rng.choice(LEGAL, (3, 2)).astype(np.int32),
  )

  def make(mode):
    # Random parameters expect an end at every step.
    return DreamVectorEnv(
      *(programs.agent, GAME, contexts, 2),
      observations='tokens',
      horizon=2,
      ends=1.0,
      autoreset_mode=mode,
    )

  with pytest.raises(ValueError, match='SAME_STEP'):
    DreamVecEnv(make(AutoresetMode.NEXT_STEP), 2)
  plain = make(AutoresetMode.SAME_STEP)
  env = DreamVecEnv(make(AutoresetMode.SAME_STEP), 2)
  env.seed(5)
  seen, (tokens, _) = env.reset(), plain.reset(seed=5)
  assert env.observation_space.contains(seen[0])
  np.testing.assert_array_equal(seen, np.tile(tokens, 2))
  for _ in range(2):
    actions = rng.integers(0, len(LEGAL), 2)
    before = tokens
    tokens, rewards, _, truncated, info = plain.step(actions)
    seen, earned, dones, infos = env.step(actions)
    np.testing.assert_array_equal(earned, rewards)
    np.testing.assert_array_equal(dones, truncated)
  # Both were cut off: what follows is the first frame of others.
  np.testing.assert_array_equal(seen, np.tile(tokens, 2))
  for row in range(2):
    assert infos[row]['TimeLimit.truncated']
    np.testing.assert_array_equal(
      infos[row]['terminal_observation'],
      [*before[row], *info['final_obs'][row]],
    )


@pytest.mark.slow
@needs_library
def test_it_learns_and_is_scored(tmp_path):
  def run(*flags):
    # By itself: torch's Triton cannot be loaded after TensorFlow.
    return subprocess.run(
      [
        *(sys.executable, '-m', 'tests.eval.small_agent'),
        *('launch.dream_agent', '--checkpoint=small', f'--game={GAME}'),
        *(f'--output={tmp_path}', '--environments=2', '--horizon=5'),
        *('--rollouts=2', '--config.protocol.max_frames=40', *flags),
      ],
      cwd=ROOT,
      env={**os.environ, 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'},
      capture_output=True,
      text=True,
    )

  done = run('--steps=200')
  assert done.returncode == 0, done.stderr[-3000:]
  assert 'pupil: mean score' in done.stdout and 'random: mean' in done.stdout
  learning = json.loads((tmp_path / 'learning.json').read_text())
  assert learning['learning'][-1]['steps'] == 256
  scores = json.loads((tmp_path / 'scores.json').read_text())
  assert set(scores) == {'pupil', 'random'}
  (setup,) = (
    r.setup for r in read_rollouts(tmp_path / 'pupil.jsonl') if r.rollout == 0
  )
  assert setup['checkpoint_step'] == 256 and setup['parameters'] > 1000
  # It does not learn again, and nothing else is taken for it.
  learned = (tmp_path / 'pupil.zip').stat().st_mtime_ns
  assert run('--steps=200').stdout == done.stdout
  assert (tmp_path / 'pupil.zip').stat().st_mtime_ns == learned
  refused = run('--steps=300')
  assert refused.returncode == 2 and 'steps: was 200' in refused.stderr
