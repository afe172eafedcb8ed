"""Workers that end with the work, however that ends."""

import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from jowa_jax import processes

ROOT = pathlib.Path(__file__).parents[1]
_SLEEP = """
import os, time
from jowa_jax import processes
def work(item, report):
  report(os.getpid())
  time.sleep(60)
if __name__ == '__main__':
  say = lambda place, pid: print(pid, flush=True)
  for _ in processes.each_done(work, range(4), 2, say):
    pass
"""


def _ended(pid):
  """Whether a process is gone, or a zombie that nobody has asked for."""
  try:
    return ') Z ' in open(f'/proc/{pid}/stat').read()
  except FileNotFoundError:
    return True


def _double(x, report):
  report(x + 1)
  return 2 * x


def _sleep_or_fail(x, report):
  if not x:
    time.sleep(60)
  raise ValueError(f'{x} is bad')


def _sleep_or_die(x, report):
  if not x:
    time.sleep(60)
  os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize('num_workers', [1, 2, 9])
def test_work_is_done_and_reported(num_workers):
  reports = {}
  done = dict(
    processes.each_done(_double, range(5), num_workers, reports.__setitem__)
  )
  assert done == {place: 2 * place for place in range(5)}
  assert reports == {place: place + 1 for place in range(5)}
  assert not list(processes.each_done(_double, [], 2))


@pytest.mark.parametrize(
  'work, error, message',
  [
    (_sleep_or_fail, ValueError, '1 is bad'),
    (_sleep_or_die, processes.LostWorkerError, 'exit code -9.*memory'),
  ],
)
def test_an_error_ends_the_others(work, error, message):
  start = time.monotonic()
  with pytest.raises(error, match=message) as raised:
    list(processes.each_done(work, range(2), 2))
  assert time.monotonic() - start < 30
  assert not multiprocessing.active_children()
  if error is ValueError:
    assert '_sleep_or_fail' in raised.value.__notes__[0]


def test_who_stops_listening_ends_them():
  running = processes.each_done(_double, range(100), 2)
  next(running)
  running.close()
  assert not multiprocessing.active_children()


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
@pytest.mark.parametrize(
  'end, group',
  [(signal.SIGINT, True), (signal.SIGKILL, False), (signal.SIGTERM, False)],
)
def test_nobody_outlives_the_parent(end, group, tmp_path):
  script = tmp_path / 'sleep.py'
  script.write_text(_SLEEP)
  with subprocess.Popen(
    [sys.executable, str(script)],
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
    start_new_session=True,
    # As in a terminal; who is started in the background ignores Ctrl-C.
    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
  ) as process:
    pids = [int(process.stdout.readline()) for _ in range(2)]
    (os.killpg if group else os.kill)(process.pid, end)
    process.wait(30)
  deadline = time.monotonic() + 30
  while not all(_ended(pid) for pid in pids):
    assert time.monotonic() < deadline
    time.sleep(0.05)


@pytest.mark.skipif(
  not hasattr(os, 'sched_setaffinity'), reason='the system has no affinity'
)
def test_cores_are_those_that_the_process_may_use():
  allowed = os.sched_getaffinity(0)
  try:
    os.sched_setaffinity(0, {min(allowed)})
    assert processes.num_cores() == 1
  finally:
    os.sched_setaffinity(0, allowed)
  assert processes.num_cores() == len(allowed)
