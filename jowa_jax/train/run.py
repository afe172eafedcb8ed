"""A training run: config, data and directory in, checkpoints and logs out.

Resuming is starting again: the latest checkpoint says the step, the step says
the stage and the batch, and batches are a pure function of (seed, step).
"""

import contextlib
import json
import logging
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import tqdm
from jax.experimental import multihost_utils

from jowa_jax import files
from jowa_jax.checkpoint.manager import (
  CheckpointError,
  Checkpoints,
)
from jowa_jax.checkpoint.warm_start import warm_start
from jowa_jax.configuration import ConfigError, build, differences
from jowa_jax.data.training import DataConfig, TrainingData
from jowa_jax.methods.base import Method, Variables
from jowa_jax.methods.factory import make_method, sections
from jowa_jax.train import sharding
from jowa_jax.train.encoding import frozen_encoder
from jowa_jax.train.held_out import HeldOut
from jowa_jax.train.metrics import MetricWriter, check_finite
from jowa_jax.train.preemption import Preempted, Preemption
from jowa_jax.train.resume import restore_latest
from jowa_jax.train.settings import (
  InitFrom,
  MeshConfig,
  RunConfig,
  check_sections,
  parse_stages,
)
from jowa_jax.train.state import (
  Stage,
  TrainState,
  begin_stage,
  check_stage,
  init_variables,
)
from jowa_jax.train.step import compile_step

CHECKPOINTS = 'checkpoints'
CONFIG = 'config.json'


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
    self.config = json.loads(json.dumps(config))
    self.workdir = pathlib.Path(workdir)
    self.method: Method = make_method(self.config, to_train=True)
    check_sections(self.config, sections(self.config))
    self.stages = parse_stages(self.config['stages'])
    self._run = build(RunConfig, self.config['run'], 'run')
    self._data = build(DataConfig, self.config['data'], 'data')
    self._init_from = build(InitFrom, self.config['init_from'], 'init_from')
    mesh = build(MeshConfig, self.config['mesh'], 'mesh')
    self._rules = mesh.rules
    try:
      for stage in self.stages:
        check_stage(self.method, stage)
      self._mesh = sharding.make_mesh(mesh.axes)
      sharding.check_rules(self._rules, self._mesh)
    except ValueError as error:
      raise ConfigError(str(error)) from error
    if self._data.token_cache and self.method.encoder is None:
      raise ConfigError('data.token_cache is set, but the method has no tokens')
    evaluates = self._run.evaluate_every > 0
    if evaluates and not self._data.held_out_fraction:
      raise ConfigError(
        'run.evaluate_every needs held-out episodes: set '
        'data.held_out_fraction above 0'
      )
    parts = sharding.batch_parts(self._mesh)
    if self._run.batch_size % (parts * self._run.accumulate):
      raise ConfigError(
        f'run.batch_size={self._run.batch_size} does not divide over '
        f'run.accumulate={self._run.accumulate} parts and the {parts} devices '
        f'of the mesh axes {sharding.BATCH_AXES}'
      )

  @property
  def total_steps(self) -> int:
    return sum(stage.steps for stage in self.stages)

  def train(
    self,
    progress: bool = True,
    on_step: Callable[[int], None] = lambda step: None,
    accept_changes: bool = False,
  ) -> Variables:
    """Trains to the end, from the latest checkpoint if there is one.

    A checkpoint that cannot be read is set aside, with a warning, for the one
    before it.

    Args:
      progress: show a progress bar.
      on_step: called with the number of steps taken, after each.
      accept_changes: go on with another config or other data than the
        directory was begun with.

    Returns:
      The trained variables.

    Raises:
      ConfigError: the directory holds a run with another config.
      DataError: the data cannot be used.
      CheckpointError: the run was begun with other data, or a checkpoint to
        continue or start from does not fit, or none can be read.
      FloatingPointError: a metric is not finite.
      Preempted: SIGTERM came; the state is saved.
    """
    self._accept_changes = accept_changes
    self._check_directory()
    # Before anything is written: a wrong path must not claim the directory.
    data = self.load_data()
    checkpoints = Checkpoints(self.workdir / CHECKPOINTS, self._run.keep)
    try:
      return self._train(data, checkpoints, progress, on_step)
    finally:
      checkpoints.close()

  def is_finished(self) -> bool:
    """Returns whether the last checkpoint is that of the last step."""
    directory = self.workdir / CHECKPOINTS
    if not directory.is_dir():
      return False
    with contextlib.closing(Checkpoints(directory, create=False)) as found:
      return found.latest_step() == self.total_steps

  def load_data(self) -> TrainingData:
    """Loads what the run trains on and what it holds out.

    Raises:
      DataError: the data is missing, damaged or of another kind.
    """
    return TrainingData(
      self._data,
      self.method.spec.length,
      self._run.batch_size,
      self._run.seed,
    )

  def _check_directory(self):
    """Raises ConfigError if the directory holds a run with another config."""
    path = self.workdir / CONFIG
    if path.exists():
      changed = differences(json.loads(path.read_text()), self.config)
      if changed:
        self._changed(
          ConfigError,
          f'{self.workdir} holds a run with another config',
          'give another directory, restore these fields',
          changed,
        )

  def _changed(self, error, what: str, remedy: str, changed: list[str]):
    """Raises the error, or warns if changes are accepted."""
    lines = '\n  '.join(changed[:10])
    if not self._accept_changes:
      raise error(f'{what}; {remedy} or accept the changes:\n  {lines}')
    logging.warning('%s; going on with the changes:\n  %s', what, lines)

  def _write_config(self):
    files.write_text(self.workdir / CONFIG, json.dumps(self.config, indent=2))

  def _train(self, data, checkpoints, progress, on_step):
    variables, shardings = init_variables(
      self.method,
      self._run.seed,
      data.statistics,
      self._mesh,
      self._rules,
    )
    done, opt_state = 0, None
    if checkpoints.steps():
      done, variables, opt_state = restore_latest(
        checkpoints,
        lambda meta: self._check_data(meta, data),
        self.method,
        self.stages,
        variables,
        shardings,
        self._mesh,
      )
      logging.info('Resuming %s at step %d', self.workdir, done)
    elif self._init_from.checkpoints:
      variables = warm_start(
        variables,
        shardings,
        checkpoints=self._init_from.checkpoints,
        params=self._init_from.params,
      )
    # From here on the directory is this run's.
    if self._writes:
      self._write_config()
    begin = 0
    with (
      Preemption() as preemption,
      self._open_metrics(done) as writer,
      tqdm.tqdm(
        total=self.total_steps,
        initial=done,
        unit='step',
        disable=not (progress and self._writes),
        dynamic_ncols=True,
      ) as bar,
    ):
      session = _Session(data, checkpoints, writer, bar, on_step, preemption)
      for stage in self.stages:
        if done < begin + stage.steps:
          variables = self._run_stage(
            stage, begin, done, variables, shardings, opt_state, session
          )
          done, opt_state = begin + stage.steps, None
        begin += stage.steps
    checkpoints.wait()
    return variables

  @property
  def _writes(self) -> bool:
    """Whether this is the process that writes logs and shows progress."""
    return jax.process_index() == 0

  def _open_metrics(
    self, done: int
  ) -> contextlib.AbstractContextManager[MetricWriter | None]:
    if not self._writes:
      return contextlib.nullcontext()
    return contextlib.closing(MetricWriter(self.workdir, done))

  def _check_data(self, meta: Mapping[str, Any], data: TrainingData):
    changed = differences(meta['data'], json.loads(json.dumps(data.identity)))
    if changed:
      self._changed(
        CheckpointError,
        f'{self.workdir} was trained on other data than is in '
        f'{self._data.directory}',
        'restore the data, give another directory',
        changed,
      )

  def _run_stage(
    self,
    stage: Stage,
    begin: int,
    done: int,
    variables: Variables,
    shardings: Variables,
    opt_state: Any,
    session: '_Session',
  ) -> Variables:
    """Takes the steps of a stage that begins after `begin`, from `done` on."""
    session.bar.set_description(f'{self.config["method"]} {stage.name}')
    state, state_shardings = begin_stage(
      self.method, stage, done, variables, shardings, self._mesh
    )
    if opt_state is not None:
      state = state.replace(opt_state=opt_state)
    step_fn = compile_step(
      self.method,
      stage,
      begin,
      self._run.seed,
      self._mesh,
      state_shardings,
      self._run.accumulate,
    )
    end = begin + stage.steps
    data = session.data
    if self._data.token_cache and self._encoder_is_frozen(stage):
      data = self._encode(variables, data, not session.bar.disable)
    held_out = None
    if self._run.evaluate_every:
      held_out = HeldOut(
        self.method, self._mesh, data, self._run.evaluate_batches
      )
    part, num_parts = sharding.batch_share(self._mesh, self._run.batch_size)
    batches = data.batches(
      done,
      end,
      put=lambda rows: sharding.put_batch(rows, self._mesh),
      process=part,
      num_processes=num_parts,
    )
    clock, logged = time.monotonic(), done
    for step, batch in enumerate(batches, start=done + 1):
      state, metrics = step_fn(state, batch)
      session.bar.update()
      last = step == end
      logs = last or step % self._run.log_every == 0
      stops = session.preemption.after(step)
      saves = last or stops or step % self._run.save_every == 0
      if logs or saves:
        values = {k: float(v) for k, v in jax.device_get(metrics).items()}
        check_finite(step, values, session.checkpoints.latest_step())
      if logs:
        seconds = time.monotonic() - clock
        values['steps_per_second'] = (step - logged) / seconds
        if self._evaluates(step, last):
          values |= held_out.evaluate(state.variables)
        if session.writer:
          session.writer.write(step, stage.name, values)
        session.bar.set_postfix(
          {k: f'{values[f"loss/{k}"]:.3f}' for k in stage.optimizers}
        )
        clock, logged = time.monotonic(), step
      if saves:
        self._save(step, stage, state, values, session)
      session.on_step(step)
      if stops and step < self.total_steps:
        session.checkpoints.wait()
        message = (
          f'Asked to stop: {self.workdir} is saved after step {step} of '
          f'{self.total_steps}; run the same command again to go on'
        )
        logging.warning(message)
        raise Preempted(message)
    return state.variables

  def _encoder_is_frozen(self, stage: Stage) -> bool:
    trained = {
      name
      for part in stage.optimizers
      for name in self.method.parts[part].params
    }
    return trained.isdisjoint(self.method.encoder.params)

  def _encode(self, variables: Variables, data: TrainingData, progress: bool):
    """Returns the data with the frames encoded by the frozen tokenizer."""
    encode, tokenizer, batch_size = frozen_encoder(self.method, variables)
    data.encode(
      encode,
      tokenizer,
      batch_size,
      progress,
      process=jax.process_index(),
      num_processes=jax.process_count(),
    )
    multihost_utils.sync_global_devices('tokens are encoded')
    return data.with_tokens(tokenizer)

  def _save(self, step, stage, state: TrainState, values, session):
    name, best = self._run.best_metric, None
    if name in values:
      best = {name: values[name]}
    elif name and stage == self.stages[-1] and step % self._run.save_every == 0:
      raise ConfigError(
        f'run.best_metric={name!r} is not measured in {stage.name}; there are '
        f'{", ".join(sorted(values))}'
      )
    meta = {
      'step': step,
      'stage': stage.name,
      'config': self.config,
      'data': session.data.identity,
    }
    session.checkpoints.save(step, state.variables, state.opt_state, meta, best)

  def _evaluates(self, step: int, last: bool) -> bool:
    every = self._run.evaluate_every
    return bool(every) and (last or step % every == 0)


class _Session(NamedTuple):
  """What every stage of one call of `train` shares."""

  data: TrainingData
  checkpoints: Checkpoints
  writer: MetricWriter | None  # of the process that writes
  bar: tqdm.tqdm
  on_step: Callable[[int], None]
  preemption: Preemption
