"""The teacher's search, checked against replaying it by hand."""

import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.collect import ale_env, policies


def _play(game, epsilon, seed, steps, search=None):
  env = ale_env.AleEnv(game)
  env.reset()
  policy = policies.make_policy(game, epsilon, seed, search)
  actions, total = [], 0
  for t in range(steps):
    actions.append(policy(env, t == 0))
    total += env.step(games.LEGAL_ACTIONS[game][actions[-1]]).reward
  return actions, total


def test_random_play_is_uniform_over_the_minimal_actions():
  policy = policies.make_policy('Assault', 1.0, 0)
  env = ale_env.AleEnv('Assault')
  counts = np.bincount([policy(env, False) for _ in range(7000)])
  assert counts.shape == (7,)
  assert (abs(counts - 1000) < 150).all()


def test_same_seed_same_play():
  search = policies.Search(rollouts=1, depth=4)
  first, _ = _play('Carnival', 0.3, 5, 40, search)
  assert first == _play('Carnival', 0.3, 5, 40, search)[0]
  assert first != _play('Carnival', 0.3, 6, 40, search)[0]


def test_teacher_scores_more_than_random_play():
  random = np.mean([_play('Assault', 1.0, seed, 150)[1] for seed in range(3)])
  assert _play('Assault', 0.0, 0, 150)[1] > 1.5 * random


def test_actions_of_a_rollout_are_held(monkeypatch):
  plans = []
  teacher = policies._Teacher(
    'Assault',
    np.random.default_rng(0),
    policies.Search(rollouts=2, depth=5, hold=2),
    0.0,
  )
  monkeypatch.setattr(
    teacher, '_value', lambda state, lives, plan: plans.append(plan) or 0.0
  )
  env = ale_env.AleEnv('Assault')
  env.reset()
  assert teacher.search(env).all()
  legal = games.LEGAL_ACTIONS['Assault']
  plans = np.reshape(plans, (len(legal), 2, 5))
  np.testing.assert_array_equal(plans[:, :, 0::2][..., :2], plans[:, :, 1::2])
  for action, rollouts in zip(legal, plans, strict=True):
    assert (rollouts[:, 0] == action).all()
    # Every first action is followed by the same continuations.
    np.testing.assert_array_equal(rollouts[:, 2:], plans[0, :, 2:])


def test_equal_actions_take_turns(monkeypatch):
  best = np.array([True, True, False, True, True, True, False])
  monkeypatch.setattr(policies._Teacher, 'search', lambda self, env: best)
  policy = policies.make_policy('Assault', 0.0, 0)
  played = [policy(None, t in (0, 8)) for t in range(10)]
  assert played == [0, 1, 3, 4, 5, 0, 1, 3, 0, 1]


def test_the_best_action_is_played_whenever_it_was_played_last(monkeypatch):
  best = np.eye(7, dtype=bool)[3]
  monkeypatch.setattr(policies._Teacher, 'search', lambda self, env: best)
  policy = policies.make_policy('Assault', 0.0, 0)
  assert {policy(None, t == 0) for t in range(5)} == {3}


def _value_by_hand(env, actions, search):
  value, lives = 0.0, env.lives
  for t, action in enumerate(actions):
    outcome = env.step(action)
    value += search.discount**t * outcome.reward
    if env.lives < lives:
      return value - search.discount**t * search.life_penalty
    if outcome.terminated:
      break
  return value


def test_value_is_the_discounted_reward_less_the_penalty():
  search = policies.Search(depth=12, life_penalty=50.0)
  rng = np.random.default_rng(0)
  teacher = policies._Teacher('Assault', rng, search, 0.0)
  env = ale_env.AleEnv('Assault')
  env.reset()
  values = []
  for _ in range(45):
    state, lives = env.clone_state(), env.lives
    plan = rng.choice(games.LEGAL_ACTIONS['Assault'], 12).tolist()
    values.append(teacher._value(state, lives, plan))
    # The rollout left the environment alone, so it plays from the same state.
    assert values[-1] == pytest.approx(_value_by_hand(env, plan, search))
  assert max(values) > 0 > min(values)


def test_bad_settings():
  with pytest.raises(ValueError, match='epsilon is 1.5'):
    policies.make_policy('Pong', 1.5, 0)
  with pytest.raises(ValueError, match="Unknown game 'pong'"):
    policies.make_policy('pong', 1.0, 0)
  with pytest.raises(ValueError, match='at least 1'):
    policies.Search(hold=0)
