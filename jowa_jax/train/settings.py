"""The sections of a config that the trainer reads itself."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jowa_jax.configuration import ConfigError, build
from jowa_jax.train.optimizer import OptimizerConfig
from jowa_jax.train.state import Stage

# Sections that `Run` reads; all others are the method's.
SECTIONS = ('run', 'data', 'mesh', 'stages', 'init_from')


@dataclasses.dataclass(frozen=True)
class RunConfig:
  """How a run is run.

  Attributes:
    seed: of initialisation, data order and dropout.
    batch_size: segments per step, over all devices.
    log_every: steps between records of metrics.
    save_every: steps between checkpoints; one is also saved as a stage ends.
    keep_checkpoints: how many of the latest are kept.
    evaluate_every: steps between evaluations on held-out segments; 0 never.
    evaluate_batches: how many batches of them.
  """

  seed: int = 0
  batch_size: int = 512
  log_every: int = 100
  save_every: int = 5000
  keep_checkpoints: int = 3
  evaluate_every: int = 0
  evaluate_batches: int = 4

  def __post_init__(self):
    for name in ('batch_size', 'log_every', 'save_every', 'keep_checkpoints'):
      if getattr(self, name) < 1:
        raise ValueError(f'{name}={getattr(self, name)} is not positive')
    if self.evaluate_every < 0 or self.evaluate_every % self.log_every:
      raise ValueError(
        f'evaluate_every={self.evaluate_every} is not a multiple of log_every='
        f'{self.log_every}'
      )


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """How arrays are laid out (see `sharding`).

  Attributes:
    axes: size of each mesh axis by name; `data` splits the batch.
    rules: mesh axis by logical axis name.
  """

  axes: dict
  rules: dict

  def __post_init__(self):
    if 'data' not in self.axes:
      raise ValueError('axes has no axis data, over which batches are split')


@dataclasses.dataclass(frozen=True)
class InitFrom:
  """What is taken from another run.

  Attributes:
    checkpoints: its directory of checkpoints; empty starts afresh.
    params: top-level parameters to take.
  """

  checkpoints: str = ''
  params: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class _StageFields:
  steps: int
  parts: tuple[str, ...]

  def __post_init__(self):
    if self.steps < 0:
      raise ValueError(f'steps={self.steps} is negative')


@dataclasses.dataclass(frozen=True)
class _Order:
  order: tuple[str, ...]


def parse_stages(section: Mapping[str, Any]) -> tuple[Stage, ...]:
  """Returns the stages of a config's `stages` section, in its `order`.

  Raises:
    ConfigError: a stage or the optimizer of one of its parts is missing, or
      there is one that is not used.
  """
  named = {key: value for key, value in section.items() if key == 'order'}
  order = build(_Order, named, 'stages').order
  _check_names(section, ('order', *order), 'stages')
  return tuple(_parse_stage(name, section[name]) for name in order)


def _parse_stage(name: str, section: Mapping[str, Any]) -> Stage:
  where = f'stages.{name}'
  plain = {k: section[k] for k in ('steps', 'parts') if k in section}
  fields = build(_StageFields, plain, where)
  _check_names(section, ('steps', 'parts', *fields.parts), where)
  optimizers = {
    part: build(OptimizerConfig, section[part], f'{where}.{part}')
    for part in fields.parts
  }
  return Stage(name, fields.steps, optimizers)


def _check_names(section, names, where: str):
  """Raises ConfigError unless a section has these names and no others."""
  for name in names:
    if name not in section:
      raise ConfigError(f'Missing section {where}.{name}')
  for name in sorted(set(section) - set(names)):
    raise ConfigError(f'Unknown field {where}.{name}; it has {list(names)}')


def check_sections(config: Mapping[str, Any], of_method: tuple[str, ...]):
  """Raises ConfigError unless a config has just the sections that are read.

  Args:
    config: all of it.
    of_method: the sections its method reads.
  """
  names = ('method', *of_method, *SECTIONS)
  for name in names:
    if name not in config:
      raise ConfigError(f'Missing section {name}')
  for name in sorted(set(config) - set(names)):
    raise ConfigError(f'Unknown section {name}; a config has {list(names)}')
