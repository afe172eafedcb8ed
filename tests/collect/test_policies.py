"""The teacher's search, checked against replaying it by hand."""

import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.collect import policies
from jowa_jax.envs import ale


def _play(game, epsilon, seed, steps, search=None):
  env = ale.AleEnv(game)
  env.reset()
  policy = policies.make_policy(game, epsilon, seed, search)
  actions, total = [], 0
  for t in range(steps):
    actions.append(policy(env, t == 0))
    total += env.step(games.LEGAL_ACTIONS[game][actions[-1]]).reward
  return actions, total


def test_random_play_is_uniform_over_the_minimal_actions():
  policy = policies.make_policy('Assault', 1.0, 0)
  env = ale.AleEnv('Assault')
  counts = np.bincount([policy(env, False) for _ in range(7000)])
  assert counts.shape == (7,)
  assert (abs(counts - 1000) < 150).all()


def test_same_seed_same_play():
  search = policies.LookaheadConfig(depth=4)
  first, _ = _play('Carnival', 0.3, 5, 40, search)
  assert first == _play('Carnival', 0.3, 5, 40, search)[0]
  assert first != _play('Carnival', 0.3, 6, 40, search)[0]


@pytest.mark.slow
def test_the_teacher_itself_draws_nothing():
  search = policies.LookaheadConfig(depth=6)
  first, _ = _play('MsPacman', 0.0, 0, 90, search)
  assert first == _play('MsPacman', 0.0, 1, 90, search)[0]
  assert len(set(first)) > 2


@pytest.mark.slow
def test_teacher_scores_more_than_random_play():
  random = np.mean([_play('MsPacman', 1.0, seed, 150)[1] for seed in range(3)])
  search = policies.LookaheadConfig(depth=8)
  assert _play('MsPacman', 0.0, 0, 150, search)[1] > 2 * random


def _teacher(monkeypatch, best, every=1):
  """A policy without random decisions, whose search finds these best."""
  searches = iter(best)
  monkeypatch.setattr(
    policies._Lookahead,
    'search',
    lambda self, env: np.isin(np.arange(7), next(searches)),
  )
  search = policies.LookaheadConfig(every=every)
  return policies._EpsilonLookahead(
    policies._Lookahead('Assault', 0, search, 0.0),
    0.0,
    np.random.default_rng(0),
    7,
  )


def test_among_equals_the_last_action_stays(monkeypatch):
  policy = _teacher(monkeypatch, [[1, 3], [1, 3, 4], [3, 4], [2, 3], [2, 3]])
  played = [policy(None, t in (0, 4)) for t in range(5)]
  # A new episode forgets it.
  assert played == [1, 1, 3, 3, 2]


def test_the_action_is_held_between_searches(monkeypatch):
  policy = _teacher(monkeypatch, [[1], [2], [3], [4]], every=3)
  played = [policy(None, t in (0, 5)) for t in range(8)]
  assert played == [1, 1, 1, 2, 2, 3, 3, 3]


def test_a_random_action_is_followed_by_a_search_and_kept_if_it_is_best(
  monkeypatch,
):
  policy = _teacher(monkeypatch, [[1], [2, 6], [5]], every=4)
  draws = iter([0.5, -1.0, 0.5, 0.5])
  monkeypatch.setattr(policy, '_rng', _Draws(draws, 6))
  assert [policy(None, t == 0) for t in range(4)] == [1, 6, 6, 6]


class _Draws:
  """A generator of uniform numbers from a list, and of one integer."""

  def __init__(self, uniform, integer):
    self.random = lambda: next(uniform)
    self.integers = lambda count: integer


def _value_by_hand(env, action, search):
  value, lives = 0.0, env.lives
  for t in range(search.depth):
    outcome = env.step(action)
    value += search.discount**t * outcome.reward
    if env.lives < lives:
      return value - search.discount**t * search.life_penalty
    if outcome.terminated:
      break
  return value


def test_value_is_the_discounted_reward_of_holding_less_the_penalty():
  search = policies.LookaheadConfig(depth=12, life_penalty=50.0)
  rng = np.random.default_rng(0)
  teacher = policies._Lookahead('MsPacman', 0, search, 0.0)
  env = ale.AleEnv('MsPacman')
  env.reset()
  values = []
  for _ in range(45):
    state, lives = env.clone_state(), env.lives
    action = int(rng.choice(games.LEGAL_ACTIONS['MsPacman']))
    values.append(teacher._value(state, lives, action))
    # The rollout left the environment alone, so it plays from the same state.
    assert values[-1] == pytest.approx(_value_by_hand(env, action, search))
  assert max(values) > 0 > min(values)


def test_search_names_all_actions_of_the_highest_value(monkeypatch):
  teacher = policies._Lookahead('Assault', 0, policies.LookaheadConfig(), 0.0)
  values = {0: 1.0, 1: 2.0, 2: 2.0 + 1e-12, 3: -5.0, 4: 0.0, 11: 2.0, 12: 1.9}
  monkeypatch.setattr(
    teacher, '_value', lambda state, lives, action: values[action]
  )
  env = ale.AleEnv('Assault')
  env.reset()
  best = teacher.search(env)
  np.testing.assert_array_equal(np.flatnonzero(best), [1, 2, 5])


def test_bad_settings():
  with pytest.raises(ValueError, match='epsilon is 1.5'):
    policies.make_policy('Pong', 1.5, 0)
  with pytest.raises(ValueError, match="Unknown game 'pong'"):
    policies.make_policy('pong', 1.0, 0)
  with pytest.raises(ValueError, match='at least 1'):
    policies.LookaheadConfig(every=0)
