"""Plays checkpoints in many processes, with a bar that foretells the end."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from multiprocessing import connection
from typing import Any, Protocol, TypeVar

import tqdm

from jowa_jax import processes
from jowa_jax.collect.play import Played


class Spec(Protocol):
  """A checkpoint that can be played, by a policy or from a recording.

  It can be pickled, hashed, and played in any process with the same outcome.
  """

  game: str
  run: int
  checkpoint: int
  epsilon: float
  steps: int  # decisions

  @property
  def checkpoint_name(self) -> str: ...

  @property
  def cost(self) -> float:
    """Expected emulator steps."""

  def settings(self) -> dict[str, Any]:
    """What decides the outcome, as JSON gives it back."""

  def play(self, report: Callable[[int], None]) -> Played:
    """Plays it; `report` is told after every decision how many are done."""


S = TypeVar('S', bound=Spec)
R = TypeVar('R')


def each_done(
  work: Callable[[S, Callable[[int], None]], R],
  specs: Sequence[S],
  num_processes: int | None,
  progress: bool,
  verb: str = 'Collecting',
) -> Iterator[tuple[S, R]]:
  """Yields every checkpoint, once it is done, with what `work` returned.

  Args:
    work: called in another process with a checkpoint and a function to tell
      how many decisions are done.
    specs: the checkpoints.
    num_processes: one per core if None.
    progress: whether to show a progress bar.
    verb: what the bar says is being done.

  Raises:
    Exception: what `work` raised; the other processes are stopped.
  """
  if not specs:
    return
  # The longest first, so that no process is left alone with it at the end.
  specs = sorted(specs, key=lambda spec: -spec.cost)
  context = multiprocessing.get_context('spawn')
  done, stop = context.SimpleQueue(), context.Event()
  workers = min(num_processes or processes.num_cores(), len(specs))
  bar = _Progress(specs, progress, verb)
  executor = futures.ProcessPoolExecutor(
    workers, context, initializer=_start_worker, initargs=(done, stop)
  )
  try:
    # Workers start with what is asked of them.
    with processes.interrupts_held():
      running = {
        executor.submit(_work, number, spec, work): spec
        for number, spec in enumerate(specs)
      }
    while running:
      finished, _ = futures.wait(
        running, timeout=0.2, return_when=futures.FIRST_COMPLETED
      )
      while not done.empty():
        bar.update(*done.get())
      for future in finished:
        yield running.pop(future), future.result()
  finally:
    stop.set()
    executor.shutdown(cancel_futures=True)
    bar.close()


# In a worker: the queue that progress goes to, and the event that ends it.
_reports = _stop = None


def _start_worker(reports, stop) -> None:
  """Prepares a process: it must not outlive the one that started it."""
  global _reports, _stop
  _reports, _stop = reports, stop
  parent = multiprocessing.parent_process()

  def follow_parent():
    connection.wait([parent.sentinel])
    os._exit(1)

  threading.Thread(target=follow_parent, daemon=True).start()


def _work(number: int, spec: S, work: Callable) -> Any:
  last = time.monotonic()

  def report(decisions: int) -> None:
    nonlocal last
    if time.monotonic() - last > 0.5:
      last = time.monotonic()
      _reports.put((number, decisions))
      if _stop.is_set():
        raise RuntimeError('The collection was stopped')

  _reports.put((number, 0))
  result = work(spec, report)
  _reports.put((number, spec.steps))
  return result


class _Progress:
  """One bar over all processes: what runs, and how long is left."""

  def __init__(self, specs: Sequence[Spec], shown: bool, verb: str):
    self._specs = specs
    self._done: dict[int, int] = {}
    self._start = time.monotonic()
    self._bar = tqdm.tqdm(
      total=sum(spec.steps for spec in specs),
      disable=not shown,
      desc=verb,
      bar_format=(
        '{desc} {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} decisions '
        '[{elapsed}{postfix}]'
      ),
    )

  def update(self, number: int, decisions: int) -> None:
    self._bar.update(decisions - self._done.get(number, 0))
    self._done[number] = decisions
    running = [
      f'{self._specs[i].game} {self._specs[i].checkpoint_name}'
      for i, done in self._done.items()
      if done < self._specs[i].steps
    ]
    self._bar.set_postfix_str(', '.join([self._time_left(), *running]))

  def _time_left(self) -> str:
    """Foretells by emulator steps: random decisions cost far fewer."""
    done = sum(
      self._specs[i].cost * decisions / self._specs[i].steps
      for i, decisions in self._done.items()
    )
    if not done:
      return 'time left unknown'
    total = sum(spec.cost for spec in self._specs)
    seconds = (time.monotonic() - self._start) * (total / done - 1)
    return f'{tqdm.tqdm.format_interval(seconds)} left'

  def close(self) -> None:
    self._bar.close()
