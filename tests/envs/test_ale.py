"""The environment against ale-py's own vector environment."""

import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv

from jowa_jax import games
from jowa_jax.envs import ale


# Carnival's first random game is over within 450 decisions.
@pytest.mark.parametrize('game, steps', [('Assault', 300), ('Carnival', 450)])
def test_shows_the_pixels_and_rewards_of_the_vector_env(game, steps):
  vector = AtariVectorEnv(
    games.rom_id(game),
    1,
    stack_num=1,
    noop_max=0,
    use_fire_reset=False,
    full_action_space=True,
    reward_clipping=False,
    frameskip=4,
  )
  env = ale.AleEnv(game)
  frames, _ = vector.reset(seed=0)
  np.testing.assert_array_equal(env.reset(), frames[0, 0])
  rng = np.random.default_rng(0)
  total, overs, over = 0, 0, False
  for _ in range(steps):
    action = int(rng.choice(games.LEGAL_ACTIONS[game]))
    frames, rewards, terminated, truncated, _ = vector.step(np.array([action]))
    if over:  # the vector environment spends a step on resetting
      frame, over = env.reset(), False
    else:
      frame, reward, over, cut = env.step(action)
      assert reward == rewards[0]
      assert (over, cut) == (terminated[0], truncated[0])
      total += reward
      overs += over
    np.testing.assert_array_equal(frame, frames[0, 0])
  assert total > 0
  assert overs == (game == 'Carnival')


def test_restored_state_plays_on_the_same():
  env = ale.AleEnv('Assault')
  env.reset()
  for _ in range(40):
    env.step(3)
  state, lives = env.clone_state(), env.lives
  actions = (2, 11, 4, 12, 2, 3) * 4
  played = [env.step(action) for action in actions]
  env.restore_state(state)
  assert env.lives == lives
  for action, before in zip(actions, played, strict=True):
    after = env.step(action)
    np.testing.assert_array_equal(after.frame, before.frame)
    assert after[1:] == before[1:]


def _frames(sticky, seed):
  env = ale.AleEnv('Carnival', seed, sticky)
  env.reset()
  return np.stack([env.step(3 + t // 4 % 2).frame for t in range(60)])


def test_sticky_actions_follow_the_seed():
  sticky = _frames(0.25, 1)
  np.testing.assert_array_equal(sticky, _frames(0.25, 1))
  assert (sticky != _frames(0.25, 2)).any()
  assert (sticky != _frames(0.0, 1)).any()


def test_unknown_game():
  with pytest.raises(ValueError, match="Unknown game 'Tetris'"):
    ale.AleEnv('Tetris')


def test_a_snapshot_on_disk_goes_on_exactly(tmp_path):
  """Sticky actions, the variant's switches and an end on the way included."""
  rules = dict(sticky=0.25, max_frames=200)
  env = ale.AleEnv('Freeway@m1d0', 3, **rules)
  env.reset()
  for _ in range(20):
    env.step(2)
  np.savez(tmp_path / 'snapshot.npz', **env.snapshot())

  def play(env):
    seen = []
    for _ in range(60):
      outcome = env.step(2)
      seen.append((outcome.frame, *outcome[1:]))
      if outcome.truncated:
        seen.append((env.reset(),))
    return seen

  expected = play(env)
  other = ale.AleEnv('Freeway@m1d0', 9, **rules)
  other.reset()
  with np.load(tmp_path / 'snapshot.npz') as snapshot:
    other.restore(snapshot)
  found = play(other)
  assert len(found) == len(expected) > 60
  for ours, theirs in zip(found, expected, strict=True):
    np.testing.assert_array_equal(ours[0], theirs[0])
    assert ours[1:] == theirs[1:]
