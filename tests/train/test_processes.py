"""Two processes train as one does, each from its part of the data."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

from jowa_jax.train.metrics import RATES
from jowa_jax.train.run import Run
from tests.train import helpers, two_processes
from tests.train.conftest import read_metrics

ROOT = pathlib.Path(__file__).parents[2]


def _start(process, *arguments):
  env = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(ROOT)}
  env['XLA_FLAGS'] = '--xla_force_host_platform_device_count=1'
  script = str(pathlib.Path(__file__).with_name('two_processes.py'))
  return subprocess.Popen(
    [sys.executable, script, str(process), *map(str, arguments)],
    env=env,
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


@pytest.fixture(scope='module')
def together(atari_data_dir, tmp_path_factory, compilation_cache):
  """The directory of a run by two processes, and what each of them read."""
  workdir = tmp_path_factory.mktemp('together') / 'run'
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = free.getsockname()[1]
  arguments = (port, atari_data_dir, workdir, compilation_cache)
  processes = [_start(process, *arguments) for process in range(2)]
  found = []
  try:
    for process in processes:
      output, errors = process.communicate(timeout=600)
      assert process.returncode == 0, errors[-5000:]
      found.append(json.loads(output.splitlines()[-1]))
  finally:
    for process in processes:
      process.kill()
  return workdir, found


def test_each_process_reads_its_rows(together):
  _, found = together
  for process in found:
    assert process['processes'] == 2
    # Two of four rows at each of seven steps; held-out batches are whole.
    rows = [tuple(row) for row in process['rows']]
    assert rows.count((2, False)) == 3 and rows.count((2, True)) == 4
    assert {size for size, _ in rows} == {2, 4}


def test_two_processes_train_as_one(together, atari_data_dir, tmp_path):
  workdir, _ = together
  config = two_processes.config_of(atari_data_dir, tmp_path / 'run')
  Run(config, tmp_path / 'run').train(progress=False)
  # Once each, by the first process.
  ours, theirs = read_metrics(workdir), read_metrics(tmp_path / 'run')
  assert [r['step'] for r in ours] == [1, 2, 3, 4, 5, 6, 7]
  assert any(name.startswith('held_out/') for name in ours[-1])
  for mine, other in zip(ours, theirs, strict=True):
    assert mine.keys() == other.keys()
    for name in mine.keys() - {'stage', *RATES}:
      np.testing.assert_allclose(
        mine[name], other[name], rtol=1e-4, atol=1e-4, err_msg=name
      )


def test_one_process_goes_on_with_what_two_saved(together, atari_data_dir):
  """The run is finished: its checkpoint is read, and no step is taken."""
  workdir, _ = together
  config = two_processes.config_of(atari_data_dir, workdir)
  taken = []
  variables = Run(config, workdir).train(progress=False, on_step=taken.append)
  assert not taken
  assert all(np.isfinite(x).all() for x in helpers.flat(variables).values())
