"""Variants of games: their switches, and stepping them as ale-py would."""

import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.envs import ale
from jowa_jax.envs.protocol import Protocol
from jowa_jax.envs.vector import AtariEnvs, rollout_seed


def _play(envs, actions):
  steps = [envs.reset(seed=0)]
  rows = []
  for action in actions:
    step, *row = envs.step(np.full(envs.num_envs, action))
    steps.append(step)
    rows.append([*row, envs.episode_frames.copy()])
  frames = np.stack([step.frames for step in steps])
  first = np.stack([step.first for step in steps])
  return frames, first, [np.stack(x) for x in zip(*rows, strict=True)]


@pytest.mark.slow
def test_the_default_mode_is_the_game():
  """Frame by frame, through an episode's end and the step after it."""
  actions = np.random.default_rng(0).choice(games.LEGAL_ACTIONS['Freeway'], 40)
  rules = Protocol(max_frames=100)
  game, same = (
    _play(AtariEnvs([name], 2, rules, num_threads=1), actions)
    for name in ('Freeway', 'Freeway@m0d0')
  )
  assert game[2][2].any()  # cut off, and begun again
  for ours, theirs in zip(
    (*same[:2], *same[2]), (*game[:2], *game[2]), strict=True
  ):
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize('variant', ['Freeway@m1', 'Breakout@m12d1', 'Hero@m1'])
def test_a_variant_is_another_game_with_the_same_task(variant):
  game = variant.partition('@')[0]
  actions = np.random.default_rng(0).choice(games.LEGAL_ACTIONS[game], 30)
  envs = AtariEnvs([game, variant], 1, num_threads=1)
  assert envs.tasks.tolist() == [games.task_id(game)] * 2
  assert envs.game_of(1) == variant
  frames, _, _ = _play(envs, actions)
  assert (frames[:, 0] != frames[:, 1]).any()
  assert rollout_seed(3, game, 5) == rollout_seed(3, variant, 5)


@pytest.mark.slow
def test_restarting_one_environment_of_a_variant():
  envs = AtariEnvs(['Freeway@m1'], 2, Protocol(sticky_actions=0.25), 1)
  second = np.array([False, True])

  def play(steps=60):
    actions = 2 + 3 * (np.arange(steps) // 4 % 2)  # up and down
    return [envs.step(np.full(2, a))[0].frames for a in actions]

  begin = envs.reset(seed=3).frames
  current = play(30)[-1]
  step = envs.restart(second, np.array([0, 9]))
  np.testing.assert_array_equal(step.frames[1], begin[1])
  np.testing.assert_array_equal(step.frames[0], current[0])
  assert envs.episode_frames[0] - envs.episode_frames[1] == 120
  # Its sticky actions are the rollout's: the same again.
  played = np.stack(play())[:, 1]
  envs.restart(second, np.array([0, 9]))
  np.testing.assert_array_equal(played, np.stack(play())[:, 1])
  envs.restart(second, np.array([0, 10]))
  assert (played != np.stack(play())[:, 1]).any()


def test_names_of_variants():
  assert games.parse_variant('Pong') == games.Variant('Pong')
  assert games.parse_variant('Pong@m1d3') == games.Variant('Pong', 1, 3)
  assert games.parse_variant('Pong@d2') == games.Variant('Pong', None, 2)
  for name in ('Pong@', 'Pong@x1', 'Pong@m', 'Pong@d1m1'):
    with pytest.raises(
      ValueError, match='is no variant of Pong: write Pong@m1'
    ):
      games.parse_variant(name)
  with pytest.raises(ValueError, match='Unknown game'):
    games.parse_variant('Pung@m1')


def test_switches_that_a_game_does_not_have():
  # Not every game's default is mode 0.
  with pytest.raises(ValueError, match='Berzerk has no mode 0, but 1, 2,'):
    ale.AleEnv('Berzerk@m0')
  with pytest.raises(ValueError, match='Hero has no difficulty 1, but 0'):
    ale.AleEnv('Hero@m1d1')
  with pytest.raises(ValueError, match='Protocol.noop_max=3: a variant'):
    AtariEnvs(['Hero@m1'], 1, Protocol(noop_max=3))


@pytest.mark.slow
def test_cartridges_of_another_folder(tmp_path):
  """The same file plays the same; another one is another game, and told."""
  ours = ale.rom_path('Freeway')
  (tmp_path / 'freeway.bin').write_bytes(ours.read_bytes())
  actions = np.random.default_rng(0).choice(games.LEGAL_ACTIONS['Freeway'], 30)
  rules = Protocol(max_frames=80)
  shipped = _play(AtariEnvs(['Freeway'], 2, rules, 1), actions)
  given = _play(AtariEnvs(['Freeway'], 2, rules, 1, tmp_path), actions)
  np.testing.assert_array_equal(shipped[0], given[0])
  assert ale.rom_checksum('Freeway', tmp_path) == ale.rom_checksum('Freeway@m1')
  changed = bytearray(ours.read_bytes())
  changed[1000] ^= 1
  (tmp_path / 'freeway.bin').write_bytes(changed)
  assert ale.rom_checksum('Freeway', tmp_path) != ale.rom_checksum('Freeway')
  _play(AtariEnvs(['Freeway'], 2, rules, 1, tmp_path), actions[:3])
  with pytest.raises(ValueError, match='no ROM of Pong: .*pong.bin is missing'):
    AtariEnvs(['Pong'], 1, rom_directory=tmp_path)
