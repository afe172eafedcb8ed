"""A training run: config, data and directory in, checkpoints and logs out.

Resuming is starting again: the latest checkpoint says the step, the step says
the stage and the batch, and batches are a pure function of (seed, step).
"""

import dataclasses
import hashlib
import json
import logging
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import tqdm

from jowa_jax.checkpoint.manager import CheckpointError, Checkpoints
from jowa_jax.checkpoint.warm_start import warm_start
from jowa_jax.configuration import ConfigError, build, differences
from jowa_jax.data.training import DataConfig, TrainingData
from jowa_jax.methods.base import Method, Variables
from jowa_jax.methods.factory import make_method
from jowa_jax.train import sharding
from jowa_jax.train.metrics import MetricWriter, check_finite
from jowa_jax.train.optimizer import OptimizerConfig
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


def parse_stages(config: Mapping[str, Any]) -> tuple[Stage, ...]:
  """Returns the stages of a config's `stages` section, in its `order`.

  Raises:
    ConfigError: a stage or the optimizer of one of its parts is missing.
  """
  section, stages = config['stages'], []
  for name in section['order']:
    if name not in section:
      raise ConfigError(f'stages.order names {name}, but stages.{name} is not')
    where, body = f'stages.{name}', section[name]
    missing = [part for part in body['parts'] if part not in body]
    if missing:
      raise ConfigError(f'Missing section {where}.{missing[0]}')
    optimizers = {
      part: build(OptimizerConfig, body[part], f'{where}.{part}')
      for part in body['parts']
    }
    unread = sorted(set(body) - {'steps', 'parts', *body['parts']})
    if unread:
      raise ConfigError(f'Unknown field {where}.{unread[0]}')
    stages.append(Stage(name, int(body['steps']), optimizers))
  return tuple(stages)


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
    self.method: Method = make_method(self.config)
    self.stages = parse_stages(self.config)
    for stage in self.stages:
      check_stage(self.method, stage)
    self._run = build(RunConfig, self.config['run'], 'run')
    self._data = build(DataConfig, self.config['data'], 'data')
    self._evaluate_batch = jax.jit(self.method.evaluate)
    self._rules = dict(self.config['mesh']['rules'])
    self._mesh = sharding.make_mesh(self.config['mesh']['axes'])
    data_size = self._mesh.shape['data']
    if self._run.batch_size % data_size:
      raise ConfigError(
        f'run.batch_size={self._run.batch_size} does not divide over the '
        f'{data_size} devices of the mesh axis data'
      )

  @property
  def total_steps(self) -> int:
    return sum(stage.steps for stage in self.stages)

  def train(
    self,
    progress: bool = True,
    on_step: Callable[[int], None] = lambda step: None,
  ) -> Variables:
    """Trains to the end, from the latest checkpoint if there is one.

    Args:
      progress: show a progress bar.
      on_step: called with the number of steps taken, after each.

    Returns:
      The trained variables.

    Raises:
      ConfigError: the directory holds a run with another config.
      DataError: the data cannot be used, or is not what the run began with.
      FloatingPointError: a metric is not finite.
    """
    self._claim_directory()
    checkpoints = Checkpoints(
      self.workdir / CHECKPOINTS, self._run.keep_checkpoints
    )
    done = checkpoints.latest_step() or 0
    data = self.load_data()
    writer = MetricWriter(self.workdir, done)
    try:
      return self._train(data, checkpoints, writer, done, progress, on_step)
    finally:
      writer.close()
      checkpoints.close()

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

  def _claim_directory(self):
    """Writes the config, or checks it against the one that is there."""
    path = self.workdir / CONFIG
    if path.exists():
      changed = differences(json.loads(path.read_text()), self.config)
      if changed:
        lines = '\n  '.join(changed)
        raise ConfigError(
          f'{self.workdir} holds a run with another config; give another '
          f'directory or restore these fields:\n  {lines}'
        )
      return
    self.workdir.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix('.tmp')
    temporary.write_text(json.dumps(self.config, indent=2))
    temporary.replace(path)

  def _train(self, data, checkpoints, writer, done, progress, on_step):
    variables, shardings = init_variables(
      self.method,
      self._run.seed,
      data.statistics,
      self._mesh,
      self._rules,
    )
    if done:
      self._check_data(checkpoints.meta(done), data)
      variables = checkpoints.restore_variables(variables, shardings, done)
      logging.info('Resuming %s at step %d', self.workdir, done)
    elif self.config['init_from']['checkpoints']:
      variables = warm_start(variables, shardings, **self.config['init_from'])
    begin = 0
    with tqdm.tqdm(
      total=self.total_steps,
      initial=done,
      unit='step',
      disable=not progress,
      dynamic_ncols=True,
    ) as bar:
      session = _Session(data, checkpoints, writer, bar, on_step)
      for stage in self.stages:
        if done < begin + stage.steps:
          variables = self._run_stage(
            stage, begin, done, variables, shardings, session
          )
          done = begin + stage.steps
        begin += stage.steps
    checkpoints.wait()
    return variables

  def _place_held_out(self, data: TrainingData):
    """Held-out batches stay where they are computed on: they never change."""
    place = sharding.replicated(self._mesh)
    return [
      jax.device_put(batch, place)
      for batch in data.held_out_batches(self._run.evaluate_batches)
    ]

  def _check_data(self, meta: Mapping[str, Any], data: TrainingData):
    changed = differences(meta['data'], json.loads(json.dumps(data.identity)))
    if changed:
      raise CheckpointError(
        f'{self.workdir} was trained on other data than is in '
        f'{self._data.directory}:\n  ' + '\n  '.join(changed[:10])
      )

  def _run_stage(
    self,
    stage: Stage,
    begin: int,
    done: int,
    variables: Variables,
    shardings: Variables,
    session: '_Session',
  ) -> Variables:
    """Takes the steps of a stage that begins after `begin`, from `done` on."""
    session.bar.set_description(f'{self.config["method"]} {stage.name}')
    state, state_shardings = begin_stage(
      self.method, stage, done, variables, shardings, self._mesh
    )
    # A checkpoint at a stage's first step holds the optimizers of the stage
    # before, which this one does not take over.
    if done > begin:
      opt_state = session.checkpoints.restore_opt_state(
        state.opt_state, state_shardings.opt_state, done
      )
      state = state.replace(opt_state=opt_state)
    step_fn = compile_step(
      self.method, stage, begin, self._run.seed, self._mesh, state_shardings
    )
    place = sharding.batch_sharding(self._mesh)
    end = begin + stage.steps
    data = session.data
    if self._data.token_cache and 'tokenizer' not in stage.optimizers:
      data = self._encode(variables, data, not session.bar.disable)
    held_out = self._place_held_out(data)
    batches = data.batches(
      done, end, put=lambda batch: jax.device_put(batch, place)
    )
    clock, logged = time.monotonic(), done
    for step, batch in enumerate(batches, start=done + 1):
      state, metrics = step_fn(state, batch)
      session.bar.update()
      last = step == end
      if last or step % self._run.log_every == 0:
        values = {k: float(v) for k, v in jax.device_get(metrics).items()}
        check_finite(step, values, session.checkpoints.latest_step())
        seconds = time.monotonic() - clock
        values['steps_per_second'] = (step - logged) / seconds
        if self._evaluates(step, last):
          values |= self._evaluate(state.variables, held_out)
        session.writer.write(step, stage.name, values)
        session.bar.set_postfix(
          {k: f'{values[f"loss/{k}"]:.3f}' for k in stage.optimizers}
        )
        clock, logged = time.monotonic(), step
      if last or step % self._run.save_every == 0:
        self._save(step, stage, state, session)
      session.on_step(step)
    return state.variables

  def _encode(self, variables: Variables, data: TrainingData, progress: bool):
    """Returns the data with the frames encoded by the frozen tokenizer."""
    if self.method.encode is None:
      raise ConfigError('data.token_cache is set, but the method has no tokens')
    encode = jax.jit(self.method.encode)
    digest = hashlib.blake2b(digest_size=8)
    for leaf in jax.tree.leaves(jax.device_get(variables.params['tokenizer'])):
      digest.update(leaf.tobytes())
    return data.encoded(
      lambda frames: jax.device_get(encode(variables, frames)),
      digest.hexdigest(),
      progress,
    )

  def _save(self, step: int, stage: Stage, state: TrainState, session):
    meta = {
      'step': step,
      'stage': stage.name,
      'config': self.config,
      'data': session.data.identity,
    }
    session.checkpoints.save(step, state.variables, state.opt_state, meta)

  def _evaluates(self, step: int, last: bool) -> bool:
    every = self._run.evaluate_every
    return bool(every) and (last or step % every == 0)

  def _evaluate(self, variables: Variables, batches) -> dict[str, float]:
    """Returns the mean metrics of held-out batches."""
    records = jax.device_get(
      [self._evaluate_batch(variables, batch) for batch in batches]
    )
    return {
      f'held_out/{name}': float(sum(r[name] for r in records) / len(records))
      for name in (records[0] if records else ())
    }


class _Session(NamedTuple):
  """What every stage of one call of `train` shares."""

  data: TrainingData
  checkpoints: Checkpoints
  writer: MetricWriter
  bar: tqdm.tqdm
  on_step: Callable[[int], None]
