"""What a session is told, what it remembers and what it says."""

import dataclasses
import zlib

import numpy as np

from jowa_jax.play.programs import Planned
from jowa_jax.types import FRAME_SHAPE, History

PLAYERS = ('you', 'greedy', 'planning')


@dataclasses.dataclass
class Settings:
  """What may change between any two decisions.

  Attributes:
    player: one of `PLAYERS`.
    width: beams of 'planning'.
    horizon: steps that it looks ahead.
    temperature: of the dream; 0 dreams what is likeliest.
    branch_every: decisions after which the dream begins anew from the real
      context by itself; 0 for never.
  """

  player: str = 'you'
  width: int = 2
  horizon: int = 2
  temperature: float = 0.0
  branch_every: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class State:
  """Everything that the next decision depends on, but for the emulator."""

  number: int  # decisions taken, those that were rewound not counted
  frame: np.ndarray  # [84, 84] uint8, of the emulator
  decided_on: np.ndarray  # [84, 84] uint8, the frame before
  tokens: np.ndarray  # [K] int32, of `frame`
  history: History  # of the emulator
  score: int  # of the episode, as the game counts
  over: bool  # the episode has ended
  terminated: bool  # in game over
  taken: int  # decisions of the episode
  window: History  # of the dream
  dream_frame: np.ndarray  # [84, 84] uint8
  dream_tokens: np.ndarray  # [K] int32
  dream_score: float  # rewards dreamed since the branch
  dream_over: bool  # an end was dreamed since the branch
  branch: int  # number of the branch, which seeds what is drawn
  dreamed: int  # steps since the branch
  dream_on: bool  # the emulator stands still and the dream goes on
  q: np.ndarray  # [18] float32, where the next decision is taken


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
  """What a decision led to, or how things are without one."""

  state: State
  player: str
  action: int | None  # of the shared 18; None without a decision
  reward: int  # the game's; 0 while only the dream goes on
  dream_reward: float  # in {-1, 0, 1}
  dream_end: float  # probability
  passes: int  # of the world model for the frame
  began: bool  # an episode began before the decision
  # Of the dreamed frame against the emulator's; None while it stands still.
  token_accuracy: float | None
  pixel_error: float | None  # mean absolute, in [0, 1]
  plan: Planned | None  # on the host


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
  """What is kept of a decision to be filmed; frames are compressed."""

  number: int
  real: bytes
  dream: bytes
  action: int
  score: int
  dream_score: float
  dreamed: int  # steps since the branch
  dream_on: bool
  token_accuracy: float | None

  def frames(self) -> tuple[np.ndarray, np.ndarray]:
    """The emulator's frame and the dreamed one, [84, 84] uint8."""
    return _unpacked(self.real), _unpacked(self.dream)


def scene(shown: Shown) -> Scene:
  """What is kept of a decision."""
  state = shown.state
  return Scene(
    number=state.number,
    real=zlib.compress(state.frame, 1),
    dream=zlib.compress(np.ascontiguousarray(state.dream_frame), 1),
    action=shown.action,
    score=state.score,
    dream_score=state.dream_score,
    dreamed=state.dreamed,
    dream_on=state.dream_on,
    token_accuracy=shown.token_accuracy,
  )


def _unpacked(data: bytes) -> np.ndarray:
  return np.frombuffer(zlib.decompress(data), np.uint8).reshape(FRAME_SHAPE)
