"""Scalars on disk: one JSON object per line, and TensorBoard."""

import json
import math
import pathlib
from collections.abc import Mapping

from jowa_jax import files


def check_finite(
  step: int, metrics: Mapping[str, float], last_checkpoint: int | None
) -> None:
  """Raises FloatingPointError, naming the metric, unless all are finite."""
  for name, value in metrics.items():
    if not math.isfinite(value):
      kept = (
        'no checkpoint was saved yet'
        if last_checkpoint is None
        else f'the last good checkpoint is that of step {last_checkpoint}'
      )
      raise FloatingPointError(
        f'{name} is {value} at step {step}; {kept}. Lower the learning rate '
        'of the stage or tighten its clip.'
      )


class MetricWriter:
  """Appends to `metrics.jsonl` and to TensorBoard event files."""

  def __init__(self, directory: pathlib.Path, resume_step: int):
    """Opens the files; records after `resume_step` are dropped.

    A run that was killed after it logged and before it saved takes those
    steps again.
    """
    # Imported here: code that steps without logging needs JAX alone.
    import tensorboardX

    self._path = directory / 'metrics.jsonl'
    directory.mkdir(parents=True, exist_ok=True)
    self._drop_after(resume_step)
    self._file = self._path.open('a')
    self._board = tensorboardX.SummaryWriter(
      str(directory / 'tensorboard'), purge_step=resume_step + 1
    )

  def _drop_after(self, step: int):
    if not self._path.exists():
      return
    kept = []
    for line in self._path.read_text().splitlines():
      try:
        record = json.loads(line)
      except json.JSONDecodeError:
        continue  # The line a kill cut short.
      if record['step'] <= step:
        kept.append(line)
    files.write_text(self._path, ''.join(f'{line}\n' for line in kept))

  def write(self, step: int, stage: str, metrics: Mapping[str, float]):
    record = {'step': step, 'stage': stage, **metrics}
    self._file.write(json.dumps(record) + '\n')
    self._file.flush()
    for name, value in metrics.items():
      self._board.add_scalar(name, value, step)

  def close(self):
    self._file.close()
    self._board.close()
