"""Processes train as one does, each from its part of the data.

Slow: every test starts them.
"""

import json
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from jowa_jax.train.metrics import RATES
from jowa_jax.train.preemption import EXIT_CODE
from jowa_jax.train.run import Run
from tests.train import helpers, two_processes
from tests.train.helpers import free_port, read_metrics

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def _start(process, *arguments):
  script = str(pathlib.Path(__file__).with_name('two_processes.py'))
  return subprocess.Popen(
    [sys.executable, script, str(process), *map(str, arguments)],
    env=helpers.script_env(),
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def _train_together(*arguments):
  """Trains in two processes; returns what each of them read."""
  port, found = free_port(), []
  processes = [_start(process, port, *arguments) for process in range(2)]
  try:
    for process in processes:
      output, errors = process.communicate(timeout=600)
      assert process.returncode == 0, errors[-5000:]
      found.append(json.loads(output.splitlines()[-1]))
  finally:
    for process in processes:
      process.kill()
  return found


@pytest.fixture(scope='module')
def together(atari_data_dir, tmp_path_factory, compilation_cache):
  """The directory of a run by two processes, and what each of them read."""
  workdir = tmp_path_factory.mktemp('together') / 'run'
  return workdir, _train_together(atari_data_dir, workdir, compilation_cache)


def test_each_process_reads_its_rows(together):
  _, found = together
  for process in found:
    assert process['processes'] == 2
    # Two of four rows at each of four steps; held-out batches are whole.
    rows = [tuple(row) for row in process['rows']]
    assert rows.count((2, True)) == 4
    assert {size for size, _ in rows} == {2, 4}


def test_two_processes_train_as_one(together, atari_data_dir, tmp_path):
  workdir, _ = together
  config = two_processes.config_of(atari_data_dir, tmp_path / 'run')
  _check_alone(config, workdir, tmp_path / 'run', 4)


def test_two_processes_train_both_stages_as_one(
  atari_data_dir, tmp_path, compilation_cache
):
  workdir, alone = tmp_path / 'together', tmp_path / 'run'
  found = _train_together(atari_data_dir, workdir, compilation_cache, 'both')
  for process in found:
    rows = [tuple(row) for row in process['rows']]
    assert rows.count((2, False)) == 3 and rows.count((2, True)) == 4
  config = two_processes.config_of(atari_data_dir, alone, 'both')
  _check_alone(config, workdir, alone, 7)


def _check_alone(config, workdir, alone, steps):
  """Trains in this process, and compares the metrics of every step."""
  Run(config, alone).train(progress=False)
  # Once each, by the first process.
  ours, theirs = read_metrics(workdir), read_metrics(alone)
  assert [r['step'] for r in ours] == [*range(1, steps + 1)]
  assert any(name.startswith('held_out/') for name in ours[-1])
  for mine, other in zip(ours, theirs, strict=True):
    assert mine.keys() == other.keys()
    for name in mine.keys() - {'stage', *RATES}:
      np.testing.assert_allclose(
        mine[name], other[name], rtol=1e-4, atol=1e-4, err_msg=name
      )


# What makes runs comparable whatever divides the work, see
# `helpers.comparable_config`.
COMPARABLE = {
  'run.batch_size': 4,
  'run.log_every': 1,
  'run.save_every': 4,
  'backbone.dropout': 0.0,
  'backbone.attention_dropout': 0.0,
  'heads.dropout': 0.0,
  'stages.stage1.tokenizer.eps': 1e-3,
  'stages.stage1.world.eps': 1e-3,
  'stages.stage2.world_action.eps': 1e-3,
}


class Launched:
  """`launch.train`, of one or more processes."""

  def __init__(self, data_dir, workdir, axes, count):
    fields = {**COMPARABLE, 'data.directory': data_dir}
    fields |= {f'mesh.axes.{name}': size for name, size in axes.items()}
    port = free_port()
    self.workdir, self.processes = workdir, []
    for process in range(count):
      flags = [f'--config.{name}={value}' for name, value in fields.items()]
      flags += [f'--config.data.games={("Assault", "Carnival")}']
      if count > 1:
        flags += [
          f'--coordinator_address=127.0.0.1:{port}',
          f'--num_processes={count}',
          f'--process_id={process}',
        ]
      command = [sys.executable, '-m', 'launch.train']
      command += ['--config=configs/jowa.py:smoke', f'--workdir={workdir}']
      self.processes.append(
        subprocess.Popen(
          [*command, *flags],
          env=helpers.script_env(),
          cwd=ROOT,
          stdout=subprocess.DEVNULL,
          stderr=(workdir.parent / f'errors_{process}').open('w'),
        )
      )

  def errors(self, process):
    return (self.workdir.parent / f'errors_{process}').read_text()

  def wait_for_step(self, step):
    path, deadline = self.workdir / 'metrics.jsonl', time.monotonic() + 900
    while not path.exists() or len(path.read_text().splitlines()) < step:
      assert time.monotonic() < deadline
      assert self.processes[0].poll() is None, self.errors(0)[-3000:]
      time.sleep(0.05)

  def wait(self, seconds):
    """Returns the exit codes."""
    deadline = time.monotonic() + seconds
    try:
      return [
        process.wait(max(0.1, deadline - time.monotonic()))
        for process in self.processes
      ]
    finally:
      for process in self.processes:
        process.kill()


@pytest.mark.parametrize(
  ('axes', 'lost'),
  [
    (dict(data=2, fsdp=1), 1),
    (dict(data=1, fsdp=2), 0),
    (dict(data=1, fsdp=2), 1),
    (dict(data=2, fsdp=2), 1),
  ],
)
def test_a_lost_process_ends_the_others_and_all_go_on(
  axes, lost, atari_data_dir, tmp_path
):
  count = axes['data'] * axes['fsdp']
  alone = Launched(atari_data_dir, tmp_path / 'alone', dict(data=1), 1)
  assert alone.wait(900) == [0], alone.errors(0)[-3000:]
  workdir = tmp_path / 'run'
  first = Launched(atari_data_dir, workdir, axes, count)
  first.wait_for_step(13)
  first.processes[lost].kill()
  codes = first.wait(60)
  for process in {*range(count)} - {lost}:
    # By itself, or ended by JAX's runtime, whichever misses the other first;
    # the one or the other says why.
    assert codes[process] in (EXIT_CODE, -signal.SIGABRT), codes
    said = first.errors(process)
    if codes[process] == EXIT_CODE:
      assert 'Another process of the run was lost' in said
    else:
      assert 'distributed service detected fatal errors' in said, said[-3000:]
  second = Launched(atari_data_dir, workdir, axes, count)
  assert set(second.wait(900)) == {0}, second.errors(0)[-3000:]
  assert 'Resuming' in second.errors(0)
  ours, theirs = read_metrics(workdir), read_metrics(tmp_path / 'alone')
  assert [record['step'] for record in ours] == list(range(1, 21))
  for mine, other in zip(ours, theirs, strict=True):
    for name in mine.keys() - {'stage', *RATES}:
      np.testing.assert_allclose(
        mine[name], other[name], rtol=1e-4, atol=1e-4, err_msg=name
      )


def test_one_that_is_asked_to_stop_stops_all(atari_data_dir, tmp_path):
  arguments = (atari_data_dir, tmp_path / 'run', dict(data=2), 2)
  first = Launched(*arguments)
  first.wait_for_step(11)
  first.processes[1].send_signal(signal.SIGTERM)
  assert first.wait(60) == [EXIT_CODE] * 2, first.errors(0)[-3000:]
  saved = [
    re.search(r'is saved after step (\d+) of 20', first.errors(process))[1]
    for process in range(2)
  ]
  assert saved[0] == saved[1]
  assert (tmp_path / 'run' / 'checkpoints' / saved[0]).is_dir()
  second = Launched(*arguments)
  assert second.wait(900) == [0, 0], second.errors(0)[-3000:]
  assert f'at step {saved[0]}' in second.errors(0)


def test_one_that_is_asked_to_stop_while_encoding_stops_all(
  atari_data_dir, tmp_path, compilation_cache
):
  def start(*more):
    arguments = (atari_data_dir, tmp_path / 'run', compilation_cache, *more)
    port = free_port()
    return [_start(process, port, *arguments) for process in range(2)]

  first = start('stop')
  ended = [process.communicate(timeout=600)[1] for process in first]
  assert [process.returncode for process in first] == [EXIT_CODE] * 2, ended
  for errors in ended:
    assert 'saved after step 3 of 7; run the same command' in errors
  tokens = tmp_path / 'run_tokens'
  assert not list(tokens.glob('*.episodes.npy')), 'encoding had ended'
  assert list(tokens.glob('.*.partial'))
  second = start('both')
  ended = [process.communicate(timeout=600)[1] for process in second]
  assert [process.returncode for process in second] == [0, 0], ended
  assert [r['step'] for r in read_metrics(tmp_path / 'run')] == [*range(1, 8)]


def test_one_process_goes_on_with_what_two_saved(together, atari_data_dir):
  """The run is finished: its checkpoint is read, and no step is taken."""
  workdir, _ = together
  config = two_processes.config_of(atari_data_dir, workdir)
  taken = []
  variables = Run(config, workdir).train(progress=False, on_step=taken.append)
  assert not taken
  assert all(np.isfinite(x).all() for x in helpers.flat(variables).values())
