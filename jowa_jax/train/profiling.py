"""A trace of some steps, for TensorBoard or Perfetto."""

import logging
import pathlib

import jax


class Profiler:
  """Traces the steps from `first` to `last`, counted over all stages."""

  def __init__(
    self, directory: str | pathlib.Path, steps: tuple[int, int] | None
  ):
    """Remembers what to trace.

    Args:
      directory: where the trace goes.
      steps: first and last, both traced; None for no trace.

    Raises:
      ValueError: the last is before the first, or the first before 1.
    """
    if steps and not 1 <= steps[0] <= steps[1]:
      raise ValueError(f'profile_steps={steps} are not two steps, from 1 on')
    self._directory, self._steps = str(directory), steps
    self._runs = False

  def before(self, step: int) -> None:
    if not self._steps or self._runs:
      return
    # Later than the first, if a run goes on within the steps to trace.
    if self._steps[0] <= step <= self._steps[1]:
      jax.profiler.start_trace(self._directory)
      self._runs = True

  def after(self, step: int, outputs: object) -> None:
    """Ends the trace when the outputs of its last step are there."""
    if self._runs and step == self._steps[1]:
      jax.block_until_ready(outputs)
      self.close()

  def close(self) -> None:
    """Ends a trace that has begun, and says if there was none."""
    if self._runs:
      jax.profiler.stop_trace()
      self._runs, self._steps = False, None
    elif self._steps:
      logging.warning('No step of profile_steps=%s was taken', self._steps)
