"""The smoke study: killed, failed, shared by two machines, and as one."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.launch.test_quickstart import ROOT
from tests.train import helpers

SCORES = ('scores.csv', 'aggregates.csv')


def _arguments(output, *flags):
  return [
    *('-m', 'launch.study', '--config=configs/study.py:smoke'),
    *(f'--output={output}', '--noprogress', *flags),
  ]


def _study(output, *flags):
  return subprocess.run(
    [sys.executable, *_arguments(output, *flags)],
    cwd=ROOT,
    env=helpers.script_env(),
    capture_output=True,
    text=True,
  )


def _kill_in_training(output, cell):
  """Kills the process that trains a cell, once it has a checkpoint."""
  study = subprocess.Popen(
    [sys.executable, *_arguments(output, f'--cells={cell}')],
    cwd=ROOT,
    env=helpers.script_env(),
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  checkpoints = output / 'cells' / cell / 'run' / 'checkpoints'
  deadline = time.monotonic() + 1800
  while not (checkpoints / '10').is_dir():
    assert study.poll() is None, study.stdout.read()
    assert time.monotonic() < deadline
    time.sleep(0.02)
  owner = output / 'cells' / cell / 'run' / '.owner'
  os.kill(int(owner.read_text().split()[1]), signal.SIGKILL)
  text, _ = study.communicate(timeout=1800)
  return study.returncode, text


def _tables(output):
  found = {}
  for name in SCORES:
    with open(output / 'report' / name) as file:
      found[name] = list(csv.reader(file))
  return found


@pytest.mark.slow
def test_two_machines_come_to_the_report_of_one(tmp_path):
  one, two = tmp_path / 'one', tmp_path / 'two'
  # On one machine a cell is killed while it is trained, and one fails.
  code, text = _kill_in_training(one, 'jowa_s0')
  assert code == 2 and 'jowa_s0 failed: train: ended by SIGKILL' in text
  wrong = '--config.cells.mgdt_s1.commands.train.flags.workdir=/proc/none'
  failed = _study(one, wrong)
  assert failed.returncode == 2, failed.stdout
  assert '8 cells: 6 done, 1 done before, 1 failed' in failed.stdout
  assert 'mgdt_s1 failed: train: ' in failed.stdout
  assert 'What is left to do, in hours of one core' in failed.stdout
  page = (one / 'report' / 'index.html').read_text()
  assert 'Without results yet: mgdt_s1' in page
  # It was begun so, and is refused otherwise, naming the field.
  refused = _study(one)
  assert refused.returncode == 2
  assert 'cells.mgdt_s1.commands.train.flags.workdir: was' in refused.stderr
  shutil.rmtree(one / 'cells' / 'mgdt_s1')
  done = _study(one)
  assert done.returncode == 0, done.stdout + done.stderr
  assert '8 cells: 1 done, 7 done before' in done.stdout
  # Two machines of their own disks, merged.
  for i in (1, 2):
    part = _study(two / f'machine{i}', f'--shard={i}/2')
    assert part.returncode == 0, part.stdout + part.stderr
  merged = two / 'machine1'
  shutil.copytree(
    two / 'machine2' / 'cells', merged / 'cells', dirs_exist_ok=True
  )
  again = _study(merged)
  assert again.returncode == 0, again.stdout + again.stderr
  assert '8 cells: 8 done before' in again.stdout
  assert _tables(merged) == _tables(one)
  # What went on from a checkpoint is what nothing interrupted.
  for output in (one, merged):
    steps = [
      json.loads(line)['step']
      for line in (output / 'cells' / 'jowa_s0' / 'run' / 'metrics.jsonl')
      .read_text()
      .splitlines()
    ]
    assert steps == sorted(set(steps)) and steps[-1] == 20
  printed = _study(merged, '--print_commands')
  assert printed.stdout.strip() == 'set -e'
