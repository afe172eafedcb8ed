"""Every command of every README does, at smoke size, what it says it does.

What makes it small, and what it begins with, stands in `smoke.py`.
"""

import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from jowa_jax.collect import recordings
from tests.launch import readmes, served, smoke
from tests.train import helpers

# Which flags name what is read, and what is there afterwards.
_READ = (
  *('checkpoint', 'data', 'input', 'model', 'pictures', 'replay', 'results'),
  *('teacher', 'tokenizer', 'config.data.directory', 'config.players'),
)
_WRITTEN = (
  *('json', 'output', 'output_model', 'output_tokenizer', 'picture', 'record'),
  *('scores', 'workdir'),
)
# What these begin is not run, whatever follows.
NOT_RUN = {
  'python3 -m venv': 'installs: .ci/run does, by the same command',
  'pip install': 'installs, from the internet',
  'python -m pytest': 'these tests themselves',
  'minari download': 'from the internet',
}
_COMMANDS = {readme: readmes.commands(readme) for readme in readmes.READMES}
# The program of the first README stands in another, too; that of methods is a
# sketch.
_PYTHON = {
  readme: blocks
  for readme in readmes.READMES
  if (blocks := readmes.blocks(readme, 'python'))
  and str(readme) not in ('launch/README.md', 'jowa_jax/methods/README.md')
}
# Agents and recordings that come with the package.
_PACKAGED = {'pretrained', *recordings.packaged()}


def _runs(command) -> bool:
  """Whether a command is run here."""
  needed = smoke.NEEDS.get(command.script)
  if needed and not importlib.util.find_spec(needed):
    return False
  return not str(command).startswith(tuple(NOT_RUN))


def test_all_others_are_run():
  found = [command for some in _COMMANDS.values() for command in some]
  others = [c for c in found if _runs(c) and not c.script]
  assert {c.words[:2] for c in others} == {('python', '-c'), ('rm', '-r')}
  for words in NOT_RUN:
    assert any(str(command).startswith(words) for command in found), words


def _named(words, flags):
  """The paths that some flags name."""
  for word in words:
    name, _, value = word.removeprefix('--').partition('=')
    if name in flags and word.startswith('--'):
      yield from value.split(',')


def _written(words):
  """What is there afterwards: of a shard, a file of its own."""
  shard = dict(word.split('=', 1) for word in words if '=' in word).get(
    '--shard'
  )
  for name in _named(words, _WRITTEN):
    path = pathlib.Path(name)
    if shard and path.suffix:
      path = path.with_suffix(f'.{shard.replace("/", "of")}{path.suffix}')
    yield path


@pytest.mark.slow
@pytest.mark.parametrize(
  'readme',
  [readme for readme, found in _COMMANDS.items() if any(map(_runs, found))],
  ids=str,
)
def test_commands_do_what_they_say(readme, launch, request, tmp_path):
  for command in _COMMANDS[readme]:
    if not _runs(command):
      continue
    words = smoke.small(command)
    # Of other scripts it says which runs of a game.
    read = (*_READ, 'runs') if command.script == 'report' else _READ
    for name in {*_named(words, read)} - _PACKAGED:
      if not (tmp_path / name).exists():
        smoke.provide(name, tmp_path, request.getfixturevalue, launch)
    done = _run(command, words, launch, tmp_path)
    refusal = smoke.refusal(command)
    if done.returncode == 2 and refusal and refusal in done.stderr:
      continue
    assert done.returncode == 0, f'{command}\n{done.stderr[-3000:]}'
    for path in _written(words):
      assert (tmp_path / path).exists(), f'{command}\nleaves no {path}'


def _run(command, words, launch, folder):
  """How a command ends that is run in a folder."""
  if command.script == 'play':
    return served.visit(words, folder)
  if command.script:
    return launch(command.script, *words, cwd=folder)
  if command.words[0] == 'python':
    home = {'HOME': os.fspath(folder)}
    environment = {**helpers.script_env(), **command.environment, **home}
    return _python(command.words[2], folder, environment)
  (path,) = (re.sub(*smoke.OF_OTHERS, word) for word in command.words[2:])
  # Fails if nothing is there.
  shutil.rmtree(folder / path)
  return subprocess.CompletedProcess(command.words, 0)


def _python(code, folder, environment):
  return subprocess.run(
    [sys.executable, '-c', code],
    cwd=folder,
    env=environment,
    capture_output=True,
    text=True,
  )


@pytest.mark.slow
@pytest.mark.parametrize('readme', _PYTHON, ids=str)
def test_python_runs(readme, tmp_path):
  for block in _PYTHON[readme]:
    done = _python(block, tmp_path, helpers.script_env())
    assert done.returncode == 0, f'{block}\n{done.stderr[-3000:]}'
