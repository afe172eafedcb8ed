"""From a pretrained agent to one new game: a config for `Run`, and its outcome.

Sections 4.3 and E.2 of the paper: 5,000 transitions of a game, one stage, and
the snapshot reported that scored best while it was fine-tuned.
"""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from jowa_jax import games as games_lib
from jowa_jax.checkpoint.manager import CheckpointError
from jowa_jax.checkpoint.run_directory import RunDirectory
from jowa_jax.checkpoint.task_rows import NEW, RELATED
from jowa_jax.checkpoint.warm_start import open_run
from jowa_jax.configuration import (
  ConfigError,
  build,
  check_names,
  differences,
  fill,
)
from jowa_jax.methods.factory import complete, model_of, model_sections
from jowa_jax.methods.tokenizer import TOKENIZER

# For messages: who fills in a field.
_FILLS = 'launch.finetune fills this field from its flags'


@dataclasses.dataclass(frozen=True)
class Finetune:
  """The section `finetune` of a config, which no run sees.

  Attributes:
    scratch: what is otherwise without a checkpoint: the `steps` of the stage,
      and by section some of its fields.
    train_tokenizer: whether the tokenizer is trained with a checkpoint too.
    tokenizer: how it is optimized; empty for a method without a tokenizer.
    tokenizer_steps: of a stage of its own, before the others, that it is
      trained in where it is trained; 0 for beside the rest, in all stages.
    without: by top-level name of parameters that have rows of games, what is
      otherwise where a checkpoint is given and they are not taken of it: by
      section some of its fields.
    model: where the model's sections are from, 'config' or 'checkpoint'.
  """

  scratch: dict
  train_tokenizer: bool = False
  tokenizer: dict = dataclasses.field(default_factory=dict)
  tokenizer_steps: int = 0
  without: dict = dataclasses.field(default_factory=dict)
  model: str = 'config'

  def __post_init__(self):
    if self.train_tokenizer and not self.tokenizer:
      raise ValueError(
        'train_tokenizer=True needs tokenizer, which says how it is optimized'
      )
    if self.tokenizer_steps < 0:
      raise ValueError(f'tokenizer_steps={self.tokenizer_steps} is negative')
    if self.model not in ('config', 'checkpoint'):
      raise ValueError(f'model={self.model!r} is neither config nor checkpoint')


@dataclasses.dataclass(frozen=True)
class Snapshot:
  """A checkpoint and its score."""

  step: int
  score: float | None  # None: it was not measured


def resolve(
  config: Mapping[str, Any],
  *,
  game: str,
  data: str,
  checkpoint: str | None = None,
  quality: str | None = None,
  model: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """The config of a run that fine-tunes; reads nothing from disk.

  Args:
    config: of `configs/finetune.py`.
    game: its name.
    data: directory of its play.
    checkpoint: directory of the pretrained run; None trains from scratch, the
      tokenizer included.
    quality: of the play, see `DataConfig`; the config's if None.
    model: config of an agent whose model the run gets, see `wants_model`; the
      config's own if None.

  Raises:
    ConfigError: a field that is filled in was set, or one is unknown, missing
      or of the wrong type.
    ValueError: there is no such game.
  """
  games_lib.check_game(game)
  config = json.loads(json.dumps(config))
  options = build(Finetune, config.pop('finetune', {}), 'finetune')
  # What an agent of before there was a field does, not what this config says.
  model = complete(model) if model else {}
  for section in model_sections(config):
    if section in model:
      config[section] |= model[section]
  fill(config['data'], 'games', [game], 'data', _FILLS)
  fill(config['data'], 'directory', data, 'data', _FILLS)
  if quality is not None:
    config['data']['quality'] = quality
  steps, sections = _scratch(options.scratch, config)
  stages = [config['stages'][name] for name in config['stages']['order']]
  fill(
    config['init_from'], 'checkpoints', checkpoint or '', 'init_from', _FILLS
  )
  if checkpoint is None:
    if config['init_from']['params']:
      raise ConfigError(
        f'init_from.params={config["init_from"]["params"]} are of a pretrained '
        'run: give --checkpoint'
      )
    _all_rows_are_new(config)
    stages[-1]['steps'] = steps
    for section, fields in sections.items():
      config[section] |= fields
  for name, sections in options.without.items():
    _check_sections(sections, config, f'finetune.without.{name}')
    taken = config['init_from']['params']
    if taken and name not in taken:
      _all_rows_are_new(config)
      for section, fields in sections.items():
        config[section] |= fields
  if options.train_tokenizer or (checkpoint is None and options.tokenizer):
    _train_tokenizer(config['stages'], options)
  run = config['run']
  if run['play_every'] and not run['best_metric']:
    run['best_metric'] = f'play/{game}'
  return config


def _all_rows_are_new(config: Mapping[str, Any]) -> None:
  """Those of games, where what has them begins anew."""
  if config['init_from']['task_row'] in (RELATED, NEW):
    config['init_from']['task_row'] = None


def _train_tokenizer(stages: dict[str, Any], options: Finetune) -> None:
  """Adds the tokenizer's training, in a stage of its own or in all stages."""
  names = stages['order']
  if options.tokenizer_steps:
    stages[TOKENIZER] = {'steps': options.tokenizer_steps, 'parts': []}
    stages['order'], names = [TOKENIZER, *names], [TOKENIZER]
  for name in names:
    stage = stages[name]
    stage['parts'] = [TOKENIZER, *stage['parts']]
    stage[TOKENIZER] = options.tokenizer


def _scratch(
  scratch: Mapping[str, Any], config: Mapping[str, Any]
) -> tuple[int, dict[str, Any]]:
  """The stage's steps and, by section, the fields that are otherwise."""
  sections = dict(scratch)
  steps = sections.pop('steps', None)
  if not isinstance(steps, int):
    raise ConfigError(f'finetune.scratch.steps must be int, got {steps!r}')
  _check_sections(sections, config, 'finetune.scratch')
  return steps, sections


def _check_sections(
  sections: Mapping[str, Any], config: Mapping[str, Any], where: str
) -> None:
  """Raises ConfigError unless all are fields of sections of a config."""
  for section, fields in sections.items():
    if not isinstance(fields, Mapping):
      raise ConfigError(f'{where}.{section} must be a section, got {fields!r}')
    check_names(fields, (), config.get(section, {}), f'{where}.{section}')


def wants_model(config: Mapping[str, Any]) -> bool:
  """Whether a config leaves the model's sections to the checkpoint."""
  options = build(Finetune, config.get('finetune', {}), 'finetune')
  return options.model == 'checkpoint'


def checkpoint_config(
  checkpoint: str, step: int | None = None
) -> dict[str, Any]:
  """What a checkpoint was trained with, see `open_run`.

  Raises:
    CheckpointError: there is none.
  """
  with contextlib.closing(open_run(checkpoint)) as found:
    return found.meta(step)['config']


def model_differences(
  theirs: Mapping[str, Any], ours: Mapping[str, Any]
) -> list[str]:
  """A line for every field in which the models of two configs differ.

  Those that change neither shapes nor what outputs mean are left out.
  """

  def model(config: Mapping[str, Any]) -> dict[str, Any]:
    return model_of(complete(json.loads(json.dumps(config))))

  return differences(model(theirs), model(ours))


def check_source(
  config: Mapping[str, Any], variants: Mapping[str, Mapping[str, Any]]
) -> None:
  """Raises CheckpointError unless a run's model is that of its checkpoint.

  Args:
    config: of the run; nothing is checked if it takes named parameters alone.
    variants: configs by their names, of which one may fit.
  """
  source = config['init_from']
  if not source.get('checkpoints') or source['params']:
    return
  theirs = checkpoint_config(source['checkpoints'], source['step'])
  changed = model_differences(theirs, config)
  if not changed:
    return
  fitting = [
    name
    for name, variant in variants.items()
    if not model_differences(theirs, variant)
  ]
  remedy = 'set these fields to what they were in the checkpoint'
  if fitting:
    remedy = f'use --config={fitting[0]}'
  lines = '\n  '.join(changed[:10])
  raise CheckpointError(
    f'{source["checkpoints"]} is of another model than the config; {remedy}:'
    f'\n  {lines}'
  )


def snapshots(
  workdir: str | pathlib.Path, metric: str, mode: str
) -> tuple[Snapshot, Snapshot] | None:
  """The best and the last of a run's checkpoints, by its metrics.

  Both can be loaded. The last was not measured where the run was asked to stop
  just then. None if none of them was. Any process may ask alone.

  Args:
    workdir: of the run.
    metric: a name in `metrics.jsonl`, such as 'play/Pong'.
    mode: 'min' or 'max'.
  """
  run = RunDirectory(workdir)
  # Orbax would wait for the other processes.
  steps = [int(p.name) for p in run.checkpoints.iterdir() if p.name.isdigit()]
  measured = [
    Snapshot(step=record['step'], score=record[metric])
    for record in run.read_metrics()
    if metric in record and record['step'] in steps
  ]
  if not measured:
    return None
  sign = 1 if mode == 'max' else -1
  best = max(measured, key=lambda snapshot: sign * snapshot.score)
  last = measured[-1]
  if last.step < max(steps):
    last = Snapshot(step=max(steps), score=None)
  return best, last


def best_step(workdir: str | pathlib.Path) -> int:
  """The step of a run's best checkpoint by its `run.best_metric`.

  Raises:
    CheckpointError: the run has no such metric, or measured none.
  """
  config = RunDirectory(workdir).read_config()
  if config is None:
    raise CheckpointError(f'{workdir} is no directory of a run')
  metric, mode = (config['run'].get(f'best_{n}') for n in ('metric', 'mode'))
  found = snapshots(workdir, metric, mode) if metric else None
  if not found:
    raise CheckpointError(
      f'{workdir}: no checkpoint was measured by run.best_metric={metric!r}; '
      'name one by its step'
    )
  return found[0].step
