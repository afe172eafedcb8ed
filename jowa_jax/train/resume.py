"""Where an interrupted run goes on."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from jowa_jax.checkpoint.manager import Checkpoints, DamagedCheckpointError
from jowa_jax.methods.base import Method, Variables
from jowa_jax.train.state import Stage, abstract_optimizers


def restore_latest(
  checkpoints: Checkpoints,
  check: Callable[[Mapping[str, Any]], None],
  method: Method,
  stages: Sequence[Stage],
  variables: Variables,
  shardings: Variables,
  mesh: Mesh,
) -> tuple[int, Variables, dict[str, Any] | None]:
  """Restores the latest checkpoint that can be read, whatever mesh saved it.

  Those after it are set aside, with a warning.

  Args:
    checkpoints: at least one.
    check: raises an error if a checkpoint's `meta` is of something else.
    method: what is trained.
    stages: of the run.
    variables: shapes of those to restore.
    shardings: where they go.
    mesh: the devices.

  Returns:
    Its step, its variables, and the optimizer states of its stage; None where
    that stage is over, as the next one does not take them over.

  Raises:
    CheckpointError: none can be read, or one is of another model.
  """
  damaged = {}
  for step in checkpoints.steps():
    error = opt_state = None
    try:
      check(checkpoints.meta(step))
      found = checkpoints.restore_variables(variables, shardings, step)
      if stage := _stage_within(stages, step):
        opt_state, places = abstract_optimizers(
          method, stage, variables, shardings, mesh
        )
        opt_state = checkpoints.restore_opt_state(opt_state, places, step)
    except DamagedCheckpointError as raised:
      error = raised
    if _any_process(error is not None):
      damaged[step] = error or DamagedCheckpointError(
        f'The checkpoint of step {step} could not be read by another process'
      )
      continue
    # Only now: while none can be read, nothing is touched.
    for late, error in damaged.items():
      aside = checkpoints.set_aside(late)
      logging.warning('%s. It was moved to %s', error, aside)
    return step, found, opt_state
  raise next(iter(damaged.values()))


def _any_process(fails: bool) -> bool:
  """Whether any process fails: all go on from the same checkpoint."""
  if jax.process_count() == 1:
    return fails
  return bool(multihost_utils.process_allgather(np.asarray(fails)).any())


def _stage_within(stages: Sequence[Stage], step: int) -> Stage | None:
  """The stage that has begun and is not over after a step."""
  begin = 0
  for stage in stages:
    if begin < step < begin + stage.steps:
      return stage
    begin += stage.steps
  return None
