"""Work divided over processes of this machine, none of which stays behind."""

import collections
import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from typing import Any, TypeVar

Item = TypeVar('Item')
Result = TypeVar('Result')
# Called by work with how far it is, of any type.
Report = Callable[[Any], None]


class LostWorkerError(OSError):
  """A worker was killed, such as for memory."""


def num_cores() -> int:
  """The cores that this process may run on, of those that the machine has.

  A container, `taskset` or a batch system gives a process some of them.
  """
  if hasattr(os, 'sched_getaffinity'):  # not on macOS
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
  """Holds back Ctrl-C; processes that are started meanwhile never get it.

  It reaches a terminal's whole group of processes, also those that are still
  importing, which would print what they were about.
  """
  before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def each_done(
  work: Callable[[Item, Report], Result],
  items: Sequence[Item],
  num_workers: int,
  on_report: Callable[[int, Any], None] = lambda place, report: None,
) -> Iterator[tuple[int, Result]]:
  """Yields (place, result) of every item as it is done.

  The workers are killed if one of them fails, if the caller stops, and if this
  process is: nobody goes on alone. Ctrl-C, which reaches a terminal's whole
  group of processes, is left to this one.

  Args:
    work: called in another process with an item and a function to report by.
      Processes start afresh, without what this one has imported.
    items: begun in their order.
    num_workers: how many processes at most.
    on_report: called here with an item's place and what its work reported.

  Raises:
    LostWorkerError: a worker ended without a word.
    Exception: what `work` raised, with its traceback as a note.
  """
  context = multiprocessing.get_context('spawn')
  waiting = collections.deque(enumerate(items))
  workers: dict[connection.Connection, multiprocessing.Process] = {}
  try:
    for _ in range(min(num_workers, len(items))):
      ours, theirs = context.Pipe()
      process = context.Process(target=_serve, args=(theirs, work), daemon=True)
      with interrupts_held():
        process.start()
      theirs.close()
      workers[ours] = process
      ours.send(waiting.popleft())
    while workers:
      for ours in connection.wait(list(workers)):
        kind, place, value = _receive(ours, workers[ours])
        if kind == 'report':
          on_report(place, value)
          continue
        if kind == 'error':
          raise value
        if waiting:
          ours.send(waiting.popleft())
        else:
          ours.close()
          workers.pop(ours).join()
        yield place, value
  finally:
    for ours, process in workers.items():
      process.kill()
      process.join()
      ours.close()


def _receive(
  ours: connection.Connection, process: multiprocessing.Process
) -> tuple[str, int, Any]:
  try:
    return ours.recv()
  except (EOFError, ConnectionError) as error:
    process.join()
    raise LostWorkerError(
      f'A worker process ended without a word (exit code {process.exitcode}): '
      'was it killed for memory? Run the same command again: what is done is '
      'kept'
    ) from error


def _serve(theirs: connection.Connection, work: Callable) -> None:
  """In a worker: does what comes, until nothing does."""
  parent = multiprocessing.parent_process()

  def end_with_parent():
    connection.wait([parent.sentinel])
    os._exit(1)

  threading.Thread(target=end_with_parent, daemon=True).start()
  while True:
    try:
      place, item = theirs.recv()
    except EOFError:
      return
    try:
      result = work(
        item, lambda value, at=place: theirs.send(('report', at, value))
      )
      theirs.send(('done', place, result))
    except Exception as error:
      error.add_note(traceback.format_exc())
      theirs.send(('error', place, error))
