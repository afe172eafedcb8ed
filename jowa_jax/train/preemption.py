"""Stopping when asked to, so that nothing is lost."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from jowa_jax.checkpoint.manager import Checkpoints

# What a scheduler reads as "run me again": sysexits.h, EX_TEMPFAIL.
EXIT_CODE = 75


class Preempted(SystemExit):
  """The run was asked to stop, and its state is saved; exits, unless caught."""

  def __init__(self, message: str):
    super().__init__(EXIT_CODE)
    self.message = message

  def __str__(self) -> str:
    return self.message


class AskedToStop(Exception):
  """SIGTERM came while something else than steps was done."""


# Pieces of work after which processes that work at their own pace meet.
_ROUND = 8


class Preemption:
  """Notices SIGTERM, which a scheduler sends before it takes a machine away.

  A context manager. Several processes agree on a place to stop at: JAX's
  runtime, which has its own handler, carries the signal from one to all.
  """

  def __init__(self):
    self._asked = False
    self._before = None
    self._places = 0  # asked at so far, by every process alike

  def __enter__(self) -> 'Preemption':
    here = threading.current_thread() is threading.main_thread()
    if jax.process_count() == 1 and here:
      self._before = signal.signal(signal.SIGTERM, self._ask)
    return self

  def __exit__(self, *_) -> None:
    if self._before is not None:
      signal.signal(signal.SIGTERM, self._before)

  def _ask(self, *_) -> None:
    self._asked = True

  def asked(self) -> bool:
    """Whether to stop; all processes must ask at the same places."""
    if jax.process_count() > 1:
      self._places += 1
      return multihost_utils.reached_preemption_sync_point(self._places)
    return self._asked

  @contextlib.contextmanager
  def watched(self) -> Iterator[Callable[[], None]]:
    """Gives a function to call before each piece of a longer piece of work.

    Processes may have different numbers of pieces: they meet once in a while,
    and wait for the others at the end.

    Raises:
      AskedToStop: SIGTERM came.
    """
    pieces = 0

    def piece() -> None:
      nonlocal pieces
      pieces += 1
      if jax.process_count() == 1 or pieces % _ROUND == 0:
        self._meet(False)

    yield piece
    while not self._meet(True):
      pass

  def _meet(self, done: bool) -> bool:
    """Whether all processes are done; raises AskedToStop."""
    if self.asked():
      raise AskedToStop
    if jax.process_count() == 1:
      return done
    return bool(np.all(multihost_utils.process_allgather(np.int32(done))))


# What JAX's runtime says when another process does not answer.
_LOST = (
  'ABORTED',
  'CANCELLED',
  'DEADLINE_EXCEEDED',
  'Gloo',
  'UNAVAILABLE',
  'heartbeat',
)


def lost_another(error: Exception) -> bool:
  """Whether an error is that another process of the run was lost."""
  if isinstance(error, ValueError):
    # What CPUs talk by fails with an error of unknown kind, which becomes one.
    return 'Gloo' in str(error)
  return isinstance(error, jax.errors.JaxRuntimeError) and any(
    sign in str(error) for sign in _LOST
  )


@contextlib.contextmanager
def closing_unless_lost(checkpoints: Checkpoints) -> Iterator[Checkpoints]:
  """Closes checkpoints, unless an error says that another process was lost.

  Closing would wait until that process has written its part of the last one.
  """
  lost = False
  try:
    yield checkpoints
  except Exception as error:
    lost = lost_another(error)
    raise
  finally:
    if not lost:
      checkpoints.close()
