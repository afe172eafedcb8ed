"""A run that is killed, again and again, ends as one that was not.

Slow: every kill needs a process. `test_resume` interrupts runs in this one.
"""

import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

from jowa_jax.train.preemption import EXIT_CODE
from jowa_jax.train.run import Run
from tests.train import helpers, killed
from tests.train.helpers import read_metrics

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def train(data_dir, workdir, cache, stop=0, name='SIGKILL', more=0):
  """Trains in a process of its own; returns how it ended."""
  script = pathlib.Path(__file__).with_name('killed.py')
  arguments = (data_dir, workdir, cache, stop, name, more)
  return subprocess.run(
    [sys.executable, str(script), *map(str, arguments)],
    env=helpers.script_env(),
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=600,
  )


def half_saved(workdir) -> list[str]:
  """Returns what kills left of checkpoints that were being written."""
  return sorted(p.name for p in (workdir / 'checkpoints').glob('*tmp*'))


def assert_ended_like(finished, config, workdir):
  taken = []
  variables = Run(config, workdir).train(progress=False, on_step=taken.append)
  assert not taken
  ours = helpers.flat(variables)
  assert ours.keys() == finished.keys()
  for path, value in finished.items():
    np.testing.assert_array_equal(ours[path], value, err_msg=path)


def test_killed_in_a_save_and_asked_to_stop(
  finished, atari_data_dir, tmp_path, compilation_cache
):
  arguments = (atari_data_dir, tmp_path, compilation_cache)
  first = train(*arguments, stop=4)
  assert first.returncode == -signal.SIGKILL, first.stderr[-3000:]
  # Noticed after the next step, which is saved out of turn.
  second = train(*arguments, stop=4, name='SIGTERM')
  assert second.returncode == EXIT_CODE, second.stderr[-3000:]
  assert 'saved after step 5 of 7; run the same command' in second.stderr
  assert (tmp_path / 'checkpoints' / '5').is_dir()
  third = train(*arguments)
  assert third.returncode == 0, third.stderr[-3000:]
  records = read_metrics(tmp_path)
  assert [record['step'] for record in records] == [1, 2, 3, 4, 5, 6, 7]
  assert_ended_like(finished.variables, finished.config, tmp_path)


def test_twenty_kills(atari_data_dir, tmp_path, compilation_cache):
  whole, workdir = tmp_path / 'whole', tmp_path / 'killed'
  config = killed.config_of(atari_data_dir, 8)
  expected = helpers.flat(Run(config, whole).train(progress=False))
  saves = 0
  for stop in range(1, 22):
    done = train(atari_data_dir, workdir, compilation_cache, stop, more=8)
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
    left = half_saved(workdir)
    saves += bool(left)
    print(f'killed after step {stop} of 23; half-written checkpoints: {left}')
    for name in left:
      # Those of the next kill are told from these.
      (workdir / 'checkpoints' / name).rename(workdir / f'{stop}_{name}')
  assert saves >= 5
  last = train(atari_data_dir, workdir, compilation_cache, more=8)
  assert last.returncode == 0, last.stderr[-3000:]
  assert_ended_like(expected, config, workdir)
