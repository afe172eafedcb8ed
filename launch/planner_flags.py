"""The flags of scripts that act with a trained agent: its methods' options."""

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from typing import Any

from absl import flags

from jowa_jax.methods.factory import METHODS

_DEFINE = {
  int: flags.DEFINE_integer,
  float: flags.DEFINE_float,
  str: flags.DEFINE_string,
  bool: flags.DEFINE_bool,
}


def _define(field: dataclasses.Field, hint: Any) -> flags.FlagHolder:
  """The flag of an option, which is None unless it is given."""
  if isinstance(hint, types.UnionType):
    (hint,) = (arg for arg in typing.get_args(hint) if arg is not type(None))
  text, choices = field.metadata['flag'], field.metadata['choices']
  if choices:
    return flags.DEFINE_enum(field.name, None, choices, text)
  return _DEFINE[hint](field.name, None, text)


def _define_all() -> dict[str, flags.FlagHolder]:
  """One flag for every name; options of a name are of one type."""
  found = {}
  for entry in METHODS.values():
    hints = typing.get_type_hints(entry.acting)
    for field in dataclasses.fields(entry.acting):
      if 'flag' in field.metadata and field.name not in found:
        found[field.name] = _define(field, hints[field.name])
  return found


_FLAGS = _define_all()


def planner_options(checkpoint: str | None) -> dict[str, Any]:
  """The options of `Agent.policy` that were given.

  Args:
    checkpoint: of the agent; None for random play.

  Raises:
    ValueError: options do not go together in any method, or there is no agent.
  """
  options = {
    name: flag.value for name, flag in _FLAGS.items() if flag.value is not None
  }
  _check(options)
  if options and checkpoint is None:
    raise ValueError(f'--{next(iter(options))} needs a --checkpoint')
  return options


def _check(options: Mapping[str, Any]) -> None:
  """Raises ValueError, before an agent is loaded, if no method takes them."""
  errors = []
  for entry in METHODS.values():
    try:
      entry.acting.of(options)
      return
    except (TypeError, ValueError) as error:
      errors.append(error)
  # Of the method that knows the options, if there is one.
  errors.sort(key=lambda error: isinstance(error, TypeError))
  given = re.compile(rf'\b({"|".join(_FLAGS)})=')
  raise ValueError(given.sub(r'--\1=', str(errors[0])))
