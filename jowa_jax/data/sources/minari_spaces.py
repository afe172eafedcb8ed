"""Observations and actions of others' environments as frames and actions here.

Grey is what ALE's own is (a test), and shrinking what ALE's preprocessing does.
"""

from typing import Any

import cv2
import numpy as np

from jowa_jax import games
from jowa_jax.data.episodes import DataError
from jowa_jax.types import FRAME_SHAPE

# NTSC and PAL screens, and what is shrunk already.
_SCREENS = (FRAME_SHAPE, (210, 160), (250, 160))
_MOST_STACKED = 16


def check_observations(where: str, space: Any) -> None:
  """Raises DataError unless a space is of one game's pictures."""
  shape = getattr(space, 'shape', None)
  if shape is None or space.dtype != np.uint8 or _layout(shape) is None:
    raise DataError(
      f'{where}: observations are {_short(space)}, no pictures of uint8 that '
      'are 210 x 160 or 84 x 84, in grey or colour, alone or stacked'
    )


def _short(space: Any) -> str:
  text = ' '.join(str(space).split())
  return text if len(text) < 100 else f'{text[:97]}...'


def _layout(shape: tuple[int, ...]) -> str | None:
  """How the newest picture of an observation is got, None if it is none.

  'grey' [H, W], 'last' of the last axis, 'colour' [H, W, 3]; 'first ...' where
  the first axis is a stack of those.
  """
  if shape in _SCREENS:
    return 'grey'
  if len(shape) == 3 and shape[:2] in _SCREENS:
    if shape[2] == 3:
      return 'colour'
    return 'last' if shape[2] <= _MOST_STACKED else None
  if len(shape) in (3, 4) and shape[0] <= _MOST_STACKED:
    inner = _layout(shape[1:])
    if inner and not inner.startswith('first'):
      return f'first {inner}'
  return None


def grey_frames(where: str, observations: Any) -> np.ndarray:
  """The newest picture of every observation, [T, H, W] uint8.

  Raises:
    DataError: they are no pictures.
  """
  frames = np.asarray(observations)
  layout = _layout(frames.shape[1:]) if frames.ndim > 2 else None
  if layout is None or frames.dtype != np.uint8:
    raise DataError(
      f'{where} has observations of {frames.dtype} and shape {frames.shape}, '
      'no pictures that are 210 x 160 or 84 x 84'
    )
  if layout.startswith('first'):
    frames, layout = frames[:, -1], layout.removeprefix('first ')
  if layout == 'last':
    frames = frames[..., -1]
  elif layout == 'colour':
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    frames = np.stack(grey)
  return frames


def shrink(frame: np.ndarray) -> np.ndarray:
  """A grey screen [H, W] as ALE's preprocessing shows it, [84, 84] uint8."""
  if frame.shape == FRAME_SHAPE:
    return np.ascontiguousarray(frame)
  return cv2.resize(frame, FRAME_SHAPE[::-1], interpolation=cv2.INTER_AREA)


def minimal_actions(where: str, space: Any, game: str) -> np.ndarray:
  """Each action's place in the game's minimal set, [n] int; -1 of no place.

  Args:
    where: the data set, for messages.
    space: of actions: ALE's 18, or as many as the game's minimal set has.
    game: a name in `games.GAMES`.

  Raises:
    DataError: it is another space, such as that of continuous actions.
  """
  import gymnasium

  legal = games.LEGAL_ACTIONS[game]
  known = isinstance(space, gymnasium.spaces.Discrete) and not space.start
  if known and space.n == games.NUM_ACTIONS:
    table = np.full(games.NUM_ACTIONS, -1)
    table[list(legal)] = np.arange(len(legal))
    return table
  if known and space.n == len(legal):
    return np.arange(len(legal))
  raise DataError(
    f'{where}: actions are {_short(space)}, neither the 18 of ALE nor the '
    f'{len(legal)} minimal ones of {game}, so that what they do is not known'
  )


def as_minimal(
  where: str, actions: np.ndarray, table: np.ndarray, game: str
) -> np.ndarray:
  """Actions as indices of the game's minimal set, [T] int.

  Raises:
    DataError: an action is none, or has no place in that set.
  """
  if actions.size and not 0 <= actions.min() <= actions.max() < len(table):
    raise DataError(
      f'{where} has actions {actions.min()} to {actions.max()} of {len(table)}'
    )
  found = table[actions.astype(int)]
  if (found < 0).any():
    action = int(actions[(found < 0).argmax()])
    raise DataError(
      f'{where} takes {games.ACTION_NAMES[action]} ({action}), none of the '
      f'{int((table >= 0).sum())} actions that have an effect of their own '
      f'in {game} (ALE calls them minimal): agents here act by those alone'
    )
  return found
