"""Run by test_online_kills: learns from its own play, and is killed.

Usage: killed.py <run directory> <cache> <how> <when>

How and when: after so many of its `steps`; so many `seconds` after its first
step; or while it writes the `frames`, the `rows` or the `state` of its so
manieth save, of which half is on disk then. `never` lets it end.
"""

import functools
import io
import os
import pathlib
import signal
import sys
import threading
import time

import numpy as np

from tests.collect import test_online
from tests.train import helpers

STEPS = 60
# Between two steps, so that a kill at a time may come anywhere.
PAUSE = 0.02


def learn(workdir, on_step=lambda step: None):
  """Variables and replay after all steps; saves at every other one."""
  run, feed = test_online.run_of(
    workdir, stages__online__steps=STEPS, run__save_every=2
  )
  variables = run.train(progress=False, data=feed, on_step=on_step)
  return helpers.flat(variables), feed.replay


def kill():
  os.kill(os.getpid(), signal.SIGKILL)


def write_half(path, data):
  with open(path, 'wb') as file:
    file.write(data[: len(data) // 2])
  kill()


def kill_in_save(how, when):
  """Kills in the `when`-th call of what writes."""
  owner, name = {
    'frames': (np, 'save'),
    'rows': (np, 'savez'),
    'state': (pathlib.Path, 'write_bytes'),
  }[how]
  write, calls = getattr(owner, name), 0

  @functools.wraps(write)
  def patched(target, *args, **kwargs):
    nonlocal calls
    ours = isinstance(target, pathlib.Path) and (
      '.rows_' in str(target) or '.step_' in str(target)
    )
    calls += ours
    if not ours or calls != when:
      return write(target, *args, **kwargs)
    if how == 'state':
      write_half(target, *args)
    written = io.BytesIO()
    write(written, *args, **kwargs)
    write_half(target, written.getvalue())

  setattr(owner, name, patched)


def main(workdir, cache, how, when):
  taken = 0

  def on_step(step):
    nonlocal taken
    taken += 1
    time.sleep(PAUSE)
    if how == 'steps' and taken == int(when):
      kill()
    if how == 'seconds' and taken == 1:
      threading.Timer(float(when), kill).start()

  if how in ('frames', 'rows', 'state'):
    kill_in_save(how, int(when))
  with helpers.quick_compilation(cache):
    learn(workdir, on_step)


if __name__ == '__main__':
  main(*sys.argv[1:])
