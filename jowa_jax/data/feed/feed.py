"""What a training run learns from: the interface of its data.

`TrainingData`, recorded play, is one; one that plays with what is learned and
adds to its replay is another. The loop asks for batches up to the next
interaction, interacts, and goes on: what is made ahead of its use never runs
past an interaction, and batches stay a pure function of the step and of what
was there at the last interaction, so that a run can be resumed.
"""

import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from jowa_jax.types import Segment


class Feed(Protocol):
  """Batches by step, and what happens between them.

  Attributes:
    identity: JSON-able description of what is learned from, kept beside a run;
      one that differs is refused when the run is resumed.
    statistics: what `Method.init` may take, see `BatchSpec.statistics`.
  """

  identity: Any
  statistics: Mapping[str, np.ndarray]

  def batches(
    self,
    start: int,
    stop: int,
    put: Callable[[Segment], Any],
    process: int = 0,
    num_processes: int = 1,
  ) -> Iterator[Any]:
    """Yields what `put` makes of the batches of steps start..stop-1.

    Each of `num_processes` reads its rows alone.
    """
    ...

  def held_out_batches(self, count: int) -> list[Segment]:
    """Up to `count` batches that are never trained on."""
    ...

  def next_interaction(self, step: int) -> int | None:
    """The first step, `step` or later, that is to be interacted before.

    None if there is none any more: recorded play never asks for one.
    """
    ...

  def interact(self, step: int, variables: Any) -> Mapping[str, float]:
    """Plays with the agent as it is before a step, and keeps what it sees.

    Args:
      step: steps taken.
      variables: of the method; they are donated to the next step, so that
        nothing may hold on to them.

    Returns:
      Metrics by name; logged with the next that are.
    """
    ...

  def save(self, folder: pathlib.Path, step: int) -> None:
    """Writes what `restore` needs, before the checkpoint of a step is saved.

    What was saved for earlier steps stays: their checkpoints may be gone back
    to. A part is written whole, or is not there.
    """
    ...

  def restore(self, folder: pathlib.Path, step: int) -> None:
    """Goes back to where it was when that step's checkpoint was saved."""
    ...
