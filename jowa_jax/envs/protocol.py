"""How agents are scored: the rules that every evaluation shares."""

import dataclasses
import numbers


@dataclasses.dataclass(frozen=True)
class Protocol:
  """The evaluation protocol; the defaults are the paper's (section 5.1).

  `max_frames` counts emulator frames. The released scores were made with
  108k *decisions*, which is `max_frames=432_000` here.

  Raises:
    ValueError: a value is out of range or of the wrong type; it is named.
  """

  rollouts: int = 16  # complete episodes per game
  epsilon: float = 0.001  # chance of a uniform legal action, for the policy
  sticky_actions: float = 0.0  # chance that the emulator repeats an action
  max_frames: int = 108_000  # emulator frames, then the episode is truncated
  frame_skip: int = 4  # emulator frames per decision
  noop_max: int = 0  # at most this many random no-ops after a reset
  use_fire_reset: bool = False  # press FIRE after a reset where a game has it

  def __post_init__(self):
    _check_integer('rollouts', self.rollouts, 1)
    _check_integer('frame_skip', self.frame_skip, 1)
    _check_integer('max_frames', self.max_frames, 1)
    _check_integer('noop_max', self.noop_max, 0)
    _check_probability('epsilon', self.epsilon)
    _check_probability('sticky_actions', self.sticky_actions)
    if not isinstance(self.use_fire_reset, bool):
      raise ValueError(
        f'Protocol.use_fire_reset is {self.use_fire_reset!r}: '
        'set it to True or False'
      )
    if self.max_frames % self.frame_skip:
      raise ValueError(
        f'Protocol.max_frames={self.max_frames} is not a multiple of '
        f'frame_skip={self.frame_skip}: an episode ends between decisions'
      )

  @property
  def max_decisions(self) -> int:
    """The longest episode in decisions, no-ops after a reset left out."""
    return self.max_frames // self.frame_skip


def _check_integer(name: str, value, low: int):
  integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
  if not integer or value < low:
    raise ValueError(
      f'Protocol.{name} is {value!r}: set it to an integer >= {low}'
    )


def _check_probability(name: str, value):
  number = isinstance(value, numbers.Real) and not isinstance(value, bool)
  if not number or not 0 <= value <= 1:
    raise ValueError(
      f'Protocol.{name} is {value!r}: set it to a number from 0 to 1'
    )
