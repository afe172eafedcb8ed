"""What a user mistypes ends in one clear line and changes nothing on disk."""

import pytest

from tests.launch.mistakes import CASES


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
