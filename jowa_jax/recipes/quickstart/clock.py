"""What a user sees of the progress, and how long each phase took."""

import contextlib
import json
import pathlib
import time
from collections.abc import Iterator

from jowa_jax import files


class Clock:
  """Names the phases and adds up their seconds, over restarts."""

  def __init__(self, path: pathlib.Path, phases: int, expected_minutes: float):
    """Reads the seconds that were spent before.

    Args:
      path: the file of seconds by phase.
      phases: number of phases, those done before included.
      expected_minutes: what all of them take on two idle cores.
    """
    self._path = path
    self._seconds = json.loads(path.read_text()) if path.exists() else {}
    self._phases, self._begun = phases, 0
    self._expected = 60 * expected_minutes

  @contextlib.contextmanager
  def phase(self, name: str, done: bool) -> Iterator[bool]:
    """Gives whether there is work to do; only then is its time counted."""
    self._begun += 1
    note = 'done before' if done else self._left()
    print(f'\n[{self._begun}/{self._phases}] {name} ({note})', flush=True)
    begin = time.monotonic()
    try:
      yield not done
    finally:
      if not done and self._path.parent.is_dir():
        spent = time.monotonic() - begin
        self._seconds[name] = self._seconds.get(name, 0.0) + spent
        files.write_text(self._path, json.dumps(self._seconds, indent=2))

  def _left(self) -> str:
    """What is left of the time expected, if that still can be."""
    spent = sum(self._seconds.values())
    left = self._expected - spent
    if left > 0:
      return f'about {max(left / 60, 1):.0f} min left, on two idle cores'
    return (
      f'{spent / 60:.0f} min so far; two idle cores take '
      f'{self._expected / 60:.0f} in all'
    )
