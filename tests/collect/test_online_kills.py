"""Online runs that are killed, that are long, and whose disk is full.

Slow: every kill needs a process.
"""

import itertools
import pathlib
import random
import signal
import subprocess
import sys

import pytest

from tests.collect import killed, test_online
from tests.train import helpers

KILLS = 20
pytestmark = pytest.mark.slow


def learn(workdir, cache, how='never', when=0):
  script = pathlib.Path(killed.__file__)
  return subprocess.run(
    [sys.executable, str(script), *map(str, (workdir, cache, how, when))],
    env=helpers.script_env(),
    cwd=helpers.ROOT,
    capture_output=True,
    text=True,
    timeout=600,
  )


def ended(workdir, cache):
  """Variables and replay of a run that is let end, read from its directory.

  Not in this process, which compiles otherwise: last bits would differ.
  """
  done = learn(workdir, cache)
  assert done.returncode == 0, done.stderr[-3000:]
  run, feed = test_online.run_of(
    workdir, stages__online__steps=killed.STEPS, run__save_every=2
  )
  found = run.train(progress=False, data=feed)
  return helpers.flat(found), feed.replay


def moments(rng):
  """How and when to kill: half of them while the replay is written."""
  for how in itertools.cycle(
    ('steps', 'frames', 'seconds', 'rows', 'seconds', 'state')
  ):
    if how == 'seconds':
      yield how, rng.uniform(0, 0.25)
    else:
      yield how, rng.randint(1, 3 if how == 'steps' else 2)


def test_twenty_kills(tmp_path, compilation_cache):
  whole, workdir = tmp_path / 'whole', tmp_path / 'killed'
  rng, written, at = random.Random(0), 0, []
  for how, when in itertools.islice(moments(rng), KILLS):
    done = learn(workdir, compilation_cache, how, when)
    assert done.returncode == -signal.SIGKILL, (how, done.stderr[-3000:])
    written += how in ('frames', 'rows', 'state')
    saved = (workdir / 'checkpoints').iterdir()
    # Others are those that it was killed in the writing of.
    steps = [int(step.name) for step in saved if step.name.isdigit()]
    at.append(max(steps, default=0))
    print(f'killed by {how} {when:.3g}; saved: step {at[-1]}')
  assert written >= 9 and 0 < at[-1] < killed.STEPS and len(set(at)) > 4
  # What is on disk is the same play, and the same agent.
  expected = whole, *ended(whole, compilation_cache)
  test_online.same(ended(workdir, compilation_cache), expected)
  ours, theirs = (helpers.read_metrics(each) for each in (workdir, whole))
  for mine, other in zip(ours, theirs, strict=True):
    for name in ('step', 'loss/q', 'online/decisions', 'online/epsilon'):
      assert mine[name] == other[name], name


def anonymous_memory():
  """Kilobytes that are not a cache of files."""
  lines = pathlib.Path('/proc/self/status').read_text().splitlines()
  (line,) = (line for line in lines if line.startswith('RssAnon'))
  return int(line.split()[1])


def test_memory_is_flat(tmp_path):
  """What 8,000 more decisions of play leave, beside a megabyte of them."""
  run, feed = test_online.run_of(
    tmp_path, stages__online__steps=2500, run__save_every=250, run__log_every=50
  )
  found = []

  def on_step(step):
    if step % 500 == 0:
      found.append(anonymous_memory())

  run.train(progress=False, data=feed, on_step=on_step)
  print('kB after every 500 steps:', found)
  # 16,000 frames; those alone are 113 MB.
  assert len(feed.replay) == 8 + 4 * 2500
  assert found[-1] - found[0] < 12_000, found
