"""Config sections become dataclasses, or an error that names the field."""

import dataclasses

import ml_collections
import pytest

from jowa_jax.configuration import (
  ConfigError,
  build,
  differences,
  with_defaults,
)


@dataclasses.dataclass(frozen=True)
class Sizes:
  width: int
  rate: float = 0.5
  name: str = 'a'
  flag: bool = False
  factors: tuple[int, ...] = (1, 2)
  runs: tuple[int, ...] | None = None
  file: str | None = None

  def __post_init__(self):
    if self.width < 1:
      raise ValueError(f'width={self.width} is not positive')


def test_fills_and_converts():
  built = build(Sizes, {'width': 3, 'rate': 2, 'factors': [7, 2]}, 'sizes')
  assert built == Sizes(width=3, rate=2.0, factors=(7, 2))
  assert isinstance(built.rate, float) and isinstance(built.factors, tuple)
  assert build(Sizes, {'width': 3}, 'sizes') == Sizes(3)


def test_takes_config_dicts_and_optional_values():
  section = ml_collections.ConfigDict(
    {'width': 3, 'runs': (1, 2), 'file': None}
  )
  assert build(Sizes, section, 'sizes') == Sizes(3, runs=(1, 2))


@pytest.mark.parametrize(
  ('field', 'value', 'wanted'),
  [
    ('width', '3', 'int'),
    ('width', 3.0, 'int'),
    ('width', True, 'int'),
    ('width', None, 'int'),
    ('rate', '0.5', 'float'),
    ('rate', False, 'float'),
    ('name', 3, 'str'),
    ('flag', 1, 'bool'),
    ('factors', 7, 'tuple'),
    ('factors', ('7',), 'int'),
    ('factors', 'ab', 'tuple'),
    ('runs', (1, 2.5), 'int'),
    ('runs', 3, 'tuple'),
    ('file', 3, 'str'),
  ],
)
def test_wrong_type_names_field_type_and_value(field, value, wanted):
  with pytest.raises(ConfigError) as raised:
    build(Sizes, {'width': 3, field: value}, 'sizes')
  message = str(raised.value)
  assert f'sizes.{field} must be {wanted}' in message
  last = value[-1] if isinstance(value, tuple) else value
  assert repr(last) in message


def test_unknown_and_missing_fields_are_named():
  with pytest.raises(ConfigError, match=r"Unknown field sizes.widht;.*'width'"):
    build(Sizes, {'width': 3, 'widht': 3}, 'sizes')
  with pytest.raises(ConfigError, match='Missing field sizes.width'):
    build(Sizes, {'rate': 1.0}, 'sizes')


def test_value_that_the_dataclass_refuses_names_the_section():
  with pytest.raises(ConfigError, match='sizes: width=0 is not positive'):
    build(Sizes, {'width': 0}, 'sizes')


def test_differences_name_nested_fields():
  old = {'run': {'seed': 0, 'keep': 3}, 'games': ['a'], 'same': {'x': 1}}
  new = {'run': {'seed': 1, 'keep': 3}, 'games': ['a', 'b'], 'same': {'x': 1}}
  assert differences(old, new) == [
    "games: was ['a'], now ['a', 'b']",
    'run.seed: was 0, now 1',
  ]
  assert differences(old, old) == []
  assert differences({'a': 1}, {'b': 2}) == [
    'a: was 1, now None',
    'b: was None, now 2',
  ]
  assert differences({'a': {'b': 1}}, {'a': 2}) == ["a: was {'b': 1}, now 2"]


@dataclasses.dataclass(frozen=True)
class Whole:
  sizes: Sizes
  other: Sizes = Sizes(width=7)
  steps: int = 3


def test_sections_are_fields():
  built = build(Whole, {'sizes': {'width': 3, 'rate': 2}})
  assert built == Whole(Sizes(width=3, rate=2.0))
  section = ml_collections.ConfigDict({'sizes': {'width': 3}})
  assert build(Whole, section) == Whole(Sizes(width=3))


@pytest.mark.parametrize(
  ('section', 'message'),
  [
    ({}, 'Missing field sizes'),
    ({'sizes': {}}, 'Missing field sizes.width'),
    ({'sizes': 3}, 'sizes must be a section, got 3'),
    ({'sizes': {'width': '3'}}, 'sizes.width must be int'),
    ({'sizes': {'width': 0}}, '^sizes: width=0 is not positive'),
    ({'sizes': {'widht': 3}}, r'Unknown field sizes.widht; sizes has .*width'),
    ({'size': {}}, r"Unknown field size; a config has .*'other', 'sizes'"),
  ],
)
def test_what_does_not_fit_in_a_section_is_named_by_its_path(section, message):
  with pytest.raises(ConfigError, match=message):
    build(Whole, section)


def test_defaults_of_sections_are_those_of_their_fields():
  completed = with_defaults(Whole, {'sizes': {'width': 3}, 'more': 1})
  defaults = {
    **{'rate': 0.5, 'name': 'a', 'flag': False, 'factors': [1, 2]},
    **{'runs': None, 'file': None},
  }
  assert completed == {
    'sizes': {**defaults, 'width': 3},
    # Left out or empty, a section is its fields' defaults.
    'other': defaults,
    'steps': 3,
    'more': 1,
  }
