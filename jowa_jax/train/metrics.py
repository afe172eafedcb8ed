"""Scalars: one JSON object per line, TensorBoard and Weights & Biases."""

import json
import math
import pathlib
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import jax

from jowa_jax import devices, files
from jowa_jax.checkpoint.run_directory import RunDirectory

T = TypeVar('T')
# What `Meter` measures: all that differs when a run is repeated.
RATES = (
  'steps_per_second',
  'tokens_per_second',
  'input_wait_share',
  'mfu',
  'device_memory_bytes',
)


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


class Meter:
  """How fast a stage is, since the last time it was read."""

  def __init__(self, batch_size: int, tokens: int, flops: float, dtype: str):
    """Starts.

    Args:
      batch_size: segments of a step.
      tokens: of a segment.
      flops: of a step, by formula; 0 if there is none.
      dtype: of the computation.
    """
    self._tokens, self._flops = batch_size * tokens, flops
    self._half = dtype == 'bfloat16'
    self._waited, self._begun = 0.0, time.monotonic()

  def count(self, batches: Iterable[T]) -> Iterator[T]:
    """Gives batches, one for every step, and times how long they take."""
    batches = iter(batches)
    while True:
      begun = time.monotonic()
      try:
        batch = next(batches)
      except StopIteration:
        return
      self._waited += time.monotonic() - begun
      yield batch

  def read(self, steps: int) -> dict[str, float]:
    """Rates over `steps` steps, which have ended, and begins anew.

    `input_wait_share` is the share of the time in which the next batch was
    waited for. `mfu` is the share of the devices' peak in bfloat16 that the
    operations by formula make use of, where it is known and they are in
    bfloat16. `device_memory_bytes` is the most since the process began.
    """
    seconds = time.monotonic() - self._begun
    rates = {
      'steps_per_second': steps / seconds,
      'tokens_per_second': steps * self._tokens / seconds,
      'input_wait_share': self._waited / seconds,
    }
    peak = devices.peak()
    if peak and self._flops and self._half:
      rates['mfu'] = (
        steps * self._flops / seconds / (peak.flops * jax.device_count())
      )
    if in_use := devices.memory_in_use():
      rates['device_memory_bytes'] = float(in_use)
    self.skip()
    return rates

  def skip(self) -> None:
    """Begins anew: what was done since the last step was not training."""
    self._waited, self._begun = 0.0, time.monotonic()


class MetricWriter:
  """Appends to `metrics.jsonl`, to TensorBoard event files, and elsewhere."""

  def __init__(
    self,
    directory: RunDirectory,
    resume_step: int,
    wandb_project: str = '',
    config: Mapping[str, Any] | None = None,
  ):
    """Opens the files; records after `resume_step` are dropped.

    A run that was killed after it logged and before it saved takes those
    steps again.

    Args:
      directory: of the run.
      resume_step: steps taken before now.
      wandb_project: of Weights & Biases, where it is told too; empty for no.
      config: of the run, for that.

    Raises:
      ValueError: a project was given, and wandb is not installed.
    """
    # Imported here: code that steps without logging needs JAX alone.
    import tensorboardX

    self._path = directory.metrics
    directory.root.mkdir(parents=True, exist_ok=True)
    self._drop_after(resume_step)
    self._file = self._path.open('a')
    self._board = tensorboardX.SummaryWriter(
      str(directory.tensorboard), purge_step=resume_step + 1
    )
    self._wandb = None
    if wandb_project:
      self._wandb = _open_wandb(directory.root, wandb_project, config or {})

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
    if self._wandb:
      self._wandb.log(record, step=step)

  def close(self):
    self._file.close()
    self._board.close()
    if self._wandb:
      self._wandb.finish()


def import_wandb() -> Any:
  """The module; raises ValueError where it is not installed."""
  try:
    import wandb
  except ImportError as error:
    raise ValueError(
      'Weights & Biases was asked for, but wandb cannot be imported '
      f'({error}): `pip install wandb`, or leave --wandb_project out'
    ) from error
  return wandb


def _open_wandb(
  directory: pathlib.Path, project: str, config: Mapping[str, Any]
) -> Any:
  """A run of Weights & Biases, the same one when training goes on."""
  path = directory / 'wandb_id'
  if not path.exists():
    files.write_text(path, uuid.uuid4().hex[:12])
  return import_wandb().init(
    project=project,
    name=directory.resolve().name,
    id=path.read_text().strip(),
    # Steps that are taken again after a kill are there already.
    resume='allow',
    dir=directory,
    config=dict(config),
  )
