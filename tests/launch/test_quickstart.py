"""The quickstart from emulator to report, interrupted on the way."""

import json
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from configs import quickstart as quickstart_config
from jowa_jax import quickstart

ROOT = pathlib.Path(__file__).parents[2]


def start(workdir):
  return subprocess.Popen(
    [
      sys.executable,
      '-m',
      'launch.quickstart',
      '--config=configs/quickstart.py:smoke',
      f'--workdir={workdir}',
    ],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


@pytest.mark.slow
def test_killed_and_continued(tmp_path):
  first = start(tmp_path)
  checkpoint = tmp_path / 'jowa' / 'checkpoints' / '8'
  deadline = time.monotonic() + 600
  while not checkpoint.is_dir():
    assert first.poll() is None, first.stdout.read()
    assert time.monotonic() < deadline
    time.sleep(0.2)
  first.send_signal(signal.SIGKILL)
  first.wait()
  assert not (tmp_path / 'report' / 'index.html').exists()

  second = start(tmp_path)
  output, _ = second.communicate(timeout=1200)
  assert second.returncode == 0, output
  assert 'Collecting' not in output
  page = (tmp_path / 'report' / 'index.html').read_text()
  scores = json.loads((tmp_path / 'scores.json').read_text())
  agents = {'random', 'mtbc', 'jowa', 'jowa_beam'}
  assert set(scores['Assault']) >= agents
  assert set(scores['Carnival']) >= agents
  assert 'data:image' in page and 'http://' not in page
  steps = [
    json.loads(line)['step']
    for line in (tmp_path / 'jowa' / 'metrics.jsonl').read_text().splitlines()
  ]
  assert steps == sorted(set(steps)) and steps[-1] == 16

  # Nothing is left to do: the same command only writes the page again.
  third = start(tmp_path)
  begin = time.monotonic()
  output, _ = third.communicate(timeout=600)
  assert third.returncode == 0, output
  assert 'Encoding' not in output and output.count('(done before)') == 8
  assert time.monotonic() - begin < 300


def test_another_config_is_refused(tmp_path):
  config = quickstart_config.get_config('smoke').to_dict()
  config = quickstart.resolve({**config, 'seed': 5}, tmp_path)
  (tmp_path / 'config.json').write_text(json.dumps(config))
  before = sorted(tmp_path.rglob('*'))
  run = start(tmp_path)
  output, _ = run.communicate(timeout=300)
  assert run.returncode == 2, output
  assert 'seed: was 5, now 0' in output and 'Traceback' not in output
  assert sorted(tmp_path.rglob('*')) == before
