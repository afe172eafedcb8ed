"""What pip installs works by itself, from any directory."""

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def _run(*command, **options):
  done = subprocess.run(
    [*map(str, command)], capture_output=True, text=True, **options
  )
  assert done.returncode == 0, done.stderr
  return done


@pytest.fixture(scope='module')
def python(tmp_path_factory):
  """An environment with the wheel, which finds the libraries of this one."""
  folder = tmp_path_factory.mktemp('wheel')
  _run(sys.executable, '-m', 'venv', folder / 'env')
  python = folder / 'env' / 'bin' / 'python'
  # A copy, because a build leaves its folders behind.
  source = folder / 'source'
  ignored = shutil.ignore_patterns('.*', 'build', '*.egg-info', 'runs')
  shutil.copytree(ROOT, source, ignore=ignored)
  # pip builds the wheel with a setuptools of its own, which it gets.
  _run(python, '-m', 'pip', 'wheel', '--no-deps', '-w', folder, source)
  (wheel,) = folder.glob('*.whl')
  _run(python, '-m', 'pip', 'install', '--no-deps', wheel)
  where = 'import sysconfig; print(sysconfig.get_path("purelib"))'
  packages = pathlib.Path(_run(python, '-c', where).stdout.strip())
  libraries = sysconfig.get_path('purelib')
  (packages / 'libraries.pth').write_text(libraries)
  return python


@pytest.mark.slow
def test_the_quickstart_of_an_installed_package(python, tmp_path):
  environment = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
  here = dict(cwd=tmp_path, env=environment)
  where = 'import jowa_jax; print(jowa_jax.__file__)'
  assert str(ROOT) not in _run(python, '-c', where, **here).stdout
  _run(
    *(python, '-m', 'launch.quickstart', '--noprogress'),
    *('--config=configs/quickstart.py:smoke', '--workdir=smoke'),
    **here,
  )
  assert (tmp_path / 'smoke' / 'report' / 'index.html').is_file()
  # A run knows where its data are, wherever it is looked at from.
  (tmp_path / 'elsewhere').mkdir()
  here['cwd'] = tmp_path / 'elsewhere'
  _run(
    *(python, '-m', 'launch.judge', '--checkpoint=../smoke/jowa'),
    '--output=judged',
    **here,
  )
  assert (here['cwd'] / 'judged' / 'model_quality.json').is_file()
