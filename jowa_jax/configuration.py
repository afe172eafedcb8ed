"""From config sections to the dataclasses that hold the sizes.

A section is a field that is a dataclass itself. A field that is unknown,
missing or of the wrong type is an error that names it, so that no field of a
config is ever ignored.
"""

import dataclasses
import json
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

T = TypeVar('T')


class ConfigError(ValueError):
  """A config that cannot be used; the message names the field."""


def build(cls: type[T], section: Mapping[str, Any], where: str = '') -> T:
  """`cls` filled from a section of a config.

  Args:
    cls: a dataclass of numbers, strings, bools, tuples and such dataclasses.
    section: a mapping (a ConfigDict, or a dict read from JSON).
    where: the section's name, for messages; empty for a whole config.

  Raises:
    ConfigError: an unknown or missing field, a wrong type, or a value that
      `cls` refuses.
  """
  fields = dataclasses.fields(cls)
  hints = typing.get_type_hints(cls)
  check_names(
    section,
    required=[field.name for field in fields if not _is_optional(field)],
    optional=[field.name for field in fields if _is_optional(field)],
    where=where,
  )
  values = {
    name: _convert(section[name], hints[name], _path(where, name))
    for name in section
  }
  try:
    return cls(**values)
  except ValueError as error:
    raise ConfigError(f'{where}: {error}' if where else str(error)) from error


def check_names(
  section: Mapping[str, Any],
  required: Collection[str],
  optional: Collection[str] = (),
  where: str = '',
) -> None:
  """Checks which fields a section has.

  Args:
    section: of a config.
    required: the fields that it must have.
    optional: those that it may have, too.
    where: its name, for messages; empty for a whole config.

  Raises:
    ConfigError: an unknown or missing field.
  """
  names = sorted({*required, *optional})
  for name in sorted(set(section) - set(names)):
    raise ConfigError(
      f'Unknown field {_path(where, name)}; {where or "a config"} has {names}'
    )
  for name in required:
    if name not in section:
      raise ConfigError(f'Missing field {_path(where, name)}')


def with_defaults(cls: type, section: Mapping[str, Any]) -> dict[str, Any]:
  """A section and, as JSON holds them, the defaults it leaves out.

  Args:
    cls: a dataclass, whose fields without a default are not added.
    section: of a config; it is not checked.
  """
  hints = typing.get_type_hints(cls)
  completed = dict(section)
  for field in dataclasses.fields(cls):
    if dataclasses.is_dataclass(hints[field.name]):
      completed[field.name] = with_defaults(
        hints[field.name], section.get(field.name, {})
      )
    elif field.default is not dataclasses.MISSING:
      default = json.loads(json.dumps(field.default))
      completed.setdefault(field.name, default)
  return completed


def fill(section: dict[str, Any], name: str, value: Any, where: str, of: str):
  """Sets a field of `section` that must not have been set by hand.

  Args:
    section: of a config.
    name: of the field, which is empty.
    value: of the field.
    where: the section's name, for messages.
    of: who fills it, and from what.

  Raises:
    ConfigError: the field was set.
  """
  if section[name]:
    raise ConfigError(
      f'{where}.{name}={section[name]!r}: {of}, so leave it empty'
    )
  section[name] = value


def _is_optional(field: dataclasses.Field) -> bool:
  return (
    field.default is not dataclasses.MISSING
    or field.default_factory is not dataclasses.MISSING
  )


def _path(where: str, name: str) -> str:
  return f'{where}.{name}' if where else name


def _convert(value: Any, hint: Any, where: str) -> Any:
  """Checks a value against a type; ints pass for floats, lists for tuples."""
  if dataclasses.is_dataclass(hint):
    # A ConfigDict is no Mapping.
    if hasattr(value, 'keys'):
      return build(hint, value, where)
    raise ConfigError(f'{where} must be a section, got {value!r}')
  origin, args = typing.get_origin(hint), typing.get_args(hint)
  if origin in (typing.Union, types.UnionType):
    if value is None and type(None) in args:
      return None
    (hint,) = (arg for arg in args if arg is not type(None))
    return _convert(value, hint, where)
  if origin is tuple:
    if isinstance(value, list | tuple):
      return tuple(_convert(item, args[0], where) for item in value)
  elif hint is float:
    if isinstance(value, int | float) and not isinstance(value, bool):
      return float(value)
  elif hint is int:
    if isinstance(value, int) and not isinstance(value, bool):
      return value
  elif isinstance(value, hint):
    return value
  name = getattr(hint, '__name__', str(hint))
  raise ConfigError(f'{where} must be {name}, got {value!r}')


def differences(old: Any, new: Any, where: str = '') -> list[str]:
  """One line per field in which two nested mappings differ."""
  if isinstance(old, Mapping) and isinstance(new, Mapping):
    lines = []
    for key in sorted(old.keys() | new.keys()):
      inner = _path(where, str(key))
      lines += differences(old.get(key), new.get(key), inner)
    return lines
  return [] if old == new else [f'{where}: was {old!r}, now {new!r}']
