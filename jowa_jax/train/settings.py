"""The sections of a config that the trainer reads itself."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jowa_jax.checkpoint.manager import Keep
from jowa_jax.checkpoint.task_rows import check_source
from jowa_jax.configuration import (
  ConfigError,
  build,
  check_names,
  with_defaults,
)
from jowa_jax.data.feed.training import DataConfig
from jowa_jax.methods import factory
from jowa_jax.train.optimizer import OptimizerConfig
from jowa_jax.train.state import Stage


@dataclasses.dataclass(frozen=True)
class RunConfig:
  """How a run is run.

  Attributes:
    seed: of initialisation, data order and dropout.
    batch_size: segments per step, over all devices.
    accumulate: micro-batches that a batch is taken in, for memory.
    log_every: steps between records of metrics.
    save_every: steps between checkpoints; one is also saved as a stage ends.
    keep_checkpoints: how many of the latest are kept.
    keep_every: checkpoints of steps that this divides are kept too; 0 none.
    best_metric: the checkpoint that is best by it is kept too: a name in
      metrics.jsonl, such as 'held_out/world/observations'; empty for none.
    best_mode: 'min' or 'max'.
    evaluate_every: steps between evaluations on held-out segments; 0 never.
    evaluate_batches: how many batches of them.
    play_every: steps between evaluations by greedy play; 0 never.
    play_episodes: of each game.
    play_max_frames: after which an episode is cut off.
  """

  seed: int = 0
  batch_size: int = 512
  accumulate: int = 1
  log_every: int = 100
  save_every: int = 5000
  keep_checkpoints: int = 3
  keep_every: int = 0
  best_metric: str = ''
  best_mode: str = 'min'
  evaluate_every: int = 0
  evaluate_batches: int = 4
  play_every: int = 0
  play_episodes: int = 2
  play_max_frames: int = 18_000

  @property
  def keep(self) -> Keep:
    return Keep(
      self.keep_checkpoints, self.keep_every, self.best_metric, self.best_mode
    )

  def __post_init__(self):
    for name in (
      'batch_size',
      'accumulate',
      'log_every',
      'save_every',
      'keep_checkpoints',
    ):
      if getattr(self, name) < 1:
        raise ValueError(f'{name}={getattr(self, name)} is not positive')
    for name in ('evaluate_every', 'play_every'):
      if getattr(self, name) < 0 or getattr(self, name) % self.log_every:
        raise ValueError(
          f'{name}={getattr(self, name)} is not a multiple of log_every='
          f'{self.log_every}'
        )
    self.keep  # noqa: B018, checks its fields
    measured = self.log_every
    if self.best_metric.startswith('held_out/'):
      measured = self.evaluate_every
    elif self.best_metric.startswith('play/'):
      measured = self.play_every
    if self.best_metric and (not measured or self.save_every % measured):
      raise ValueError(
        f'best_metric={self.best_metric!r} must be measured where checkpoints '
        f'are saved: make save_every={self.save_every} a multiple of '
        f'evaluate_every={self.evaluate_every}, play_every={self.play_every} '
        f'or log_every={self.log_every}, whichever measures it'
      )


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """How arrays are laid out (see `sharding`).

  Attributes:
    axes: size of each mesh axis by name, in order; one may be -1.
    rules: mesh axes by logical axis name, in order of preference.
  """

  axes: dict
  rules: dict

  def __post_init__(self):
    if 'data' not in self.axes:
      raise ValueError('axes has no axis data, over which batches are split')
    for name, size in self.axes.items():
      if not isinstance(size, int) or isinstance(size, bool):
        raise ValueError(f'axes.{name} must be int, got {size!r}')
    for name, axes in self.rules.items():
      if isinstance(axes, str) or not all(isinstance(a, str) for a in axes):
        raise ValueError(f'rules.{name} must be names of axes, got {axes!r}')


@dataclasses.dataclass(frozen=True)
class InitFrom:
  """What is taken from another run.

  Attributes:
    checkpoints: its directory, or that of its checkpoints; empty starts
      afresh.
    params: top-level parameters to take; all if empty.
    step: which checkpoint; the latest if None.
    task_row: what the rows of a game of `data.games` start from, in every
      table with rows of games: None or '' for its own rows in the checkpoint,
      'related' for those of the game in `games.RELATED_GAMES`, where there is
      one, 'new' for fresh ones, or the name of a game.
  """

  checkpoints: str = ''
  params: tuple[str, ...] = ()
  step: int | None = None
  task_row: str | None = None

  def __post_init__(self):
    check_source(self.task_row)
    if not self.checkpoints and (self.task_row or self.step is not None):
      raise ValueError(
        f'task_row={self.task_row!r} and step={self.step} are of another run: '
        'give its checkpoints, or leave them out'
      )


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
  """The sections of a config that the trainer reads, see `methods.factory`.

  Attributes:
    stages: see `parse_stages`.
  """

  run: RunConfig
  data: DataConfig
  mesh: MeshConfig
  init_from: InitFrom
  stages: dict


def training_config(config: Mapping[str, Any]) -> TrainingConfig:
  """The trainer's sections of a config.

  Raises:
    ConfigError: a section that does not fit, or one that neither the trainer
      nor the method reads.
  """
  names = [field.name for field in dataclasses.fields(TrainingConfig)]
  check_names(config, ('method', *names), factory.sections(config))
  return build(TrainingConfig, {name: config[name] for name in names})


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
  """The stages of a config's `stages` section, in its `order`.

  Raises:
    ConfigError: a stage or the optimizer of one of its parts is missing, or
      there is one that is not used.
  """
  named = {key: value for key, value in section.items() if key == 'order'}
  order = build(_Order, named, 'stages').order
  check_names(section, ('order', *order), where='stages')
  return tuple(_parse_stage(name, section[name]) for name in order)


def _parse_stage(name: str, section: Mapping[str, Any]) -> Stage:
  where = f'stages.{name}'
  plain = {k: section[k] for k in ('steps', 'parts') if k in section}
  fields = build(_StageFields, plain, where)
  check_names(section, ('steps', 'parts', *fields.parts), where=where)
  optimizers = {
    part: build(OptimizerConfig, section[part], f'{where}.{part}')
    for part in fields.parts
  }
  for part, optimizer in optimizers.items():
    try:
      optimizer.check_steps(fields.steps)
    except ValueError as error:
      raise ConfigError(f'{where}.{part}: {error}') from error
  return Stage(name, fields.steps, optimizers)


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
  """A config with the defaults of fields that it lacks.

  One that was written before there was a field did what its default does.
  """
  completed = with_defaults(TrainingConfig, factory.complete(config))
  completed['stages'] = {
    name: _complete_stage(section) if isinstance(section, Mapping) else section
    for name, section in config.get('stages', {}).items()
  }
  return completed


def _complete_stage(section: Mapping[str, Any]) -> dict[str, Any]:
  return {
    name: with_defaults(OptimizerConfig, part)
    if isinstance(part, Mapping)
    else part
    for name, part in section.items()
  }
