"""What lies where in the directory of a training run."""

import contextlib
import json
import os
import pathlib
from typing import Any

from jowa_jax import files, ownership


class RunDirectory:
  """The names of a run's files; nothing is made or read before it is asked for.

  Attributes:
    root: the run's directory, its `--workdir`.
  """

  def __init__(self, root: str | os.PathLike[str]):
    self.root = pathlib.Path(root)

  def __str__(self) -> str:
    return str(self.root)

  @property
  def checkpoints(self) -> pathlib.Path:
    """A folder per step, see `checkpoint.manager`."""
    return self.root / 'checkpoints'

  @property
  def config(self) -> pathlib.Path:
    """The config that the run was begun or last gone on with, JSON."""
    return self.root / 'config.json'

  @property
  def metrics(self) -> pathlib.Path:
    """A line of JSON for every logged step."""
    return self.root / 'metrics.jsonl'

  @property
  def tensorboard(self) -> pathlib.Path:
    """TensorBoard's event files."""
    return self.root / 'tensorboard'

  @property
  def profile(self) -> pathlib.Path:
    """Traces, where steps are profiled."""
    return self.root / 'profile'

  @property
  def feed(self) -> pathlib.Path:
    """What the run's data needs to go on, see `data.feed.feed.Feed.save`."""
    return self.root / 'feed'

  def owned(self) -> contextlib.AbstractContextManager[None]:
    """Holds the directory while a process trains in it.

    Raises:
      InUseError: another process does.
    """
    return ownership.owned(self.root / '.owner')

  def write_config(self, config: dict[str, Any]) -> None:
    files.write_text(self.config, json.dumps(config, indent=2))

  def read_config(self) -> dict[str, Any] | None:
    """The config, or None where no run was begun."""
    if not self.config.exists():
      return None
    return json.loads(self.config.read_text())

  def read_metrics(self) -> list[dict[str, Any]]:
    """What was logged, in the order of steps."""
    return [json.loads(line) for line in self.metrics.read_text().splitlines()]
