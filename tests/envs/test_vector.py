import ale_py
import numpy as np
import pytest
from ale_py import roms

from jowa_jax import games
from jowa_jax.envs.protocol import Protocol
from jowa_jax.envs.vector import AtariEnvs, rollout_seed


def _random_actions(envs, rng):
  legal = [games.LEGAL_ACTIONS[envs.game_of(e)] for e in range(envs.num_envs)]
  return np.array([rng.choice(actions) for actions in legal], np.int32)


def test_shapes_and_layout():
  envs = AtariEnvs(['Pong', 'Assault'], 2, num_threads=1)
  time_step = envs.reset(seed=0)
  assert time_step.frames.shape == (4, 84, 84)
  assert time_step.frames.dtype == np.uint8
  assert time_step.first.all()
  pong, assault = games.task_id('Pong'), games.task_id('Assault')
  assert envs.tasks.dtype == np.int32
  assert envs.tasks.tolist() == [pong, pong, assault, assault]
  assert envs.rollouts.tolist() == [0, 1, 0, 1]
  assert (time_step.frames[0] == time_step.frames[1]).all()
  assert (time_step.frames[0] != time_step.frames[2]).any()
  time_step, rewards, terminated, truncated = envs.step(np.zeros(4, np.int32))
  assert not time_step.first.any()
  assert rewards.dtype == np.float32 and rewards.shape == (4,)
  assert not (terminated | truncated).any()
  assert envs.episode_frames.tolist() == [4, 4, 4, 4]


def test_rewards_and_ends_match_the_emulator_called_directly():
  envs = AtariEnvs(['Assault'], 1, num_threads=1)
  envs.reset(seed=0)
  ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
  ale = ale_py.ALEInterface()
  ale.setFloat('repeat_action_probability', 0.0)
  ale.loadROM(roms.get_rom_path('assault'))
  ale.reset_game()
  rng = np.random.default_rng(0)
  rewards, total = [], 0
  for _ in range(3000):
    action = _random_actions(envs, rng)
    _, reward, terminated, _ = envs.step(action)
    expected = 0
    for _ in range(4):
      if not ale.game_over():
        expected += ale.act(ale_py.Action(int(action[0])))
    assert reward[0] == expected
    assert terminated[0] == ale.game_over()
    rewards.append(reward[0])
    total += expected
    if terminated[0]:
      break
  assert terminated[0]
  # Assault pays 21 a hit: clipped rewards would show as ones.
  assert max(rewards) == 21 and total > 0
  assert envs.episode_frames[0] == ale.getEpisodeFrameNumber()


def test_max_frames_counts_emulator_frames():
  protocol = Protocol(max_frames=100)
  envs = AtariEnvs(['Assault'], 1, protocol, num_threads=1)
  envs.reset(seed=0)
  for decision in range(1, 26):
    _, _, terminated, truncated = envs.step(np.zeros(1, np.int32))
    assert truncated[0] == (decision == protocol.max_decisions == 25)
    assert not terminated[0]
  assert envs.episode_frames[0] == 100


def test_an_ended_environment_begins_again_by_itself():
  envs = AtariEnvs(['Assault'], 2, Protocol(max_frames=8), num_threads=1)
  begin = envs.reset(seed=0).frames
  envs.step(np.zeros(2, np.int32))
  time_step, _, _, truncated = envs.step(np.zeros(2, np.int32))
  assert truncated.all() and not time_step.first.any()
  assert (time_step.frames != begin).any()
  time_step, rewards, _, truncated = envs.step(np.zeros(2, np.int32))
  assert time_step.first.all() and not truncated.any() and not rewards.any()
  np.testing.assert_array_equal(time_step.frames, begin)


def test_restart_begins_chosen_rollouts_and_leaves_the_others():
  envs = AtariEnvs(['Assault', 'Carnival'], 2, num_threads=1)
  begin = envs.reset(seed=3).frames
  before = [envs.seed_of(e) for e in range(4)]
  for _ in range(30):
    current = envs.step(np.full(4, 3, np.int32))[0]
  mask = np.array([False, True, False, False])
  time_step = envs.restart(mask, np.array([0, 9, 0, 0]))
  assert time_step.first.tolist() == mask.tolist()
  np.testing.assert_array_equal(time_step.frames[mask], begin[mask])
  np.testing.assert_array_equal(time_step.frames[~mask], current.frames[~mask])
  assert envs.rollouts.tolist() == [0, 9, 0, 1]
  assert envs.episode_frames.tolist() == [120, 0, 120, 120]
  assert envs.seed_of(1) == rollout_seed(3, 'Assault', 9) != before[1]
  assert not envs.step(np.zeros(4, np.int32))[0].first.any()


def test_a_game_without_active_environments_stands_still():
  envs = AtariEnvs(['Assault', 'Carnival'], 1, num_threads=1)
  envs.reset(seed=0)
  time_step, *_ = envs.step(np.zeros(2, np.int32))
  for _ in range(20):
    following, *_ = envs.step(np.zeros(2, np.int32), np.array([True, False]))
  assert envs.episode_frames.tolist() == [84, 4]
  np.testing.assert_array_equal(following.frames[1], time_step.frames[1])
  assert (following.frames[0] != time_step.frames[0]).any()


@pytest.mark.slow
def test_seeds_decide_sticky_actions():
  def play(seed, rollouts):
    envs = AtariEnvs(['Assault'], 2, Protocol(sticky_actions=0.25), 1)
    envs.reset(seed, np.array(rollouts))
    actions = np.random.default_rng(0).choice([3, 4], 100)
    return np.stack([envs.step(np.full(2, a))[0].frames for a in actions])

  first, again, other = play(0, [0, 1]), play(0, [0, 2]), play(1, [0, 1])
  np.testing.assert_array_equal(first[:, 0], again[:, 0])
  assert (first[:, 0] != first[:, 1]).any()
  assert (first[:, 1] != again[:, 1]).any()
  assert (first[:, 0] != other[:, 0]).any()


def test_seeds_differ():
  seeds = {
    rollout_seed(seed, game, rollout)
    for seed in range(3)
    for game in ('Assault', 'Carnival')
    for rollout in range(16)
  }
  assert len(seeds) == 96
  assert all(0 <= seed < 2**31 for seed in seeds)


def test_errors_name_what_is_wrong():
  with pytest.raises(ValueError, match='Unknown game'):
    AtariEnvs(['assualt'], 1)
  with pytest.raises(ValueError, match='each game once'):
    AtariEnvs(['Pong', 'Pong'], 1)
  with pytest.raises(ValueError, match='envs_per_game is 0'):
    AtariEnvs(['Pong'], 0)
  envs = AtariEnvs(['Pong'], 2, num_threads=1)
  with pytest.raises(RuntimeError, match='reset'):
    envs.step(np.zeros(2, np.int32))
  with pytest.raises(ValueError, match='seed is -1'):
    envs.reset(-1)
  envs.reset(0)
  with pytest.raises(ValueError, match=r'shape \(2,\)'):
    envs.step(np.zeros(3, np.int32))
  with pytest.raises(ValueError, match='integers'):
    envs.step(np.zeros(2, np.float32))
  with pytest.raises(ValueError, match=r'0\.\.18.*0\.\.17'):
    envs.step(np.array([0, 18]))


@pytest.mark.parametrize(
  ('field', 'value'),
  [
    ('rollouts', 0),
    ('rollouts', 2.5),
    ('epsilon', 1.1),
    ('epsilon', 'small'),
    ('sticky_actions', -0.1),
    ('max_frames', 0),
    ('max_frames', 102),
    ('frame_skip', True),
    ('noop_max', -1),
    ('use_fire_reset', 1),
  ],
)
def test_protocol_is_checked(field, value):
  with pytest.raises(ValueError, match=rf'Protocol\.{field}\D+{value!r}'):
    Protocol(**{field: value})


def test_protocol_defaults_are_the_papers():
  protocol = Protocol()
  assert protocol.rollouts == 16 and protocol.epsilon == 0.001
  assert protocol.sticky_actions == 0 and protocol.noop_max == 0
  assert protocol.max_frames == 108_000 and protocol.frame_skip == 4
  assert protocol.max_decisions == 27_000 and not protocol.use_fire_reset
