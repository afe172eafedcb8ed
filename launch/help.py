"""What --help and --print_config print."""

import ast
import dataclasses
import inspect
import io
import pathlib
import re
import shutil
import textwrap
import tokenize
from collections.abc import Iterator, Mapping
from typing import Any

from absl import flags

# Modules that define flags for several scripts, and what they are about.
_SHARED = {
  'launch.planner_flags': "How agents act, by method; else the agent's own way",
  'launch.training': 'The run',
  'launch.distributed': 'Several processes of one run',
}
ROOT = pathlib.Path(__file__).parent.parent
# A command of a docstring, whose lines Python has joined.
_EXAMPLE = re.compile(r'^python -m .*$', re.MULTILINE)
_NARROWEST, _WIDEST = 60, 100


def describe(script: str, text: str) -> str:
  """A script's purpose and example, its own flags, and those it shares.

  Args:
    script: module of its flags, '__main__' of a script that runs.
    text: its docstring.
  """
  modules = {script: 'Optional', **_SHARED}
  found = {
    title: flags.FLAGS.get_flags_for_module(module)
    for module, title in modules.items()
  }
  required = [f for some in found.values() for f in some if _is_required(f)]
  groups = [('Required', required)]
  groups += [
    (title, [flag for flag in some if flag not in required])
    for title, some in found.items()
  ]
  lines = [_EXAMPLE.sub(_in_lines, text.strip())]
  for title, some in groups:
    if some:
      lines += ['', f'{title}:']
      for flag in some:
        lines += _flag_lines(flag)
  if 'config' in flags.FLAGS:
    lines += [
      '',
      'Every field of the config is a flag, too: --config.seed=3. '
      '--print_config lists',
      'them with what they mean.',
    ]
  lines += ['', '--helpfull lists the flags of all libraries.']
  return '\n'.join(lines)


def _in_lines(example: re.Match) -> str:
  """An example with the ends of lines that its docstring has."""
  return re.sub(r' {2,}', ' \\\\\n  ', example[0])


def _is_required(flag: flags.Flag) -> bool:
  """Whether a script asks for a flag, by `mark_flags_as_required`."""
  return any(
    'must have a value' in str(getattr(validator, 'message', ''))
    for validator in flag.validators
  )


def _flag_lines(flag: flags.Flag) -> Iterator[str]:
  """The flag, its default and its meaning."""
  name = f'--[no]{flag.name}' if flag.boolean else f'--{flag.name}'
  if isinstance(flag, flags.EnumFlag):
    name += f'=<{"|".join(flag.parser.enum_values)}>'
  # absl puts the values of an enum before its meaning.
  text = (flag.help or '').rpartition('>: ')[2]
  if flag.boolean:
    default = 'yes' if flag.default else ''
  elif flag.default in (None, '', []):
    default = ''
  else:
    default = flag.default_as_str.strip("'").removeprefix(f'{ROOT}/')
  if default:
    text = f'{text} (default: {default})'
  yield f'  {name}'
  yield from textwrap.wrap(
    text, _width(), initial_indent=6 * ' ', subsequent_indent=6 * ' '
  )


def _width() -> int:
  return min(max(shutil.get_terminal_size().columns, _NARROWEST), _WIDEST)


def config_table(config: Mapping[str, Any], source: str) -> str:
  """All fields of a config, with their values and what they mean.

  Args:
    config: as nested dictionaries.
    source: its file; comments there say what its own fields mean.
  """
  said = meanings(config, pathlib.Path(source).read_text())
  rows = [(path, _shown(value), said[path]) for path, value in flat(config)]
  first = min(max(len(path) for path, _, _ in rows), 46)
  second = min(max(len(value) for _, value, _ in rows), 24)
  lines = []
  room = max(_width() - first - second - 4, 24)
  for path, value, meaning in [('field', 'value', 'meaning'), *rows]:
    cells = [
      textwrap.wrap(path, first) or [''],
      textwrap.wrap(value, second) or [''],
      textwrap.wrap(meaning, room) or [''],
    ]
    for i in range(max(map(len, cells))):
      a, b, c = (cell[i] if i < len(cell) else '' for cell in cells)
      lines.append(f'{a:{first}}  {b:{second}}  {c}'.rstrip())
    if path == 'field':
      lines.append('-' * min(_width(), first + second + room + 4))
  return '\n'.join(lines)


def meanings(config: Mapping[str, Any], source: str) -> dict[str, str]:
  """What the fields of a config mean, by dotted path; empty if untold.

  Args:
    config: as nested dictionaries.
    source: text of its file, whose comments count first.
  """
  classes, comments = _classes(config), _comments_of_config(source)
  return {path: _meaning(path, classes, comments) for path, _ in flat(config)}


def flat(
  section: Mapping[str, Any], prefix: str = ''
) -> Iterator[tuple[str, Any]]:
  """The fields of a config by dotted path."""
  for name, value in section.items():
    if isinstance(value, Mapping) and value:
      yield from flat(value, f'{prefix}{name}.')
    else:
      yield f'{prefix}{name}', value


def _shown(value: Any) -> str:
  if isinstance(value, list | tuple):
    return ', '.join(map(str, value)) or 'none'
  if value in (None, '') or value == {}:
    return '-'
  return str(value)


def _classes(config: Mapping[str, Any]) -> dict[str, type]:
  """The dataclasses that say what sections mean, by path; '*' is any name."""
  from jowa_jax.collect.online import OnlineConfig
  from jowa_jax.collect.policies import LookaheadConfig
  from jowa_jax.envs.protocol import Protocol
  from jowa_jax.methods.factory import METHODS
  from jowa_jax.recipes.finetuning import Finetune
  from jowa_jax.train.optimizer import OptimizerConfig
  from jowa_jax.train.settings import TrainingConfig

  classes = {
    'protocol': Protocol,
    'online': OnlineConfig,
    'search': LookaheadConfig,
    'finetune': Finetune,
    'finetune.tokenizer': OptimizerConfig,
    'stages.*.*': OptimizerConfig,
  }
  entry = METHODS.get(config.get('method'))
  for cls in filter(None, (TrainingConfig, entry and entry.config)):
    for field, hint in inspect.get_annotations(cls, eval_str=True).items():
      if dataclasses.is_dataclass(hint):
        classes[field] = hint
  return classes


def _meaning(
  path: str, classes: Mapping[str, type], comments: Mapping[str, str]
) -> str:
  # A config's own fields, as they are otherwise from scratch or without
  # parameters of the checkpoint.
  path = re.sub(r'^finetune\.(scratch|without\.\w+)\.', '', path)
  section, _, name = path.rpartition('.')
  if path in comments:
    return comments[path]
  for pattern, cls in classes.items():
    wanted = re.escape(pattern).replace(r'\*', r'\w+')
    if re.fullmatch(wanted, section):
      return _of_class(cls).get(name, '')
  return {
    'steps': 'of this stage',
    'parts': 'objectives of this stage, in the order of their updates',
    'order': 'in which they come',
    'method': 'what is trained',
  }.get(name, '')


def _of_class(cls: type) -> dict[str, str]:
  """What a dataclass says of its fields: in its docstring, or beside them."""
  found = {}
  for base in cls.__bases__:
    if dataclasses.is_dataclass(base):
      found |= _of_class(base)
  # Its own docstring, not one that it inherits.
  attributes = inspect.cleandoc(vars(cls)['__doc__'] or '').partition(
    'Attributes:\n'
  )[2]
  for entry in re.split(r'\n(?=\w)', textwrap.dedent(attributes)):
    name, colon, text = entry.strip().partition(':')
    if colon and name.isidentifier():
      found[name] = ' '.join(text.split())
  source = textwrap.dedent(inspect.getsource(cls))
  comments = _comments(source)
  for node in ast.parse(source).body[0].body:
    if isinstance(node, ast.AnnAssign) and (text := _beside(node, comments)):
      found.setdefault(node.target.id, text)
  return found


def _comments_of_config(source: str) -> dict[str, str]:
  """Comments of a config file by the path of the field that they are beside."""
  comments, found = _comments(source), {}
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Assign) and isinstance(
      node.targets[0], ast.Attribute
    ):
      names = ast.unparse(node.targets[0]).partition('config.')[2]
      if names:
        if text := _beside(node, comments):
          found.setdefault(names, text)
        for keyword in _keywords(node.value):
          if text := _beside(keyword, comments):
            found.setdefault(f'{names}.{keyword.arg}', text)
  return found


def _keywords(node: ast.AST) -> Iterator[ast.keyword]:
  """Of `dict(...)` calls within."""
  for inner in ast.walk(node):
    if isinstance(inner, ast.Call) and ast.unparse(inner.func) == 'dict':
      yield from inner.keywords


def _comments(source: str) -> dict[int, tuple[str, bool]]:
  """Comments by line, and whether each has its line for itself."""
  found = {}
  for token in tokenize.generate_tokens(io.StringIO(source).readline):
    if token.type == tokenize.COMMENT:
      alone = not token.line[: token.start[1]].strip()
      found[token.start[0]] = token.string.lstrip('# '), alone
  return found


def _beside(node: ast.AST, comments: Mapping[int, tuple[str, bool]]) -> str:
  """The comment after a node on its line, or that above it."""
  for line in (node.lineno, node.end_lineno):
    if line in comments and not comments[line][1]:
      return comments[line][0]
  above, line = [], node.lineno - 1
  while line in comments and comments[line][1]:
    above.insert(0, comments[line][0])
    line -= 1
  return ' '.join(above)
