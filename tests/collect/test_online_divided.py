"""Playing and learning on eight devices, and in two processes, as in one.

Slow: it starts processes.
"""

import json
import subprocess
import sys

import numpy as np
import pytest

from jowa_jax.train.metrics import RATES
from tests.collect import divided, test_online
from tests.train import helpers

pytestmark = pytest.mark.slow


def learn(workdir, cache, steps=8, processes=1, devices=1):
  """What every process says of itself."""
  port = helpers.free_port()
  started = [
    subprocess.Popen(
      [sys.executable, divided.__file__]
      + [*map(str, (workdir, cache, steps, process, processes, port))],
      env=helpers.script_env(devices),
      cwd=helpers.ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for process in range(processes)
  ]
  found = []
  try:
    for process in started:
      output, errors = process.communicate(timeout=600)
      assert process.returncode == 0, errors[-5000:]
      found.append(json.loads(output.splitlines()[-1]))
  finally:
    for process in started:
      process.kill()
  return found


def played(workdir, steps):
  """The replay that a run ended with, from disk."""
  _, feed = divided.run_of(workdir, steps)
  feed.restore(workdir / 'feed', steps)
  return test_online.told(feed.replay)


@pytest.fixture(scope='module')
def alone(tmp_path_factory, compilation_cache):
  workdir = tmp_path_factory.mktemp('alone') / 'run'
  assert learn(workdir, compilation_cache) == [[1, 1, 4]]
  return workdir


def same(workdir, alone):
  assert played(workdir, 8) == played(alone, 8)
  ours, theirs = helpers.read_metrics(workdir), helpers.read_metrics(alone)
  assert [r['step'] for r in ours] == [r['step'] for r in theirs]
  for mine, other in zip(ours, theirs, strict=True):
    assert mine.keys() == other.keys()
    for name in mine.keys() - {'stage', *RATES}:
      np.testing.assert_allclose(
        mine[name], other[name], rtol=1e-4, atol=1e-4, err_msg=name
      )


def test_eight_devices(alone, tmp_path, compilation_cache):
  found = learn(tmp_path / 'run', compilation_cache, devices=8)
  assert found == [[1, 8, 4]]
  same(tmp_path / 'run', alone)


def test_two_processes(alone, tmp_path, compilation_cache):
  found = learn(tmp_path / 'run', compilation_cache, processes=2)
  assert found == [[2, 2, 2]] * 2
  same(tmp_path / 'run', alone)


def test_one_process_goes_on_with_what_two_saved(
  alone, tmp_path, compilation_cache
):
  learn(tmp_path / 'run', compilation_cache, steps=4, processes=2)
  learn(tmp_path / 'run', compilation_cache)
  same(tmp_path / 'run', alone)


def test_two_go_on_with_what_one_saved(alone, tmp_path, compilation_cache):
  learn(tmp_path / 'run', compilation_cache, steps=4)
  learn(tmp_path / 'run', compilation_cache, processes=2)
  same(tmp_path / 'run', alone)


def test_environments_that_do_not_divide(tmp_path, monkeypatch):
  run, feed = divided.run_of(tmp_path)
  monkeypatch.setattr('jax.process_count', lambda: 3)
  with pytest.raises(ValueError, match='online.environments=4 does not divide'):
    type(feed)(feed._config, test_online.VARIANT, run.method, 8, 0)
