"""The commands of READMEs, as a shell would start them."""

import pathlib
import re
import shutil
import subprocess
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[2]
READMES = sorted(
  path.relative_to(ROOT)
  for folder in ('jowa_jax', 'configs', 'launch', 'tests')
  for path in (ROOT / folder).rglob('README.md')
) + [pathlib.Path('README.md')]
# What READMEs start. Bash itself expands their variables and loops, finds these
# functions in place of programs, which write down what they are given, and
# nothing else.
_PROGRAMS = ('python', 'python3', 'pip', 'minari', 'rm')
_PRELUDE = """set -e
_record() {
  local name
  for name in $(compgen -e); do
    case $name in _ | OLDPWD | PATH | PWD | SHLVL) ;;
    *) printf '%s=%s\\0' "$name" "${!name}" ;; esac
  done
  printf '%s\\0' "$@" ''
}
"""
_PRELUDE += ''.join(f'{p}() {{ _record {p} "$@"; }}\n' for p in _PROGRAMS)
# What stands for something else.
_PLACES = (('.venv/bin/', ''), ('[,<Game>...]', ''), ('<Game>', 'Freeway'))


class Command(NamedTuple):
  """A program and its arguments, and what the environment tells it."""

  words: tuple[str, ...]
  environment: dict[str, str]

  def __str__(self) -> str:
    return ' '.join(self.words)

  @property
  def script(self) -> str:
    """The script of `launch/` that it starts; empty if it starts another."""
    name = re.match(r'python -m launch\.(\w+)', str(self))
    return name[1] if name else ''

  @property
  def flags(self) -> tuple[str, ...]:
    """The arguments of its script."""
    return self.words[3:]


def text(readme) -> str:
  return (ROOT / readme).read_text()


def blocks(readme, language: str) -> list[str]:
  """What a README has in a language."""
  return re.findall(rf'```{language}\n(.*?)```', text(readme), re.DOTALL)


def commands(readme) -> list[Command]:
  """All commands of a README, in the order in which they are started.

  Raises:
    AssertionError: bash cannot read them, or there is a program that is none of
      those known here.
  """
  written = '\n'.join(blocks(readme, 'bash'))
  for place, name in _PLACES:
    written = written.replace(place, name)
  done = subprocess.run(
    [shutil.which('bash'), '--noprofile', '--norc', '-c', _PRELUDE + written],
    env={'PATH': '/none'},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, f'{readme}: {done.stderr}'
  found = []
  for record in done.stdout.split('\0\0')[:-1]:
    words, environment = record.split('\0'), {}
    while '=' in words[0]:
      name, _, value = words.pop(0).partition('=')
      environment[name] = value
    found.append(Command(tuple(words), environment))
  return found
