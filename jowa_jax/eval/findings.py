"""What is found of a trained model, as files and pages hold it."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# What judging says where it has no episodes.
NOTHING_HELD_OUT = (
  'No episodes are held out (data.held_out_fraction=0), and what a model was '
  'trained on says little of it: give --held_out_fraction'
)
# By name; None where there is nothing to measure it on.
Figures = dict[str, float | int | None]


class Reconstructions(NamedTuple):
  """Some frames of one game and what the tokenizer keeps of them."""

  frames: np.ndarray  # [N, 84, 84] uint8
  reconstructions: np.ndarray  # [N, 84, 84] uint8
  # [84, 84] uint8, of the game's frames; None in files of earlier versions.
  median: np.ndarray | None


class Dreams(NamedTuple):
  """Real continuations and dreamed ones under the same actions.

  All begin with the last frame of the real context.
  """

  real: np.ndarray  # [S, L, 84, 84] uint8
  dreamed: np.ndarray  # [S, L, 84, 84] uint8
  # [S, L, 84, 84] uint8, what the tokenizer keeps of the real ones: a dream
  # cannot be sharper. None in files of earlier versions.
  reconstructed: np.ndarray | None = None


def standard_error(values: Sequence[float]) -> float | None:
  """That of the mean; None of a single value, and of several that are equal.

  These are no evidence that there is no noise, and mostly one episode that was
  played repeatedly.
  """
  if len(set(map(float, values))) < 2:
    return None
  return float(np.std(values, ddof=1) / math.sqrt(len(values)))
