"""Methods by name, and by config.

A new method is a line in `METHODS`: the dataclass of its config's sections,
what makes it of them, and how it can act. Whatever else a config holds is the
trainer's.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jowa_jax.configuration import ConfigError, build, with_defaults
from jowa_jax.games import parse_games
from jowa_jax.methods import adaptation
from jowa_jax.methods.acting import Acting
from jowa_jax.methods.adaptation import LORA, AdaptationConfig, merge
from jowa_jax.methods.base import Method, Variables
from jowa_jax.methods.edt import EdtConfig, make_edt
from jowa_jax.methods.edt_policy import EdtActing
from jowa_jax.methods.ficc import FiccActing, FiccConfig, make_ficc
from jowa_jax.methods.jowa import JowaConfig, make_jowa
from jowa_jax.methods.jowa_policy import JowaActing
from jowa_jax.methods.mgdt import MgdtConfig, make_mgdt
from jowa_jax.methods.mgdt_policy import MgdtActing
from jowa_jax.methods.mtbc import MtbcActing, MtbcConfig, make_mtbc
from jowa_jax.methods.scaled_ql import (
  ScaledQlActing,
  ScaledQlConfig,
  make_scaled_ql,
)


class Entry(NamedTuple):
  """A method that a config can name.

  Attributes:
    config: a frozen dataclass, whose fields are the sections of its configs.
      Its `MODEL` names those that weights depend on: their shapes, and what
      outputs mean.
    make: (config) -> Method; or (config, games) if it is `per_game`.
    acting: the options of its policy.
    per_game: whether it has rows for the games of the run alone, those of
      `data.games`, and not for all that there are.
  """

  config: type
  make: Callable[..., Method]
  acting: type[Acting]
  per_game: bool = False


METHODS: dict[str, Entry] = {
  'jowa': Entry(JowaConfig, make_jowa, JowaActing),
  'mtbc': Entry(MtbcConfig, make_mtbc, MtbcActing),
  'mgdt': Entry(MgdtConfig, make_mgdt, MgdtActing),
  'edt': Entry(EdtConfig, make_edt, EdtActing),
  'ficc': Entry(FiccConfig, make_ficc, FiccActing),
  'scaled_ql': Entry(
    ScaledQlConfig, make_scaled_ql, ScaledQlActing, per_game=True
  ),
}


# Of the sections of models: how weights begin, are trained and computed with.
INCIDENTAL = frozenset(
  {
    'dropout',
    'attention_dropout',
    'fused_attention',
    'remat',
    'init_scale',
    'dtype',
  }
)


def _entry(config: Mapping[str, Any]) -> Entry:
  name = config.get('method')
  if name not in METHODS:
    raise ConfigError(f'method={name!r} is not one of {sorted(METHODS)}')
  return METHODS[name]


def sections(config: Mapping[str, Any]) -> tuple[str, ...]:
  """The sections that a config's method reads.

  Raises:
    ConfigError: an unknown method.
  """
  fields = dataclasses.fields(_entry(config).config)
  return tuple(field.name for field in fields)


def model_sections(config: Mapping[str, Any]) -> tuple[str, ...]:
  """The sections of a config that the weights of its agent depend on.

  Raises:
    ConfigError: an unknown method.
  """
  return _entry(config).config.MODEL


def model_of(config: Mapping[str, Any]) -> dict[str, Any]:
  """What weights depend on: shapes, and what outputs mean.

  Args:
    config: with the sections of `model_sections`, complete.

  Returns:
    By section, all fields but those of `INCIDENTAL`; and the method's name.

  Raises:
    ConfigError: an unknown method.
  """
  fields = {
    section: {k: v for k, v in config[section].items() if k not in INCIDENTAL}
    for section in model_sections(config)
  }
  return {'method': config['method'], **fields}


def acting_options(config: Mapping[str, Any]) -> type[Acting]:
  """The options that the policy of a config's method takes.

  Raises:
    ConfigError: an unknown method.
  """
  return _entry(config).acting


def method_config(config: Mapping[str, Any]) -> Any:
  """A config's sections of its method, as the entry's dataclass.

  Args:
    config: a resolved training config, or the JSON saved beside a run.

  Raises:
    ConfigError: an unknown method, or a section that does not fit.
  """
  names = [name for name in sections(config) if name in config]
  return build(_entry(config).config, {name: config[name] for name in names})


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
  """A config with the defaults of fields its method's sections lack.

  Args:
    config: such as one that was saved before there were some of the fields.
  """
  if config.get('method') not in METHODS:
    return dict(config)
  return with_defaults(_entry(config).config, config)


def make_method(config: Mapping[str, Any], to_train: bool = False) -> Method:
  """The method a config describes.

  Args:
    config: see `method_config`.
    to_train: whether the files that only training reads must be there.

  Raises:
    ConfigError: an unknown method, a section that does not fit, or a file
      that is not there.
    ValueError: sections that do not fit each other.
  """
  entry, read = _entry(config), method_config(config)
  if entry.per_game:
    # A config that is yet to be filled in names none.
    names = config['data']['games']
    games = parse_games(names) if names else ()
    method = entry.make(read, games)
  else:
    method = entry.make(read)
  for field, path in method.files.items():
    if to_train and not pathlib.Path(path).is_file():
      raise ConfigError(f'{field}: {path} is no file')
  return method


def adaptation_config(config: Mapping[str, Any]) -> AdaptationConfig:
  """Which parameters are trained; all, where nothing is said."""
  name = adaptation.SECTION
  return build(AdaptationConfig, config.get(name, {}), name)


def without_adapters(
  config: Mapping[str, Any], variables: Variables
) -> tuple[Method, Variables]:
  """What a config describes with its adapters, if any, merged.

  Args:
    config: see `method_config`.
    variables: of its method.
  """
  if LORA in variables.params:
    variables = merge(adaptation_config(config), variables)
  return make_method(adaptation.without(config)), variables
