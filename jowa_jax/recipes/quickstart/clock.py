"""What a user sees of the progress, and how long each phase took."""

import contextlib
import json
import pathlib
import time
from collections.abc import Iterator, Mapping

from jowa_jax import files

# How long a machine is taken to be as fast as the one that was measured: its
# first phases are short and say little.
_DOUBT = 60.0


class Clock:
  """Names the phases, and adds up their seconds over restarts."""

  def __init__(self, path: pathlib.Path, expected: Mapping[str, float]):
    """Reads the seconds that were spent before.

    Args:
      path: the file of seconds by phase.
      expected: how many minutes each phase takes somewhere, in their order. The
        time left is reckoned from them, at the pace of this machine in the
        phases that it has done.
    """
    self._path = path
    self._seconds = json.loads(path.read_text()) if path.exists() else {}
    self._expected = {name: 60 * left for name, left in expected.items()}
    self._done: set[str] = set()

  @contextlib.contextmanager
  def phase(self, name: str, done: bool) -> Iterator[bool]:
    """Gives whether there is work to do; only then is its time counted."""
    note = 'done before' if done else f'about {self._left()} min left'
    number = list(self._expected).index(name) + 1
    print(f'\n[{number}/{len(self._expected)}] {name} ({note})', flush=True)
    begin = time.monotonic()
    try:
      yield not done
      self._done.add(name)
    finally:
      if not done and self._path.parent.is_dir():
        spent = time.monotonic() - begin
        self._seconds[name] = self._seconds.get(name, 0.0) + spent
        files.write_text(self._path, json.dumps(self._seconds, indent=2))

  def _left(self) -> int:
    """Minutes of all phases that are not done."""
    took = sum(self._seconds.get(name, 0.0) for name in self._done)
    expected = sum(self._expected[name] for name in self._done)
    left = sum(self._expected.values()) - expected
    return max(round(left * (took + _DOUBT) / (expected + _DOUBT) / 60), 1)
