"""How much memory a raw log takes to read."""

import subprocess
import sys

import pytest

from tests.data_pipeline.sources import raw_logs

GAME = 'Carnival'
_MEASURE = """
import sys
from jowa_jax.data.sources.dqn_replay import DqnReplaySource

def peak():  # bytes
  with open('/proc/self/status') as file:
    (line,) = [line for line in file if line.startswith('VmHWM')]
  return int(line.split()[1]) * 1024

source = DqnReplaySource(sys.argv[1])
small, large = source.splits('Carnival')
count = len(source.lengths(small))
assert len(list(source.episodes(small, range(count)))) == count
before = peak()
last = len(source.lengths(large)) - 1
steps = sum(len(e.actions) for e in source.episodes(large, [0, 5, last]))
print(last, steps, peak() - before)
"""


@pytest.mark.slow  # writes and reads 420 MB of frames
def test_memory_does_not_depend_on_the_rows(tmp_path):
  played = raw_logs.random_play(GAME, 1300)
  raw_logs.write_dqn_replay(tmp_path, GAME, 1, {1: played[:1]}, level=1)
  one = [raw_logs.ZERO] * 3 + list(raw_logs.transitions(played[0]))
  count = 60_000 // len(one)
  rows = (row for _ in range(count) for row in one)
  total = count * len(one)
  raw_logs.write_log(tmp_path, GAME, 1, 2, rows, total, total - 1, 1)
  command = [sys.executable, '-c', _MEASURE, str(tmp_path)]
  done = subprocess.run(command, capture_output=True, text=True)
  assert not done.returncode, done.stderr
  last, steps, memory = map(int, done.stdout.split())
  assert last == count - 2  # the last row is stale
  assert steps == 3 * len(played[0].actions)
  assert memory < 100e6 < total * 84 * 84
