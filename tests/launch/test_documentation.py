"""What READMEs say exists: files that they link to, scripts, flags, fields."""

import importlib
import pathlib
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET

import pytest
import yaml

from tests.launch import readmes

POD = readmes.ROOT / 'launch' / 'pod'


def _pod_commands(path):
  """(script, flags) of what a file of `launch/pod` starts."""
  text = ' '.join(re.sub(r'\\\n', ' ', path.read_text()).split('\n'))
  for script, rest in re.findall(
    r'python -m launch\.(\w+)((?: +--\S+)+)', text
  ):
    yield script, rest.split()


def _anchors(path: pathlib.Path) -> set[str]:
  headings = re.findall(r'^#+ (.*)$', path.read_text(), re.MULTILINE)
  return {
    re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')
    for heading in headings
  }


@pytest.mark.parametrize('readme', readmes.READMES, ids=str)
def test_links_lead_somewhere(readme):
  for link in re.findall(r'\]\(([^)]+)\)', readmes.text(readme)):
    if link.startswith('https://'):
      continue
    name, _, anchor = link.partition('#')
    path = readmes.ROOT / readme
    target = (path.parent / name).resolve() if name else path
    assert target.exists(), link
    if anchor:
      assert anchor in _anchors(target), link


def test_the_first_screen_is_short():
  assert len(readmes.text('README.md').splitlines()) <= 150


def test_commands_have_the_flags_that_are_written(launch):
  commands = [
    (command.script, [w for w in command.flags if w.startswith('--')])
    for readme in readmes.READMES
    for command in readmes.commands(readme)
    if command.script
  ]
  assert len(commands) > 40
  for path in [*POD.glob('*.sh'), *POD.glob('*.yaml')]:
    found = list(_pod_commands(path))
    assert found, path
    commands += found
  for script in sorted({script for script, _ in commands}):
    help_text = launch(script, '--helpxml').stdout
    flags = {
      name.text
      for name in ET.fromstring(help_text[help_text.index('<?xml') :]).iter(
        'name'
      )
    }
    for name, given in commands:
      if name != script:
        continue
      for flag in given:
        word = flag[2:].partition('=')[0]
        # Of a pipeline's runner, which the script hands on.
        known = word in flags or script == 'prepare_data' and word == 'runner'
        if word.startswith('config.'):
          known = _has_field(given, word.removeprefix('config.'), script)
        if word.startswith('no'):
          known = known or word.removeprefix('no') in flags
        assert known, f'launch.{script} {flag}'


def test_files_of_pods_can_be_read():
  for path in POD.glob('*.sh'):
    bash = [shutil.which('bash'), '-n', path]
    done = subprocess.run(bash, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ''), path
  for path in POD.glob('*.yaml'):
    read = yaml.safe_load(path.read_text())
    (job,) = read['spec']['replicatedJobs']
    (container,) = job['template']['spec']['template']['spec']['containers']
    # What bash is given is one line, which it can read.
    (line,) = container['args']
    assert '\n' not in line.strip()
    done = subprocess.run([shutil.which('bash'), '-n', '-c', line])
    assert done.returncode == 0, line


def _has_field(given, field, script) -> bool:
  """Whether a command's config has a field."""
  files = [f.removeprefix('--config=') for f in given if f[:9] == '--config=']
  # The default of a script is the file of its name.
  name, _, variant = (files or [f'configs/{script}.py'])[0].partition(':')
  module = importlib.import_module(name.removesuffix('.py').replace('/', '.'))
  config = module.get_config(*([variant] if variant else []))
  for part in field.split('.'):
    if part not in config:
      return False
    config = config[part]
  return True
