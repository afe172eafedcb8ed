"""A training run: config, data and directory in, checkpoints and logs out.

Resuming is starting again: the latest checkpoint says the step, the step says
the stage and the batch, and batches are a pure function of (seed, step).
"""

import contextlib
import json
import logging
import os
import pathlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import tqdm

from jowa_jax import files
from jowa_jax import games as games_lib
from jowa_jax.checkpoint.manager import (
  CheckpointError,
  Checkpoints,
)
from jowa_jax.checkpoint.run_directory import RunDirectory
from jowa_jax.checkpoint.task_rows import origins, task_tables
from jowa_jax.checkpoint.warm_start import warm_start
from jowa_jax.configuration import ConfigError, differences
from jowa_jax.data.episodes import DataError, missing_columns
from jowa_jax.data.feed.feed import Feed
from jowa_jax.data.feed.training import TrainingData
from jowa_jax.methods.base import Method, Variables
from jowa_jax.methods.factory import adaptation_config, make_method
from jowa_jax.train import sharding
from jowa_jax.train.loop import PlayFn, Session, run_stage
from jowa_jax.train.metrics import MetricWriter, import_wandb
from jowa_jax.train.preemption import Preemption, closing_unless_lost
from jowa_jax.train.profiling import Profiler
from jowa_jax.train.resume import restore_latest
from jowa_jax.train.settings import (
  complete,
  parse_stages,
  training_config,
)
from jowa_jax.train.state import (
  abstract_variables,
  check_stage,
  init_variables,
)

# The fields of a config that are paths.
_PATHS = (
  *(('data', 'directory'), ('data', 'token_cache')),
  ('init_from', 'checkpoints'),
)


class Run:
  """One training run in one directory."""

  def __init__(self, config: Mapping[str, Any], workdir: str | pathlib.Path):
    """Checks the config; touches nothing on disk.

    Args:
      config: a resolved training config (`configs/jowa.py`, `configs/mtbc.py`).
      workdir: where checkpoints, logs and the config go.

    Raises:
      ConfigError: a field is unknown, missing or of the wrong type.
    """
    self.config = _understood(json.loads(json.dumps(config)))
    self.directory = RunDirectory(workdir)
    self.method: Method = make_method(self.config, to_train=True)
    sections = training_config(self.config)
    self.stages = parse_stages(sections.stages)
    self._run, self._data = sections.run, sections.data
    self._init_from, mesh = sections.init_from, sections.mesh
    self._rules = mesh.rules
    try:
      for stage in self.stages:
        check_stage(self.method, stage)
      self._mesh = sharding.make_mesh(mesh.axes)
      sharding.check_rules(self._rules, self._mesh)
    except ValueError as error:
      raise ConfigError(str(error)) from error
    mode = adaptation_config(self.config).mode
    if mode != 'full' and not self._init_from.checkpoints:
      raise ConfigError(
        f'adaptation.mode={mode!r} freezes what is pretrained: set '
        'init_from.checkpoints, or the mode to full'
      )
    if self._data.token_cache and self.method.tokenizer is None:
      raise ConfigError(
        f'data.token_cache is set, but {self.config["method"]} has no tokenizer'
      )
    evaluates = self._run.evaluate_every > 0
    if evaluates and not self._data.held_out_fraction:
      raise ConfigError(
        'run.evaluate_every needs held-out episodes: set '
        'data.held_out_fraction above 0'
      )
    for stage in self.stages:
      for name in stage.optimizers:
        rows = self.method.objectives[name].rows
        if self._run.batch_size % (rows * self._run.accumulate):
          raise ConfigError(
            f'run.batch_size={self._run.batch_size} does not divide by '
            f'{rows}, as stages.{stage.name}.{name} needs, times '
            f'run.accumulate={self._run.accumulate}'
          )
    shares = sharding.batch_shares(self._mesh)
    if self._run.batch_size % (shares * self._run.accumulate):
      raise ConfigError(
        f'run.batch_size={self._run.batch_size} does not divide over '
        f'run.accumulate={self._run.accumulate} micro-batches and the {shares} '
        f'devices of the mesh axes {sharding.BATCH_AXES}'
      )

  @property
  def workdir(self) -> pathlib.Path:
    return self.directory.root

  @property
  def total_steps(self) -> int:
    return sum(stage.steps for stage in self.stages)

  def train(
    self,
    progress: bool = True,
    on_step: Callable[[int], None] = lambda step: None,
    *,
    data: Feed | None = None,
    accept_changes: bool = False,
    play: PlayFn | None = None,
    profile_steps: tuple[int, int] | None = None,
    wandb_project: str = '',
  ) -> Variables:
    """Trains to the end, from the latest checkpoint if there is one.

    A checkpoint that cannot be read is set aside, with a warning, for the one
    before it.

    Args:
      progress: show a progress bar.
      on_step: called with the number of steps taken, after each.
      data: what is learned from; what `load_data` loads if None.
      accept_changes: go on with another config or other data than the
        directory was begun with.
      play: for `run.play_every`, such as `eval.rollout.make_player` makes.
      profile_steps: first and last step to trace, into `profile/`.
      wandb_project: of Weights & Biases, for metrics; empty for none.

    Returns:
      The trained variables.

    Raises:
      ConfigError: the directory holds a run with another config.
      DataError: the data cannot be used.
      CheckpointError: the run was begun with other data, or a checkpoint to
        continue or start from does not fit, or none can be read.
      FloatingPointError: a metric is not finite.
      InUseError: another process trains in the directory.
      Preempted: SIGTERM came; the state is saved.
      ValueError: `play` or wandb is missing, or `profile_steps` are none.
    """
    if self._run.play_every and play is None:
      raise ValueError(
        f'run.play_every={self._run.play_every} needs `play`, see '
        'jowa_jax.eval.rollout.make_player'
      )
    if wandb_project:
      import_wandb()
    profiler = Profiler(self.directory.profile, profile_steps)
    self._accept_changes = accept_changes
    self._check_directory()
    # Before anything is written: a wrong path must not claim the directory.
    data = data or self.load_data()
    with (
      self.directory.owned() if self._writes else contextlib.nullcontext(),
      closing_unless_lost(
        Checkpoints(self.directory.checkpoints, self._run.keep)
      ) as checkpoints,
      contextlib.closing(profiler),
      Preemption() as preemption,
    ):
      # Another may have begun here while this one loaded its data.
      self._check_directory()
      done, variables, shardings, opt_state = self._begin(data, checkpoints)
      with (
        self._open_metrics(done, wandb_project) as writer,
        tqdm.tqdm(
          total=self.total_steps,
          initial=done,
          unit='step',
          disable=not (progress and self._writes),
          dynamic_ncols=True,
        ) as bar,
      ):
        session = Session(
          method=self.method,
          config=self.config,
          run=self._run,
          directory=self.directory,
          mesh=self._mesh,
          total_steps=self.total_steps,
          last_stage=self.stages[-1].name,
          data=data,
          encodes=bool(self._data.token_cache),
          checkpoints=checkpoints,
          writer=writer,
          bar=bar,
          preemption=preemption,
          profiler=profiler,
          play=play,
          on_step=on_step,
        )
        variables = self._run_stages(
          session, done, variables, shardings, opt_state
        )
      checkpoints.wait()
    return variables

  def _run_stages(
    self, session: Session, done: int, variables, shardings, opt_state
  ) -> Variables:
    """Trains from `done` steps on to the end of the last stage."""
    begin, before = 0, set()
    for stage in self.stages:
      if done < begin + stage.steps:
        variables = run_stage(
          *(session, stage, begin, done),
          *(variables, shardings, opt_state, before),
        )
        done, opt_state = begin + stage.steps, None
      begin += stage.steps
      before |= set(stage.optimizers) if stage.steps else set()
    return variables

  def is_finished(self) -> bool:
    """Whether the last checkpoint is that of the last step."""
    directory = self.directory.checkpoints
    if not directory.is_dir():
      return False
    with contextlib.closing(Checkpoints(directory, create=False)) as found:
      return found.latest_step() == self.total_steps

  def load_data(self) -> TrainingData:
    """Loads what the run trains on and what it holds out.

    Raises:
      DataError: the data is missing, damaged or of another kind, or lacks what
        a stage reads.
    """
    self._data.warn_if_apart(self.method.spec.length)
    data = TrainingData(
      self._data, self.method.spec, self._run.batch_size, self._run.seed
    )
    self._check_columns(missing_columns(data.episodes))
    return data

  def _check_columns(self, missing: Mapping[str, Collection[str]]):
    """Raises DataError if a stage reads what games' play does not have."""
    for stage in self.stages:
      for name in stage.optimizers if stage.steps else ():
        for game, columns in missing.items():
          lacks = [
            each
            for each in self.method.objectives[name].reads
            if each in columns
          ]
          if lacks:
            raise DataError(
              f'{self._data.directory}: {game} has no {" and no ".join(lacks)} '
              f'(it was made of videos), which stages.{stage.name}.{name} of '
              f'{self.config["method"]} reads: give data of play, or stages '
              'that need frames alone, such as watching of ficc'
            )

  def _check_directory(self):
    """Raises ConfigError if the directory holds a run with another config."""
    found = self.directory.read_config()
    if found is not None:
      changed = differences(_located(found), _located(self.config))
      if changed:
        self._changed(
          ConfigError,
          f'{self.directory} holds a run with another config',
          'give another directory, restore these fields',
          changed,
        )

  def _changed(self, error, what: str, remedy: str, changed: list[str]):
    """Raises the error, or warns if changes are accepted."""
    lines = '\n  '.join(changed[:10])
    if not self._accept_changes:
      raise error(f'{what}; {remedy} or accept what changed:\n  {lines}')
    logging.warning('%s; going on with the changes:\n  %s', what, lines)

  def _begin(self, data: Feed, checkpoints: Checkpoints):
    """What a run starts from, or goes on from.

    That is: steps taken, variables, their shardings, and the state of the
    optimizers if a stage goes on.
    """
    abstract, shardings = abstract_variables(
      self.method, data.statistics, self._mesh, self._rules
    )
    done, opt_state = 0, None
    if checkpoints.steps():
      done, variables, opt_state = restore_latest(
        checkpoints,
        lambda meta: self._check_data(meta, data),
        self.method,
        self.stages,
        abstract,
        shardings,
        self._mesh,
      )
      data.restore(self.directory.feed, done)
      logging.info('Resuming %s at step %d', self.directory, done)
    else:
      variables = init_variables(
        self.method, self._run.seed, data.statistics, shardings
      )
      if self._init_from.checkpoints:
        games = games_lib.parse_games(self._data.games)
        variables = warm_start(
          variables,
          shardings,
          checkpoints=self._init_from.checkpoints,
          params=self._init_from.params,
          step=self._init_from.step,
          games=games,
          tables=task_tables(self.method),
          starts=origins(games, self._init_from.task_row),
          config=self.config,
        )
    # From here on the directory is this run's.
    if self._writes:
      self.directory.write_config(self.config)
    return done, variables, shardings, opt_state

  @property
  def _writes(self) -> bool:
    """Whether this is the process that writes logs and shows progress."""
    return jax.process_index() == 0

  def _open_metrics(
    self, done: int, wandb_project: str
  ) -> contextlib.AbstractContextManager[MetricWriter | None]:
    if not self._writes:
      return contextlib.nullcontext()
    return contextlib.closing(
      MetricWriter(self.directory, done, wandb_project, self.config)
    )

  def _check_data(self, meta: Mapping[str, Any], data: Feed):
    changed = differences(meta['data'], json.loads(json.dumps(data.identity)))
    if changed:
      self._changed(
        CheckpointError,
        f'{self.directory} was trained on other data than is in '
        f'{self._data.directory}',
        'restore the data, give another directory',
        changed,
      )


def _understood(config: dict[str, Any]) -> dict[str, Any]:
  """The config with games one by one and paths that hold from any directory.

  A checkpoint's path tells runs apart, and stays as it was typed but for `~`.
  """
  games = config.get('data', {}).get('games')
  if isinstance(games, list) and all(isinstance(name, str) for name in games):
    # --config.data.games=Pong,Zaxxon is one name to a field of names.
    names = ','.join(games).split(',') if games else []
    config['data']['games'] = [name.strip() for name in names]
  for section, name in _PATHS:
    path = config.get(section, {}).get(name)
    if path and isinstance(path, str):
      config[section][name] = files.typed_path(path)
      if section == 'data' and '://' not in path:
        config[section][name] = os.path.abspath(config[section][name])
  return config


def _located(config: Mapping[str, Any]) -> dict[str, Any]:
  """A complete config whose paths are the same however they are spelled."""
  config = _understood(json.loads(json.dumps(complete(config))))
  for section, name in _PATHS:
    if (path := config[section][name]) and '://' not in path:
      config[section][name] = os.path.realpath(path)
  return config
