"""One Atari game, frame by frame, with the emulator's state in reach.

The evaluation plays many games per call; collecting with a search needs the
state of one emulator instead. Both show the same pixels and rewards (a test).
"""

from typing import NamedTuple

import ale_py
import cv2
import numpy as np
from ale_py import roms

from jowa_jax import games

FRAME_SIZE = 84
FRAME_SKIP = 4
# Emulator frames after which an episode is cut off: 27,000 decisions.
MAX_EPISODE_FRAMES = 108_000


class Outcome(NamedTuple):
  """What one decision led to."""

  frame: np.ndarray  # [84, 84] uint8
  reward: int  # unclipped
  terminated: bool  # the game is over
  truncated: bool  # the episode reached `MAX_EPISODE_FRAMES`


def make_emulator(
  game: str, seed: int, sticky: float, frame_skip: int
) -> ale_py.ALEInterface:
  """Returns an emulator with the game loaded.

  Raises:
    ValueError: the game is unknown, or ale-py has no ROM of it.
  """
  rom = roms.get_rom_path(games.rom_id(game))
  if rom is None:
    raise ValueError(
      f'ale-py {ale_py.__version__} has no ROM of {game}: choose another '
      'game, or install an ale-py that has it'
    )
  ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
  ale = ale_py.ALEInterface()
  ale.setInt('random_seed', seed)
  ale.setFloat('repeat_action_probability', sticky)
  ale.setInt('frame_skip', frame_skip)
  ale.setInt('max_num_frames_per_episode', MAX_EPISODE_FRAMES)
  ale.loadROM(rom)
  return ale


class AleEnv:
  """The environment of Agarwal et al. (2020), without its sticky actions.

  A decision is held for four emulator frames; the last two grey frames are
  joined by their maximum and shrunk to 84 x 84 by area. Only game over ends
  an episode: losing a life does not.
  """

  def __init__(self, game: str, seed: int = 0, sticky: float = 0.0):
    """Loads the game.

    Args:
      game: a name in `games.GAMES`.
      seed: seeds the emulator, which only sticky actions consult.
      sticky: the chance that a frame repeats the action before it; the
        DQN-Replay logs were made with 0.25.
    """
    self.game = game
    self._ale = make_emulator(game, seed, sticky, frame_skip=1)
    height, width = self._ale.getScreenDims()
    self._screens = np.zeros((2, height, width), np.uint8)

  @property
  def lives(self) -> int:
    return self._ale.lives()

  def reset(self) -> np.ndarray:
    """Starts an episode; returns its first frame, [84, 84] uint8."""
    self._ale.reset_game()
    self._screens[:] = 0
    self._ale.getScreenGrayscale(self._screens[0])
    return self._observe()

  def step(self, action: int) -> Outcome:
    """Holds an action of the 18-vocabulary for four frames."""
    reward = 0
    for frame in range(FRAME_SKIP):
      reward += self._ale.act(action)
      if self._ale.game_over():
        break
      left = FRAME_SKIP - 1 - frame
      if left < 2:
        self._ale.getScreenGrayscale(self._screens[left])
    return Outcome(
      self._observe(),
      reward,
      self._ale.game_over(with_truncation=False),
      self._ale.game_truncated(),
    )

  def clone_state(self) -> ale_py.ALEState:
    """Returns the emulator's state, without its random number generator."""
    return self._ale.cloneState()

  def restore_state(self, state: ale_py.ALEState) -> None:
    """Goes back to a state; the screen follows with the next step."""
    self._ale.restoreState(state)

  def _observe(self) -> np.ndarray:
    # In place: a decision that the game's end cuts short shows what is left
    # of the one before it, as `AtariVectorEnv` does.
    pooled = np.maximum(*self._screens, out=self._screens[0])
    return cv2.resize(
      pooled, (FRAME_SIZE, FRAME_SIZE), interpolation=cv2.INTER_AREA
    )
