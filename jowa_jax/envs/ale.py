"""One Atari game, frame by frame, with the emulator's state in reach.

`envs.vector` plays many games per call; a search needs the state of one
emulator instead. Both show the same pixels and rewards (a test).
"""

import hashlib
import os
import pathlib
from collections.abc import Mapping
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


def rom_path(game: str, directory: str | os.PathLike = '') -> pathlib.Path:
  """The cartridge's file of a game.

  Args:
    game: a name in `games.GAMES`.
    directory: of `<name>.bin`, with the names that atari-py and ale-py share
      ('space_invaders'); empty for those of ale-py.

  Raises:
    ValueError: the game is unknown, or there is no such file.
  """
  name = games.rom_id(game)
  if directory:
    path = pathlib.Path(directory, f'{name}.bin')
    if not path.is_file():
      raise ValueError(f'There is no ROM of {game}: {path} is missing')
    return path
  path = roms.get_rom_path(name)
  if path is None:
    raise ValueError(
      f'ale-py {ale_py.__version__} has no ROM of {game}: choose another game, '
      'or install an ale-py that has it'
    )
  return path


def rom_checksum(game: str, directory: str | os.PathLike = '') -> str:
  """The MD5 of a game's cartridge, by which ALE's authors tell them apart.

  Args:
    game: a game or a variant of one.
    directory: see `rom_path`.

  Raises:
    ValueError: see `rom_path`.
  """
  path = rom_path(games.parse_variant(game).game, directory)
  return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def make_emulator(
  game: str,
  seed: int,
  sticky: float,
  frame_skip: int,
  max_frames: int | None = None,
  rom_directory: str | os.PathLike = '',
) -> ale_py.ALEInterface:
  """An emulator with the game loaded, which is to be reset first.

  Args:
    game: a game or a variant of one, see `games.parse_variant`.
    seed: of sticky actions.
    sticky: the chance that a frame repeats the action before it.
    frame_skip: emulator frames that an action is held for.
    max_frames: after which an episode is cut off; `MAX_EPISODE_FRAMES` if None.
    rom_directory: see `rom_path`.

  Raises:
    ValueError: the game is unknown, there is no ROM of it, or it has no such
      mode or difficulty.
  """
  variant = games.parse_variant(game)
  rom = rom_path(variant.game, rom_directory)
  ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
  ale = ale_py.ALEInterface()
  ale.setInt('random_seed', seed)
  ale.setFloat('repeat_action_probability', sticky)
  ale.setInt('frame_skip', frame_skip)
  limit = MAX_EPISODE_FRAMES if max_frames is None else max_frames
  ale.setInt('max_num_frames_per_episode', limit)
  ale.loadROM(rom)
  for switch, value, valid, turn in (
    ('mode', variant.mode, ale.getAvailableModes, ale.setMode),
    (
      *('difficulty', variant.difficulty),
      *(ale.getAvailableDifficulties, ale.setDifficulty),
    ),
  ):
    if value is None:
      continue
    if value not in valid():
      raise ValueError(
        f'{game}: {variant.game} has no {switch} {value}, but '
        f'{", ".join(map(str, valid()))}'
      )
    turn(value)
  return ale


def switches(game: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
  """The modes and the difficulties of a game, the defaults first.

  Raises:
    ValueError: the game is unknown, or there is no ROM of it.
  """
  ale = make_emulator(games.check_game(game), 0, 0.0, 1)
  return tuple(ale.getAvailableModes()), tuple(ale.getAvailableDifficulties())


class AleEnv:
  """The environment of Agarwal et al. (2020), without its sticky actions.

  A decision is held for four emulator frames; the last two grey frames are
  joined by their maximum and shrunk to 84 x 84 by area. Only game over ends
  an episode: losing a life does not.
  """

  def __init__(
    self,
    game: str,
    seed: int = 0,
    sticky: float = 0.0,
    max_frames: int | None = None,
    rom_directory: str | os.PathLike = '',
  ):
    """Loads the game.

    Args:
      game: a name in `games.GAMES`, or a variant, see `games.parse_variant`.
      seed: seeds the emulator, which only sticky actions consult.
      sticky: the chance that a frame repeats the action before it; the
        DQN-Replay logs were made with 0.25.
      max_frames: see `make_emulator`.
      rom_directory: see `rom_path`.
    """
    self.game = game
    self._ale = make_emulator(game, seed, sticky, 1, max_frames, rom_directory)
    height, width = self._ale.getScreenDims()
    self._screens = np.zeros((2, height, width), np.uint8)
    self._observe()

  @property
  def lives(self) -> int:
    return self._ale.lives()

  @property
  def memory(self) -> np.ndarray:
    """The console's memory as it is now, [128] uint8."""
    return self._ale.getRAM()

  @property
  def frame(self) -> np.ndarray:
    """What the last reset or decision has shown, [84, 84] uint8.

    Black before the first reset; `restore_state` leaves it as it was.
    """
    return self._frame

  @property
  def episode_frames(self) -> int:
    """Emulator frames since the last reset."""
    return self._ale.getEpisodeFrameNumber()

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
    """The emulator's state, without its random number generator."""
    return self._ale.cloneState()

  def restore_state(self, state: ale_py.ALEState) -> None:
    """Goes back to a state; the screen follows with the next step."""
    self._ale.restoreState(state)

  def snapshot(self) -> dict[str, np.ndarray]:
    """All that what follows depends on, to be kept on disk, by name."""
    state = self._ale.cloneSystemState().serialize()
    return {
      'emulator': np.frombuffer(state, np.uint8),
      'screens': self._screens.copy(),
    }

  def restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
    """Goes back to a snapshot of the same game and rules."""
    state = ale_py.ALEState(snapshot['emulator'].tobytes())
    self._ale.restoreSystemState(state)
    self._screens[:] = snapshot['screens']
    self._observe()

  def _observe(self) -> np.ndarray:
    # In place: a decision that the game's end cuts short shows what is left
    # of the one before it, as `AtariVectorEnv` does.
    pooled = np.maximum(*self._screens, out=self._screens[0])
    self._frame = cv2.resize(
      pooled, (FRAME_SIZE, FRAME_SIZE), interpolation=cv2.INTER_AREA
    )
    return self._frame
