"""What the environments show, pixel for pixel, against ale-py's bare emulator.

The emulator is stepped here frame by frame, and observations are made as the
paper says: frame skip 4, maximum over the last two grey screens, area resize
to 84 x 84. Every pixel, reward and end has to be equal.
"""

import ale_py
import cv2
import numpy as np
import pytest
from ale_py import roms

from jowa_jax import games
from jowa_jax.envs.protocol import Protocol
from jowa_jax.envs.vector import AtariEnvs
from tests.cases import quick

STEPS = 1000
# Which of its decision's four frames ends each episode, of the games that are
# always played: all four are met. Carnival's screen has 214 lines, not 210.
ENDS = {
  'Assault': [4],
  'Berzerk': [1, 4, 1, 3],
  'Carnival': [3, 1],
  'Phoenix': [2],
}


class _Emulator:
  """One game on `ale_py.ALEInterface`, four emulator frames a decision.

  `AtariVectorEnv` (ale-py 0.12.1, `src/ale/vector/preprocessed_env.cpp`) has
  two screens, maximises them in place, and leaves the loop over a decision's
  frames *before* it reads the screen of the frame that ends the episode. So
  the observation of an ended decision is made of what was there: the maximum
  of the decision before and, if the fourth frame was the one, of the third.
  `_observation_at_the_end` says the same without the buffers.

  That is harmless: no decision follows it, since the next observation is
  another episode's first, and no segment to train on or to be judged holds a
  frame after the last action. The rewards and the end itself are of all
  frames up to the end.
  """

  def __init__(self, game: str, protocol: Protocol):
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    self.ale = ale_py.ALEInterface()
    self.ale.setFloat('repeat_action_probability', protocol.sticky_actions)
    self._rom = roms.get_rom_path(games.rom_id(game))
    self._max_frames = protocol.max_frames
    self._screen: np.ndarray  # [210 or 214, 160] uint8, before the resize

  def reset(self, seed: int | None = None) -> np.ndarray:
    """Begins an episode with its own seed, or with the random state as is."""
    if seed is not None:
      self.ale.setInt('random_seed', seed)
      self.ale.loadROM(self._rom)  # which is when the seed is read
    self.ale.reset_game()
    # There is no frame before the first to take the maximum with.
    return self._observe(self.ale.getScreenGrayscale())

  def step(self, action: int) -> tuple[np.ndarray, int, bool, bool]:
    """Returns (observation, reward, terminated, truncated)."""
    reward, screens = 0, []
    for _ in range(4):
      reward += self.ale.act(ale_py.Action(action))
      screens.append(self.ale.getScreenGrayscale())
      terminated = self.ale.game_over()
      truncated = self.ale.getEpisodeFrameNumber() >= self._max_frames
      if terminated or truncated:
        break
    if terminated or truncated:
      screen = self._observation_at_the_end(screens)
    else:
      screen = np.maximum(screens[2], screens[3])
    return self._observe(screen), reward, terminated, truncated

  def _observation_at_the_end(self, screens: list[np.ndarray]) -> np.ndarray:
    if len(screens) == 4:
      return np.maximum(self._screen, screens[2])
    return self._screen

  def _observe(self, screen: np.ndarray) -> np.ndarray:
    self._screen = screen
    return cv2.resize(screen, (84, 84), interpolation=cv2.INTER_AREA)


def _compare(
  game: str, steps: int, protocol: Protocol | None = None, seed: int = 0
) -> tuple[list[int], list[int]]:
  """Plays both with the same random actions of all 18, and compares.

  Of the episodes that end, every second one begins again by itself; the
  others are followed by a rollout of another seed, as in evaluation.

  Returns:
    The frames of each decision that ended an episode, and all rewards.
  """
  protocol = protocol or Protocol()
  envs = AtariEnvs([game], 1, protocol, num_threads=1)
  emulator = _Emulator(game, protocol)
  time_step = envs.reset(seed)
  np.testing.assert_array_equal(
    time_step.frames[0], emulator.reset(envs.seed_of(0))
  )
  actions = np.random.default_rng(seed).integers(games.NUM_ACTIONS, size=steps)
  ends, rewards, over = [], [], False
  for step, action in enumerate(actions.tolist()):
    if over and len(ends) % 2:
      time_step = envs.restart(np.array([True]), envs.rollouts + 1)
      np.testing.assert_array_equal(
        time_step.frames[0], emulator.reset(envs.seed_of(0))
      )
      over = False
    time_step, *outcome = envs.step(np.array([action]))
    if over:  # the action is ignored
      expected = (emulator.reset(), 0, False, False)
    else:
      expected = emulator.step(action)
    np.testing.assert_array_equal(
      time_step.frames[0], expected[0], err_msg=f'{game}, step {step}'
    )
    assert tuple(x[0] for x in outcome) == expected[1:], f'{game}, step {step}'
    assert time_step.first[0] == over
    assert envs.episode_frames[0] == emulator.ale.getEpisodeFrameNumber()
    over = any(expected[2:])
    if over:
      ends.append(emulator.ale.getEpisodeFrameNumber() % 4 or 4)
    rewards.append(expected[1])
  return ends, rewards


@pytest.mark.parametrize(
  'game', quick(games.PRETRAIN_GAMES + games.HELD_OUT_GAMES, 'Phoenix')
)
def test_pixels_rewards_and_ends_are_the_emulators(game):
  ends, rewards = _compare(game, STEPS)
  assert ends or any(rewards)  # something to get wrong has happened
  assert ends == ENDS.get(game, ends)


@pytest.mark.slow
def test_sticky_actions_are_the_emulators():
  """The same seed repeats the same frames' actions, also over a reset.

  That they matter, and follow the seed, `tests.envs.test_vector` tests.
  """
  ends, rewards = _compare('Berzerk', 600, Protocol(sticky_actions=0.25))
  assert len(ends) > 1 and any(rewards)


@pytest.mark.slow
def test_an_episode_that_is_cut_off_shows_what_one_that_ends_does():
  ends, _ = _compare('Assault', 100, Protocol(max_frames=40))
  assert ends == [4] * 9
