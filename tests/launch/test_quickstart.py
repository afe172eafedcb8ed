"""The quickstart from emulator to report, interrupted on the way."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from configs import quickstart as quickstart_config
from jowa_jax import quickstart
from jowa_jax.bench import passes
from jowa_jax.configuration import ConfigError
from jowa_jax.plan.dream import DECODERS

ROOT = pathlib.Path(__file__).parents[2]
# Nothing here depends on how well the programs are compiled.
ENV = {**os.environ, 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'}


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
    env=ENV,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def encode_tokens(workdir, output):
  arguments = [f'--checkpoint={workdir}/jowa', f'--data={workdir}/data']
  return subprocess.run(
    [sys.executable, '-m', 'launch.encode_tokens', *arguments]
    + ['--games=Assault,Carnival', f'--output={output}'],
    cwd=ROOT,
    env=ENV,
    capture_output=True,
    text=True,
  )


def check_result(workdir):
  page = (workdir / 'report' / 'index.html').read_text()
  assert 'data:image' in page and 'src="http' not in page
  assert page.count('src="data:video/mp4') == 2
  assert 'steps dreamed' in page and 'Not found' not in page
  scores = json.loads((workdir / 'scores.json').read_text())
  for game in ('Assault', 'Carnival'):
    assert set(scores[game]) >= {'random', 'mtbc', 'jowa', 'jowa_beam'}
  steps = [
    json.loads(line)['step']
    for line in (workdir / 'jowa' / 'metrics.jsonl').read_text().splitlines()
  ]
  assert steps == sorted(set(steps)) and steps[-1] == 16


def test_from_emulator_to_report(tmp_path):
  run = start(tmp_path)
  output, _ = run.communicate(timeout=1200)
  assert run.returncode == 0, output
  assert '[9/9]' in output and 'done before' not in output
  check_result(tmp_path)
  check_decoders(tmp_path / 'jowa')


def check_decoders(checkpoint):
  """What was trained dreams the same at once and token by token."""
  parallel, sequential = passes.run(
    str(checkpoint),
    ['Assault'],
    20,
    environments=2,
    context_length=2,
    progress=False,
  )
  assert (parallel['decoder'], sequential['decoder']) == DECODERS
  assert sequential['passes_per_frame'] == 37
  assert 1 <= parallel['passes_per_frame'] <= parallel['most_passes'] <= 37
  for record in (parallel, sequential):
    assert record['decisions'] == 20 and record['decisions_per_second'] > 0
    assert record['same_actions'] == record['same_tokens'] == 1
    for name in ('tokens_dreamed', 'tokens_real', 'frames_real'):
      assert 0 <= record[f'changed_{name}'] <= 1
    assert record['game'] == 'Assault' and isinstance(record['peak_bytes'], int)
  assert 'Assault, parallel: ' in passes.describe([parallel])


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
  assert output.count('(done before)') == 1 and 'Collecting' not in output
  check_result(tmp_path)

  # Nothing is left to do: the same command only writes the page again.
  third = start(tmp_path)
  output, _ = third.communicate(timeout=600)
  assert third.returncode == 0, output
  assert output.count('(done before)') == 9
  check_result(tmp_path)

  # The tokens that training encoded are those that the command encodes.
  trained = encode_tokens(tmp_path, tmp_path / 'tokens')
  assert trained.returncode == 0 and 'Encoding' not in trained.stderr
  done = encode_tokens(tmp_path, tmp_path / 'again')
  assert done.returncode == 0 and 'Encoding' in done.stderr
  assert '480 frames' in done.stdout
  for path in (tmp_path / 'tokens').glob('*.npy'):
    ours = np.load(tmp_path / 'again' / path.name)
    np.testing.assert_array_equal(ours, np.load(path))
  # Those of another tokenizer are refused.
  (tmp_path / 'again' / 'tokens.json').write_text('{"tokenizer": "other"}')
  refused = encode_tokens(tmp_path, tmp_path / 'again')
  assert refused.returncode == 2
  assert 'has tokens of tokenizer other' in refused.stderr
  # By hand comes to the same, and goes onto a page.
  for script, *flags in (
    (
      'judge',
      f'--checkpoint={tmp_path}/jowa',
      f'--output={tmp_path}/judged',
      '--num_dreams=4',
    ),
    (
      'report',
      f'--pictures={tmp_path}/judged',
      f'--output={tmp_path}/page/index.html',
    ),
  ):
    done = subprocess.run(
      [sys.executable, '-m', f'launch.{script}', *flags],
      cwd=ROOT,
      env=ENV,
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, done.stderr
  judged, ours = tmp_path / 'judged', tmp_path / 'eval'
  assert (judged / 'open_loop.json').read_text() == (
    ours / 'open_loop.json'
  ).read_text()
  quality = json.loads((judged / 'model_quality.json').read_text())
  for game, table in json.loads(
    (ours / 'model_quality.json').read_text()
  ).items():
    assert quality[game].items() <= table.items()
  assert 'steps dreamed' in (tmp_path / 'page' / 'index.html').read_text()


@pytest.mark.parametrize(
  ('section', 'field', 'value'),
  [
    ('jowa.data', 'held_out_fraction', 0.0),
    ('evaluate', 'num_dreams', 0),
  ],
)
def test_a_report_needs_something_to_tell(section, field, value, tmp_path):
  config = quickstart_config.get_config('smoke').to_dict()
  fields = config
  for name in section.split('.'):
    fields = fields[name]
  fields[field] = value
  with pytest.raises(ConfigError, match=f'{section}.{field} must be'):
    quickstart.quickstart(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


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
