"""What READMEs say exists: files that they link to, scripts, flags, fields."""

import importlib
import pathlib
import re
import shlex
import xml.etree.ElementTree as ET

import pytest

ROOT = pathlib.Path(__file__).parents[2]
READMES = sorted(
  path.relative_to(ROOT)
  for folder in ('jowa_jax', 'configs', 'launch', 'tests')
  for path in (ROOT / folder).rglob('README.md')
) + [pathlib.Path('README.md')]


def _text(readme) -> str:
  return (ROOT / readme).read_text()


def _commands():
  """(script, flags) of every command that starts a script, in any README."""
  found = []
  for readme in READMES:
    for block in re.findall(r'```bash\n(.*?)```', _text(readme), re.DOTALL):
      for line in block.replace('\\\n', ' ').splitlines():
        for part in re.split(r'&&|;(?! )', line):
          start = re.search(r'python -m launch\.(\w+)(.*)', part)
          if start:
            words = shlex.split(start[2], comments=True)
            found.append((start[1], [w for w in words if w.startswith('--')]))
  return found


def _anchors(path: pathlib.Path) -> set[str]:
  headings = re.findall(r'^#+ (.*)$', path.read_text(), re.MULTILINE)
  return {
    re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')
    for heading in headings
  }


@pytest.mark.parametrize('readme', READMES, ids=str)
def test_links_lead_somewhere(readme):
  for link in re.findall(r'\]\(([^)]+)\)', _text(readme)):
    if link.startswith('https://'):
      continue
    name, _, anchor = link.partition('#')
    target = (
      ((ROOT / readme).parent / name).resolve() if name else ROOT / readme
    )
    assert target.exists(), link
    if anchor:
      assert anchor in _anchors(target), link


def test_the_first_screen_is_short():
  assert len(_text('README.md').splitlines()) <= 150


def test_commands_have_the_flags_that_are_written(launch):
  commands = _commands()
  assert len(commands) > 40
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


def _has_field(given, field, script) -> bool:
  """Whether a command's config has a field."""
  files = [f.removeprefix('--config=') for f in given if f[:9] == '--config=']
  default = {'collect': 'configs/collect.py', 'evaluate': 'configs/evaluate.py'}
  name, _, variant = (files or [default[script]])[0].partition(':')
  module = importlib.import_module(name.removesuffix('.py').replace('/', '.'))
  config = module.get_config(*([variant] if variant else []))
  for part in field.split('.'):
    if part not in config:
      return False
    config = config[part]
  return True
