"""From a study's config to commands, checked; nothing is written."""

import dataclasses
import fnmatch
import json
import pathlib
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jowa_jax.configuration import ConfigError, build, differences
from jowa_jax.recipes.study.settings import CellConfig, Command, StudyConfig

# What is no part of a cell's work: changing it refuses nothing.
_INCIDENTAL = ('minutes',)
# config file and variant -> its fields, which can be set
ReadConfig = Callable[[str], Any]


class Step(NamedTuple):
  """One command of a cell."""

  name: str
  script: str
  arguments: tuple[str, ...]  # flags, as they are typed
  config: dict[str, Any] | None  # what its --config comes to
  minutes: float  # expected; 0: see `cost`

  def line(self, python: str = 'python') -> str:
    """The command as it is typed."""
    return shlex.join([python, '-m', f'launch.{self.script}', *self.arguments])


@dataclasses.dataclass(frozen=True)
class Cell:
  """One place in the table, and where it lies."""

  name: str
  config: CellConfig
  root: pathlib.Path
  steps: tuple[Step, ...]
  description: dict[str, Any]  # what may not change once it was begun

  @property
  def begun(self) -> pathlib.Path:
    """What the cell was begun as, JSON."""
    return self.root / 'cell.json'

  @property
  def done(self) -> pathlib.Path:
    """Seconds by command that is done, JSON."""
    return self.root / 'done.json'

  @property
  def log(self) -> pathlib.Path:
    """What its commands printed."""
    return self.root / 'log.txt'

  def results(self, agent: str) -> pathlib.Path:
    """The rollouts of one of `config.agents`."""
    return self.root / 'results' / f'{agent}.jsonl'

  def seconds(self) -> dict[str, float]:
    """How long each command took that is done."""
    return json.loads(self.done.read_text()) if self.done.exists() else {}

  def is_done(self) -> bool:
    return self.seconds().keys() >= {step.name for step in self.steps}


class Plan(NamedTuple):
  """All of a study, checked."""

  study: StudyConfig
  output: pathlib.Path
  cells: dict[str, Cell]  # those that others need come first

  def share(self, index: int, count: int) -> list[Cell]:
    """The cells of one of `count` machines, with all that they need.

    A cell goes where the one goes that it starts from. Shared cells go with
    those that need them.

    Args:
      index: of the machine, from 1.
      count: of machines.
    """
    roots = dict.fromkeys(
      self._root(name)
      for name, cell in self.cells.items()
      if not cell.config.shared
    )
    mine = {root for i, root in enumerate(roots) if i % count == index - 1}
    return self.with_needs(
      name
      for name, cell in self.cells.items()
      if not cell.config.shared and self._root(name) in mine
    )

  def matching(self, patterns: Sequence[str]) -> list[Cell]:
    """The cells whose names fit one of the patterns, with all that they need.

    Raises:
      ValueError: a pattern fits none.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
      names = fnmatch.filter(self.cells, pattern)
      if not names:
        raise ValueError(
          f'--cells={pattern}: no cell has such a name; there are '
          f'{", ".join(self.cells)}'
        )
      found |= dict.fromkeys(names)
    return self.with_needs(found)

  def with_needs(self, names) -> list[Cell]:
    """These cells and all that they need, in order."""
    wanted: set[str] = set()
    waiting = list(names)
    while waiting:
      name = waiting.pop()
      if name not in wanted:
        wanted.add(name)
        waiting += self.cells[name].config.needs
    return [cell for name, cell in self.cells.items() if name in wanted]

  def _root(self, name: str) -> str:
    """The first of what a cell starts from, itself if from nothing."""
    for need in self.cells[name].config.needs:
      if not self.cells[need].config.shared:
        return self._root(need)
    return name


def make_plan(
  config: Mapping[str, Any], output: pathlib.Path, read_config: ReadConfig
) -> Plan:
  """What a config asks for.

  Args:
    config: of `configs/study.py`.
    output: the study's directory.
    read_config: reads a config file of a command.

  Raises:
    ConfigError: a field does not fit.
  """
  study = build(StudyConfig, config, 'config')
  configs = {
    name: build(CellConfig, section, f'cells.{name}')
    for name, section in study.cells.items()
  }
  order = _in_order(configs)
  cells = {}
  for name in order:
    root = output / 'cells' / name
    places = {'study': str(output), 'cell': str(root), **study.places}
    steps = tuple(
      _step(command, configs[name], f'cells.{name}', places, read_config)
      for command in configs[name].commands['order']
    )
    cells[name] = Cell(
      name, configs[name], root, steps, _description(study.cells[name], steps)
    )
  return Plan(study, output, cells)


def check_begun(plan: Plan) -> None:
  """Raises ConfigError if a cell was begun as another, naming the fields."""
  changed = []
  for cell in plan.cells.values():
    if cell.begun.exists():
      was = json.loads(cell.begun.read_text())
      lines = differences(was, cell.description, f'cells.{cell.name}')
      changed += lines
  if changed:
    lines = '\n  '.join(changed[:20])
    raise ConfigError(
      f'{plan.output} holds cells that were begun otherwise; restore these '
      f'fields, remove the cells, or give another directory:\n  {lines}'
    )


def commands(cells: Sequence[Cell]) -> str:
  """What is left to do of cells, as a script of a shell."""
  lines = ['set -e']
  for cell in cells:
    seconds = cell.seconds()
    left = [step for step in cell.steps if step.name not in seconds]
    needs = ', '.join(cell.config.needs)
    if left:
      lines += ['', f'# {cell.name}' + (f', after {needs}' if needs else '')]
      lines += [step.line() for step in left]
  return '\n'.join(lines)


def _in_order(configs: Mapping[str, CellConfig]) -> list[str]:
  """The names, each after those that it needs."""
  order: dict[str, None] = {}

  def add(name: str, above: tuple[str, ...]) -> None:
    if name in above:
      raise ConfigError(f'cells.{name}.needs: it needs itself, by {above}')
    for need in configs[name].needs:
      if need not in configs:
        raise ConfigError(f'cells.{name}.needs: there is no cell {need!r}')
      add(need, (*above, name))
    order.setdefault(name)

  for name in configs:
    add(name, ())
  return list(order)


def _step(
  name: str,
  cell: CellConfig,
  where: str,
  places: Mapping[str, str],
  read_config: ReadConfig,
) -> Step:
  where = f'{where}.commands.{name}'
  command = build(Command, cell.commands[name], where)
  flags = _placed(command.flags, places)
  fields = _placed(command.set, places)
  config = None
  if 'config' in flags:
    try:
      read = read_config(flags['config'])
    except (ValueError, OSError) as error:
      raise ConfigError(f'{where}.flags.config: {error}') from error
    # Directories stay as they are named: a study may move, and be merged.
    _set_fields(read, _placed(command.set, {}), f'{where}.set')
    config = json.loads(json.dumps(read.to_dict()))
  arguments = [f'--{key}={value}' for key, value in flags.items()]
  for key, value in _flat(fields):
    arguments.append(f'--config.{key}={_typed(value)}')
  return Step(name, command.script, tuple(arguments), config, command.minutes)


def _placed(value: Any, places: Mapping[str, str]) -> Any:
  """The value with the directories that its texts name."""
  if isinstance(value, Mapping):
    return {key: _placed(inner, places) for key, inner in value.items()}
  if isinstance(value, list | tuple):
    return tuple(_placed(inner, places) for inner in value)
  if isinstance(value, str):
    for name, path in places.items():
      value = value.replace(f'{{{name}}}', path)
  return value


def _set_fields(config: Any, fields: Mapping[str, Any], where: str) -> None:
  """Sets fields of a ConfigDict as flags would.

  Raises:
    ConfigError: there is no such field, or it is of another type.
  """
  for name, value in fields.items():
    if name not in config:
      raise ConfigError(f'{where}.{name}: there is no such field')
    if isinstance(value, Mapping):
      _set_fields(config[name], value, f'{where}.{name}')
      continue
    try:
      config[name] = value
    except (TypeError, ValueError) as error:
      raise ConfigError(f'{where}.{name}: {error}') from error


def _typed(value: Any) -> str:
  """A value as it is typed, with quotes that a shell's leave room for."""
  if isinstance(value, tuple):
    return f'({"".join(f"{json.dumps(inner)}," for inner in value)})'
  return str(value)


def _flat(fields: Mapping[str, Any], prefix: str = ''):
  for name, value in fields.items():
    if isinstance(value, Mapping):
      yield from _flat(value, f'{prefix}{name}.')
    else:
      yield f'{prefix}{name}', value


def _description(
  section: Mapping[str, Any], steps: Sequence[Step]
) -> dict[str, Any]:
  """A cell as JSON holds it: its section, and what its configs come to."""

  def kept(value):
    if isinstance(value, Mapping):
      return {k: kept(v) for k, v in value.items() if k not in _INCIDENTAL}
    return value

  configs = {step.name: step.config for step in steps if step.config}
  return json.loads(json.dumps({**kept(section), 'configs': configs}))
