"""Does what is left to do of a study's cells, one after another."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import tqdm

from jowa_jax import files, ownership
from jowa_jax.recipes.study.cost import Costs
from jowa_jax.recipes.study.plan import Cell, Step

# How a command says that it was asked to stop: run it again.
_AGAIN = 75
_MOST_TRIES = 20
_TICK = 0.5  # seconds between two looks at a command
_SLOW_END = 120.0  # seconds that a command has to save, once it is to stop

DONE, BEFORE, FAILED, WAITS = 'done', 'done before', 'failed', 'waits'
# script, flags -> the whole command
Start = Callable[[str, Sequence[str]], Sequence[str]]


class Outcome(NamedTuple):
  """How a cell went."""

  cell: Cell
  state: str  # one of those above
  why: str = ''


def with_python(script: str, arguments: Sequence[str]) -> list[str]:
  """A script of `launch/`, run by the interpreter that runs this."""
  return [sys.executable, '-m', f'launch.{script}', *arguments]


def work(
  cells: Sequence[Cell],
  costs: Costs,
  environment: Mapping[str, str],
  start: Start = with_python,
  progress: bool = True,
) -> list[Outcome]:
  """Runs all commands that are not done.

  A cell that fails stops those alone that need it. Cells that another process
  works on are waited for. SIGTERM and Ctrl-C end the command at work, which
  saves what it has, and then this.

  Args:
    cells: those that others need come first.
    costs: for the time left.
    environment: of the commands.
    start: makes a script's name and flags a command.
    progress: show a bar.
  """
  outcomes: dict[str, Outcome] = {}
  with _Bar(cells, costs, progress) as bar, _terminating():
    for cell in cells:
      waits = [
        need
        for need in cell.config.needs
        if need in outcomes and outcomes[need].state in (FAILED, WAITS)
      ]
      if waits:
        outcome = Outcome(cell, WAITS, f'for {", ".join(waits)}')
      elif cell.is_done():
        outcome = Outcome(cell, BEFORE)
      else:
        outcome = _do(cell, bar, environment, start)
      outcomes[cell.name] = outcome
      bar.past(cell)
  return list(outcomes.values())


def describe(outcomes: Sequence[Outcome]) -> str:
  """How many cells are done, and the last line of each that is not."""
  counts = {
    state: sum(one.state == state for one in outcomes)
    for state in (DONE, BEFORE, FAILED, WAITS)
  }
  counted = ', '.join(f'{n} {state}' for state, n in counts.items() if n)
  lines = [f'{len(outcomes)} cells: {counted}']
  for one in outcomes:
    if one.state == FAILED:
      lines.append(f'{one.cell.name} failed: {one.why} ({one.cell.log})')
    elif one.state == WAITS:
      lines.append(f'{one.cell.name} waits {one.why}')
  return '\n'.join(lines)


def _do(
  cell: Cell, bar: '_Bar', environment: Mapping[str, str], start: Start
) -> Outcome:
  """One cell, while no other process works on it."""
  # The lock is beside the cell: a cell is what is merged.
  lock = cell.root.parent / f'.{cell.name}.owner'
  with ownership.owned(lock, wait=True):
    if cell.is_done():
      return Outcome(cell, BEFORE)
    cell.root.mkdir(parents=True, exist_ok=True)
    text = json.dumps(cell.description, indent=2)
    files.write_text(cell.begun, text + '\n')
    for step in cell.steps:
      seconds = cell.seconds()
      if step.name in seconds:
        continue
      bar.begin(cell, step)
      begun = time.monotonic()
      why = _run(cell, step, bar, environment, start)
      if why:
        return Outcome(cell, FAILED, f'{step.name}: {why}')
      seconds[step.name] = round(time.monotonic() - begun, 1)
      files.write_text(cell.done, json.dumps(seconds, indent=2) + '\n')
  return Outcome(cell, DONE)


def _run(
  cell: Cell,
  step: Step,
  bar: '_Bar',
  environment: Mapping[str, str],
  start: Start,
) -> str:
  """Runs a command to its end; says why it failed, or nothing."""
  for _ in range(_MOST_TRIES):
    with cell.log.open('ab') as log:
      log.write(f'\n$ {step.line()}\n'.encode())
      log.flush()
      process = subprocess.Popen(
        start(step.script, step.arguments),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        # Ctrl-C reaches this process, which tells the other.
        start_new_session=True,
      )
      try:
        while process.poll() is None:
          with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_TICK)
          bar.tick()
      finally:
        _end(process)
    code = process.returncode
    if code != _AGAIN:
      break
  if code == 0:
    return ''
  if code < 0:
    return f'ended by {signal.Signals(-code).name} after: {_last_line(cell)}'
  return _last_line(cell)


def _end(process: subprocess.Popen) -> None:
  """Lets a command that is at work save, and waits for it."""
  if process.poll() is None:
    process.terminate()
    try:
      process.wait(_SLOW_END)
    except subprocess.TimeoutExpired:
      process.kill()
      process.wait()


def _last_line(cell: Cell) -> str:
  """The last that a cell's command said; of a bar, its last state."""
  text = cell.log.read_bytes().decode(errors='replace').replace('\r', '\n')
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  return lines[-1]


@contextlib.contextmanager
def _terminating() -> Iterator[None]:
  """Makes SIGTERM end the block as an exception does."""

  def stop(number, frame):
    raise SystemExit(_AGAIN)

  before = signal.signal(signal.SIGTERM, stop)
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, before)


class _Bar:
  """One bar of expected minutes, those of all cells together."""

  def __init__(self, cells: Sequence[Cell], costs: Costs, shown: bool):
    self._cells, self._costs = cells, costs
    self._left = {
      cell.name: {
        step.name: self._expected(cell, step)
        for step in cell.steps
        if step.name not in cell.seconds()
      }
      for cell in cells
    }
    self._bar = tqdm.tqdm(
      total=round(sum(sum(left.values()) for left in self._left.values()), 3),
      disable=not shown,
      dynamic_ncols=True,
      bar_format='{desc}: {percentage:3.0f}%|{bar}| '
      '{elapsed} spent, {remaining} left',
    )
    self._step = None
    self._reached = 0.0  # of the minutes expected
    self._shown = 0.0  # of the command at work

  def __enter__(self) -> '_Bar':
    return self

  def __exit__(self, *error) -> None:
    self._bar.close()

  def begin(self, cell: Cell, step: Step) -> None:
    """Says which command is at work now."""
    place = self._cells.index(cell) + 1
    self._bar.set_description(
      f'{place}/{len(self._cells)} {cell.name}: {step.name}'
    )
    self._finish()
    self._step = (cell.name, step.name, time.monotonic())

  def tick(self) -> None:
    """Goes on with the time, as far as the command was expected to take."""
    cell, step, begun = self._step
    spent = (time.monotonic() - begun) / 60
    self._move(min(spent, self._left[cell].get(step, 0.0)) - self._shown)

  def past(self, cell: Cell) -> None:
    """A cell is over, whatever became of it."""
    self._finish()
    self._move(sum(self._left.pop(cell.name).values()))

  def _finish(self) -> None:
    if self._step:
      cell, step, _ = self._step
      self._move(self._left[cell].pop(step, 0.0) - self._shown)
      self._step, self._shown = None, 0.0

  def _move(self, minutes: float) -> None:
    if minutes > 0:
      if self._step:
        self._shown += minutes
      self._bar.update(round(minutes, 6))
    else:
      self._bar.refresh()

  def _expected(self, cell: Cell, step: Step) -> float:
    """Minutes, those that its like took where one is done."""

    def like(other: Cell) -> bool:
      names = ('method', 'size', 'ablation', 'quality')
      return other is not cell and all(
        getattr(other.config, name) == getattr(cell.config, name)
        for name in names
      )

    took = [
      seconds[step.name] / 60
      for seconds in (other.seconds() for other in self._cells if like(other))
      if step.name in seconds
    ]
    if took:
      return sum(took) / len(took)
    return self._costs.minutes(step) or 1.0
