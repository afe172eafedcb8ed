"""What the page and the server tell each other.

The page sends JSON. The server answers with JSON too, but for decisions: these
are four bytes that say how long their JSON is (little-endian), the JSON, and
grey frames of 84 x 84 bytes: the game's, the dream's, and those of the
planner's branches, one branch after the other.
"""

import dataclasses
import json
import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from jowa_jax.play.states import PLAYERS, Shown

SLOWEST, FASTEST = 5, 60
MAX_WIDTH, MAX_TEMPERATURE, MAX_BRANCH_EVERY = 4, 2.0, 900
# What a page may ask for, without arguments.
DEEDS = (
  'branch',
  'dream_on',
  'dream_off',
  'pause',
  'play',
  'restart',
  'rewind',
)
# No message of a page is longer.
MAX_BYTES = 2048
_ALL_KEYS = 31


@dataclasses.dataclass(frozen=True)
class Message:
  """What a page said; fields that it did not send are None or empty."""

  held: int | None = None  # keys that are down
  pressed: int = 0  # keys that went down, though they may be up again
  seen: int | None = None  # the last decision that was drawn
  deed: str | None = None  # of `DEEDS`
  changes: dict[str, Any] = dataclasses.field(default_factory=dict)


def parse(text: str, games: Sequence[str], max_horizon: int) -> Message:
  """Reads what a page sent.

  Args:
    text: one of {"held": .., "pressed": ..}, {"seen": ..}, {"do": ..} and
      {"set": {..}}, or several of them together.
    games: that may be chosen.
    max_horizon: steps that can be planned.

  Raises:
    ValueError: it is something else, or out of its range.
  """
  try:
    data = json.loads(text)
  except (json.JSONDecodeError, RecursionError) as error:
    raise ValueError('not JSON') from error
  if not isinstance(data, dict) or not isinstance(data.get('set', {}), dict):
    raise ValueError('not an object')
  ranges = {
    'held': (int, 0, _ALL_KEYS),
    'pressed': (int, 0, _ALL_KEYS),
    'seen': (int, 0, 2**53),
  }
  numbers = {
    name: _number(name, data[name], *limits)
    for name, limits in ranges.items()
    if name in data
  }
  deed = data.get('do')
  if deed is not None and deed not in DEEDS:
    raise ValueError(f'do={deed!r} is not in {DEEDS}')
  changes = {
    name: _setting(name, value, games, max_horizon)
    for name, value in data.get('set', {}).items()
  }
  return Message(deed=deed, changes=changes, **numbers)


def _setting(name: str, value: Any, games: Sequence[str], max_horizon: int):
  choices = {'player': PLAYERS, 'game': games}
  if name in choices:
    if value not in choices[name]:
      raise ValueError(f'{name}={value!r} is not in {tuple(choices[name])}')
    return value
  ranges = {
    'speed': (float, SLOWEST, FASTEST),
    'width': (int, 1, MAX_WIDTH),
    'horizon': (int, 1, max_horizon),
    'temperature': (float, 0, MAX_TEMPERATURE),
    'branch_every': (int, 0, MAX_BRANCH_EVERY),
  }
  if name not in ranges:
    raise ValueError(f'there is no setting {name!r}')
  return _number(name, value, *ranges[name])


def _number(name: str, value: Any, kind: type, low: float, high: float):
  number = isinstance(value, int | float) and not isinstance(value, bool)
  if not number or not math.isfinite(value) or not low <= value <= high:
    raise ValueError(f'{name}={value!r} must be from {low:g} to {high:g}')
  if kind is int and value != int(value):
    raise ValueError(f'{name}={value!r} must be a whole number')
  return kind(value)


def pack(shown: Shown, legal: Sequence[int], milliseconds: float) -> bytes:
  """A decision as bytes.

  Args:
    shown: what it led to.
    legal: the game's actions, whose values are sent.
    milliseconds: that it took.
  """
  state = shown.state
  frames = [state.frame, state.dream_frame]
  told = {
    'number': state.number,
    'player': shown.player,
    'action': shown.action,
    'reward': shown.reward,
    'score': state.score,
    'over': state.over,
    'taken': state.taken,
    'dream': {
      'reward': shown.dream_reward,
      'end': round(shown.dream_end, 4),
      'score': state.dream_score,
      'over': state.dream_over,
      'steps': state.dreamed,
      'passes': shown.passes,
    },
    'dream_on': state.dream_on,
    'q': [round(float(state.q[action]), 4) for action in legal],
    'accuracy': shown.token_accuracy,
    'error': shown.pixel_error,
    'milliseconds': round(milliseconds, 2),
  }
  plan = shown.plan
  if plan is not None:
    kept = np.isfinite(plan.scores)
    told['plan'] = {
      'scores': [round(float(score), 4) for score in plan.scores[kept]],
      'paths': plan.paths[kept].tolist(),
      'rewards': plan.rewards[kept].tolist(),
    }
    frames += [frame for branch in plan.frames[kept] for frame in branch]
  header = json.dumps(told, separators=(',', ':')).encode()
  pixels = b''.join(np.ascontiguousarray(frame).tobytes() for frame in frames)
  return struct.pack('<I', len(header)) + header + pixels


def unpack(data: bytes) -> tuple[dict[str, Any], np.ndarray]:
  """What `pack` made: the JSON, and frames [N, 84, 84] uint8."""
  (size,) = struct.unpack_from('<I', data)
  told = json.loads(data[4 : 4 + size])
  return told, np.frombuffer(data, np.uint8, offset=4 + size).reshape(
    -1, 84, 84
  )
