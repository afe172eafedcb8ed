"""The steps of a stage, and what happens between them."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np
import tqdm
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from jowa_jax import devices
from jowa_jax.checkpoint.manager import Checkpoints
from jowa_jax.checkpoint.run_directory import RunDirectory
from jowa_jax.configuration import ConfigError
from jowa_jax.data.feed.feed import Feed
from jowa_jax.methods.base import Method, Variables
from jowa_jax.train import sharding
from jowa_jax.train.encoding import frozen_encoder
from jowa_jax.train.held_out import HeldOut
from jowa_jax.train.metrics import Meter, MetricWriter, check_finite
from jowa_jax.train.preemption import AskedToStop, Preempted, Preemption
from jowa_jax.train.profiling import Profiler
from jowa_jax.train.settings import RunConfig
from jowa_jax.train.state import Stage, TrainState, begin_stage, stage_flops
from jowa_jax.train.step import StepFn, compile_step
from jowa_jax.types import Segment

# Variables -> scores by name, by playing; calls a function at each decision.
PlayFn = Callable[[Variables, Callable[[], None]], dict[str, float]]


class Session(NamedTuple):
  """What all stages of one call of `Run.train` share."""

  method: Method
  config: Mapping[str, Any]  # all of it, for checkpoints
  run: RunConfig
  directory: RunDirectory
  mesh: Mesh
  total_steps: int
  last_stage: str
  data: Feed
  encodes: bool  # frames, for stages of a frozen tokenizer
  checkpoints: Checkpoints
  writer: MetricWriter | None  # of the process that writes
  bar: tqdm.tqdm
  preemption: Preemption
  profiler: Profiler
  play: PlayFn | None
  on_step: Callable[[int], None]


def run_stage(
  session: Session,
  stage: Stage,
  begin: int,
  done: int,
  variables: Variables,
  shardings: Variables,
  opt_state: dict[str, Any] | None,
  before: Collection[str],
) -> Variables:
  """Takes the steps of a stage that begins after `begin`, from `done` on.

  Args:
    session: of the run.
    stage: which objectives, and how.
    begin: steps taken before the stage.
    done: steps taken before now.
    variables: as they are now; donated.
    shardings: where each of the variables lives.
    opt_state: of the optimizers, if the stage has begun.
    before: objectives of the stages before it.

  Returns:
    The variables after the stage.

  Raises:
    ConfigError: the best metric is none of those measured.
    FloatingPointError: a metric is not finite.
    Preempted: SIGTERM came; the state is saved.
  """
  run, method = session.run, session.method
  session.bar.set_description(f'{session.config["method"]} {stage.name}')
  data = session.data
  if session.encodes and _tokenizer_is_frozen(method, stage):
    data = _encode(session, done, variables)
  flops = run.batch_size * stage_flops(method, stage)
  end = begin + stage.steps
  between = _Between(session, stage, data, flops, done, end)
  state, state_shardings = begin_stage(
    method, stage, done, variables, shardings, session.mesh, opt_state, before
  )
  del variables, opt_state
  take = compile_step(
    *(method, stage, begin, run.seed),
    *(session.mesh, state_shardings, run.accumulate),
  )
  compiled = None

  def interact(step: int) -> None:
    # Called between two steps: the state is that after the one before.
    between.played(data.interact(step, state.variables))

  batches = _batches(session, data, done, end, interact)
  for step, batch in enumerate(between.meter.count(batches), start=done + 1):
    if compiled is None:
      compiled = _compile(take, state, batch, stage, flops)
      between.meter.skip()
    session.profiler.before(step)
    state, metrics = compiled(state, batch)
    session.profiler.after(step, metrics)
    session.bar.update()
    between.after(step, state, metrics)
  return state.variables


class _Between:
  """What happens between the steps of a stage: logging, measuring, saving."""

  def __init__(
    self,
    session: Session,
    stage: Stage,
    data: Feed,
    flops: float,
    done: int,
    end: int,
  ):
    """For the steps from `done` to `end`; `flops` are those of one."""
    run, method = session.run, session.method
    self.meter = Meter(run.batch_size, method.tokens, flops, method.dtype)
    self._session = session
    self._stage = stage
    self._end = end
    self._logged = done  # the last step that was
    self._played: dict[str, float] = {}
    self._held_out = None
    if run.evaluate_every:
      self._held_out = HeldOut(method, session.mesh, data, run.evaluate_batches)

  def played(self, values: Mapping[str, float]) -> None:
    """Keeps what interaction measured until it is logged."""
    self._played.update(values)

  def after(self, step: int, state: TrainState, metrics: Mapping) -> None:
    """Does what is due after a step, see `run_stage` for what it raises."""
    session = self._session
    last = step == self._end
    logs = last or step % session.run.log_every == 0
    stops = session.preemption.asked()
    saves = last or stops or step % session.run.save_every == 0
    values = {}
    if logs or saves:
      values = {k: float(v) for k, v in jax.device_get(metrics).items()}
      check_finite(step, values, session.checkpoints.latest_step())
    if logs:
      values |= self.meter.read(step - self._logged) | self._played
      self._played.clear()
      if not stops:
        try:
          values |= self._evaluate(state.variables, step, last)
        except AskedToStop:
          logging.warning('What is measured after step %d is left out', step)
          stops = saves = True
      _log(session, self._stage, step, values)
      self._logged = step
      self.meter.skip()
    if saves:
      _save(session, self._stage, step, state, values, stops)
    session.on_step(step)
    if stops and step < session.total_steps:
      _stop(session, step)

  def _evaluate(
    self, variables: Variables, step: int, last: bool
  ) -> dict[str, float]:
    """What is measured beside training after a step."""
    session = self._session

    def due(every: int) -> bool:
      return bool(every) and (last or step % every == 0)

    values = {}
    if self._held_out and due(session.run.evaluate_every):
      values |= self._held_out.evaluate(variables)
    if session.play and due(session.run.play_every):
      if jax.process_count() > 1:
        # Every process plays the same: all wait for it anyway.
        variables = multihost_utils.process_allgather(variables, tiled=True)
      with session.preemption.watched() as before_decision:
        values |= session.play(variables, before_decision)
    return values


def _tokenizer_is_frozen(method: Method, stage: Stage) -> bool:
  trained = {
    group
    for name in stage.optimizers
    for group in method.objectives[name].params
  }
  return trained.isdisjoint(method.tokenizer.params)


def _encode(session: Session, done: int, variables: Variables) -> Feed:
  """The data with the frames encoded by the frozen tokenizer."""
  encode, tokenizer, batch_size = frozen_encoder(session.method, variables)
  try:
    with session.preemption.watched() as before_batch:

      def encode_watched(frames: np.ndarray) -> np.ndarray:
        before_batch()
        return encode(frames)

      session.data.encode(
        encode_watched,
        tokenizer,
        batch_size,
        not session.bar.disable,
        process=jax.process_index(),
        num_processes=jax.process_count(),
      )
  except AskedToStop:
    _stop(session, done)
  return session.data.with_tokens(tokenizer)


def _batches(
  session: Session,
  data: Feed,
  done: int,
  end: int,
  interact: Callable[[int], None],
) -> Iterator[Segment]:
  """Yields the batches of a stage, and interacts where the data asks for it."""
  share, shares = sharding.batch_share(session.mesh, session.run.batch_size)
  step, due = done, data.next_interaction(done)
  while step < end:
    if due == step:
      interact(step)
      due = data.next_interaction(step + 1)
    stop = end if due is None else min(due, end)
    yield from data.batches(
      step,
      stop,
      put=lambda rows: sharding.put_batch(rows, session.mesh),
      process=share,
      num_processes=shares,
    )
    step = stop


def _compile(
  take: StepFn, state: TrainState, batch: Segment, stage: Stage, flops: float
) -> StepFn:
  """Compiles the step ahead of time, and logs what it costs."""
  compiled = take.lower(state, batch).compile()
  memory = compiled.memory_analysis()
  logging.info(
    '%s: %.3g operations a step by formula, %.3g as compiled on each of %d '
    'devices, which hold %.3g bytes of state and %.3g of what is computed',
    stage.name,
    flops,
    devices.cost(compiled)['flops'],
    jax.device_count(),
    memory.argument_size_in_bytes,
    memory.temp_size_in_bytes,
  )
  return compiled


def _log(
  session: Session, stage: Stage, step: int, values: Mapping[str, float | None]
) -> None:
  if session.writer:
    measured = {k: v for k, v in values.items() if v is not None}
    session.writer.write(step, stage.name, measured)
  losses = {k: f'{values[f"loss/{k}"]:.3f}' for k in stage.optimizers}
  session.bar.set_postfix(
    {**losses, 'tokens/s': f'{values["tokens_per_second"]:.0f}'}
  )


def _save(
  session: Session,
  stage: Stage,
  step: int,
  state: TrainState,
  values: Mapping[str, float | None],
  stops: bool,
) -> None:
  name = session.run.best_metric
  best = None
  if values.get(name) is not None:
    best = {name: values[name]}
  meta = {
    'step': step,
    'stage': stage.name,
    'config': session.config,
    'data': session.data.identity,
  }
  session.data.save(session.directory.feed, step)
  session.checkpoints.save(step, state.variables, state.opt_state, meta, best)
  if (
    name
    and name not in values
    and stage.name == session.last_stage
    and step % session.run.save_every == 0
    and not stops
  ):
    session.checkpoints.wait()
    raise ConfigError(
      f'run.best_metric={name!r} is not measured in {stage.name}; there are '
      f'{", ".join(sorted(values))}'
    )


def _stop(session: Session, step: int) -> NoReturn:
  session.checkpoints.wait()
  saved = f'is saved after step {step}' if step else 'has taken no step yet'
  message = (
    f'Asked to stop: {session.directory} {saved} of {session.total_steps}; '
    'run the same command again to go on'
  )
  logging.warning(message)
  raise Preempted(message)
