"""What --help and --print_config say."""

import importlib
import pathlib

import pytest

from launch import help as help_lib

ROOT = pathlib.Path(__file__).parents[2]
SCRIPTS = sorted(
  path.stem
  for path in (ROOT / 'launch').glob('*.py')
  if "__name__ == '__main__'" in path.read_text()
)


def _check_help(script, launch):
  done = launch(script, '--help')
  assert done.returncode == 0, done.stderr
  text = done.stdout
  assert f'python -m launch.{script} ' in text
  # Nothing of the libraries, and no line that Python has joined.
  assert '--verbosity' not in text
  assert all(len(line) <= 100 for line in text.splitlines())
  return text


def test_help_begins_with_a_scripts_own_flags(launch):
  text = _check_help('finetune', launch)
  places = [
    text.index(words)
    for words in (
      'Required:',
      '\n  --workdir\n',
      'Optional:',
      '\n  --checkpoint\n',
      'The run:',
      '--[no]accept_changes',
      'Several processes of one run:',
      '--print_config lists',
    )
  ]
  assert places == sorted(places)
  assert '--quality=<expert|suboptimal|highly_suboptimal>\n' in text
  assert ' \\\n  --' in text


@pytest.mark.slow
@pytest.mark.parametrize('script', SCRIPTS)
def test_every_script_has_help_with_an_example(script, launch):
  _check_help(script, launch)


def test_a_config_is_printed_without_what_running_needs(launch, tmp_path):
  done = launch(
    'train',
    '--config=configs/mgdt.py:smoke',
    '--config.run.seed=7',
    '--print_config',
  )
  assert done.returncode == 0, done.stderr
  (seed,) = [x for x in done.stdout.splitlines() if x.startswith('run.seed ')]
  assert seed.split()[1] == '7' and 'initialisation' in seed
  assert 'stages.policy.policy.learning_rate' in done.stdout
  refused = launch('train', '--print_config', f'--workdir={tmp_path}/run')
  assert refused.returncode == 2 and '--config' in refused.stderr


@pytest.mark.parametrize(
  ('name', 'variant'),
  [
    *((name, 'smoke') for name in ('jowa', 'mtbc', 'mgdt', 'edt', 'ficc')),
    *(('scaled_ql', 'smoke'), ('finetune', 'smoke'), ('collect', 'smoke')),
    *(('finetune_online', 'smoke'), ('evaluate', 'sticky'), ('small', 'jowa')),
  ],
)
def test_fields_have_meanings(name, variant):
  module = importlib.import_module(f'configs.{name}')
  config = module.get_config(variant).to_dict()
  flat = [path for path, _ in help_lib.flat(config)]
  meanings = help_lib.meanings(config, (ROOT / module.__file__).read_text())
  # Widths of beams by game, and the rules of a mesh, speak for themselves.
  silent = [
    path
    for path in flat
    if not meanings[path] and not path.startswith(('games.', 'mesh.'))
  ]
  assert not silent
