"""What a user mistypes ends in one clear line and changes nothing on disk."""

import os
import pathlib
import subprocess
import sys

import pytest

from tests.launch.mistakes import CASES

ROOT = pathlib.Path(__file__).parents[2]


def _elsewhere(script, *flags, cwd, **environment):
  """A script that is started in another directory, by an interpreter."""
  return subprocess.run(
    [sys.executable, '-m', f'launch.{script}', *flags],
    cwd=cwd,
    env={**os.environ, 'PYTHONPATH': str(ROOT), **environment},
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )


@pytest.mark.parametrize('case', CASES)
def test_mistakes_are_named(case, launch, tmp_path):
  script, flags, words = CASES[case]
  done = launch(script, *(flag.format(tmp=tmp_path) for flag in flags))
  assert done.returncode == 2, done.stderr
  message = done.stderr.strip().splitlines()[-1]
  assert 'Traceback' not in done.stderr
  for word in words:
    assert word.format(tmp=tmp_path) in done.stderr, message
  assert not list(tmp_path.iterdir())


def test_a_data_set_of_another_game_is_refused(
  atari_data_dir, launch, tmp_path
):
  done = launch(
    'train',
    '--config=configs/mtbc.py:smoke',
    f'--workdir={tmp_path}/run',
    f'--config.data.directory={atari_data_dir}',
    "--config.data.games=('Pong',)",
  )
  assert done.returncode == 2
  assert 'Pong' in done.stderr and 'Assault' in done.stderr
  assert 'Traceback' not in done.stderr


def test_random_play_is_evaluated(launch, tmp_path):
  output = tmp_path / 'random.jsonl'
  done = launch(
    'evaluate',
    '--games=Assault',
    '--rollouts=2',
    '--config.protocol.max_frames=200',
    f'--output={output}',
    '--noprogress',
  )
  assert done.returncode == 0, done.stderr
  assert len(output.read_text().splitlines()) == 2
  assert 'Assault: mean score' in done.stdout


@pytest.mark.slow
def test_a_game_is_learned_from_a_pretrained_run(
  atari_data_dir, launch, tmp_path
):
  """Pretrain on one game, adapt to another, and evaluate the best snapshot."""
  common = (f'--config.data.directory={atari_data_dir}', '--noprogress')
  pretrained = launch(
    'train',
    '--config=configs/jowa.py:smoke',
    "--config.data.games=('Assault',)",
    '--config.stages.stage1.steps=2',
    '--config.stages.stage2.steps=2',
    f'--workdir={tmp_path}/jowa',
    *common,
  )
  assert pretrained.returncode == 0, pretrained.stderr
  flags = (
    '--game=Carnival',
    f'--data={atari_data_dir}',
    f'--checkpoint={tmp_path}/jowa',
    '--noprogress',
  )
  wrong = launch(
    'finetune',
    '--config=configs/finetune.py:40m',
    f'--workdir={tmp_path}/wrong',
    *flags,
  )
  assert wrong.returncode == 2
  assert 'use --config=configs/finetune.py:smoke' in wrong.stderr
  assert 'backbone.width: was 32, now 512' in wrong.stderr
  assert not (tmp_path / 'wrong').exists()
  for run, more in (
    ('full', ('--quality=expert',)),
    ('lora', ('--config.adaptation.mode=lora',)),
  ):
    done = launch(
      'finetune',
      '--config=configs/finetune.py:smoke',
      f'--workdir={tmp_path}/{run}',
      *flags,
      *more,
    )
    assert done.returncode == 0, done.stderr
    assert 'play/Carnival: best' in done.stdout
    step = done.stdout.partition('--step=')[2].split()[0]
    evaluated = launch(
      'evaluate',
      f'--checkpoint={tmp_path}/{run}',
      f'--step={step}',
      '--games=Carnival',
      '--rollouts=1',
      '--config.protocol.max_frames=80',
      f'--output={tmp_path}/{run}.jsonl',
      '--noprogress',
    )
    assert evaluated.returncode == 0, evaluated.stderr


@pytest.mark.slow
def test_configs_and_the_home_directory_are_found_from_anywhere(tmp_path):
  """Where a folder's name would be a pattern, too."""
  home = tmp_path / 'lr=[1e-4]'
  (home / 'elsewhere').mkdir(parents=True)
  options = {'cwd': home / 'elsewhere', 'HOME': str(home)}
  done = _elsewhere(
    *('collect', '--config=configs/collect.py:smoke', '--noprogress'),
    *('--output=~/data/', '--config.games=ALE/Pong-v5'),
    *('--config.steps_per_checkpoint=40', '--config.num_processes=1'),
    **options,
  )
  assert done.returncode == 0, done.stderr
  assert not done.stderr
  # Libraries keep what they like in a home.
  assert sorted(home.glob('[!.]*')) == [home / 'data', home / 'elsewhere']
  done = _elsewhere('inspect_data', '--data=../data', **options)
  assert done.returncode == 0, done.stderr
  assert 'Pong' in done.stdout
  done = _elsewhere(
    *('prepare_data', '--source=ale', '--input=~/data', '--games=pong'),
    *('--output=~/prepared', '--noprogress'),
    # Nothing listens there, as behind the proxy of a cluster.
    **options,
    http_proxy='http://127.0.0.1:9',
    https_proxy='http://127.0.0.1:9',
  )
  assert done.returncode == 0, done.stderr
  assert not list((home / 'elsewhere').iterdir())
