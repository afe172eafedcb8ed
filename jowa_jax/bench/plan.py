"""How fast decisions are, stage by stage, and in how many passes.

Random weights dream nothing that looks like a frame, so the passes of the
parallel decoder are set to what a trained model needs (`bench.passes` measures
it).
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jowa_jax import devices, games
from jowa_jax.bench.models import (
  peak_bytes,
  random_variables_of,
  seconds_per_call,
  table,
)
from jowa_jax.bench.train import jowa
from jowa_jax.methods import jowa_dreams, jowa_policy
from jowa_jax.methods.jowa_dreams import DECODERS, remember, world_model
from jowa_jax.models import world_action
from jowa_jax.models.backbone import BackboneConfig
from jowa_jax.plan import decode
from jowa_jax.plan.beam import beam_search
from jowa_jax.types import History, TimeStep

SETTINGS = ((1, 0), (2, 2), (4, 2))
ENVIRONMENTS = (1, 16)


@dataclasses.dataclass(frozen=True)
class Case:
  """What is measured."""

  size: str
  environments: int
  width: int
  horizon: int
  schedule: tuple[float, ...]
  seconds: float
  dtype: str


def measure(
  size: str,
  environments: Sequence[int] = ENVIRONMENTS,
  settings: Sequence[tuple[int, int]] = SETTINGS,
  schedule: Sequence[float] = (1.0, 1.0, 1.0),
  seconds: float = 3.0,
) -> list[dict[str, Any]]:
  """A record for every number of environments, setting and decoder.

  Args:
    size: a name in `SIZES`.
    environments: how many, one measurement each.
    settings: (width, horizon) of the beam search; horizon 0 is greedy play.
    schedule: of the parallel decoder's passes over a batch of frames, as many
      as the slowest of them needs: see `decode.parallel`. By default, three of
      all tokens, so that none can be packed.
    seconds: how long each rate is measured, at least.

  Raises:
    ValueError: a number is out of its range.
  """
  blocks = BackboneConfig(num_layers=1, width=1, num_heads=1).max_blocks
  for width, horizon in settings:
    if width < 1 or not 0 <= horizon < blocks:
      raise ValueError(
        f'width={width} must be at least 1 and horizon={horizon} in '
        f'0..{blocks - 1}'
      )
  decode.check_shares((), schedule)
  if not schedule or seconds <= 0 or min(environments, default=0) < 1:
    raise ValueError(
      f'environments={list(environments)} and the number of passes, '
      f'{len(schedule)}, must be at least 1 and seconds={seconds} above 0'
    )
  dtype = 'float32' if jax.default_backend() == 'cpu' else 'bfloat16'
  records = []
  for count in environments:
    for width, horizon in settings:
      case = Case(size, count, width, horizon, tuple(schedule), seconds, dtype)
      records += _measure(case)
  return records


@functools.cache
def _model(size: str, dtype: str):
  method, model = jowa(size, dtype)
  return method, model, random_variables_of(method)


def _measure(case: Case) -> list[dict[str, Any]]:
  stages = _Stages(case, *_model(case.size, case.dtype))
  shared = {
    'size': case.size,
    'environments': case.environments,
    'width': case.width,
    'horizon': case.horizon,
    'device': jax.devices()[0].device_kind,
    'dtype': case.dtype,
    'encode_ms': stages.encode() * 1e3,
    'prefill_ms': stages.prefill() * 1e3,
    'score_ms': stages.score() * 1e3,
  }
  records = []
  for decoder in DECODERS if case.horizon else DECODERS[:1]:
    seconds, peak_bytes = stages.decide(decoder)
    record = {
      **shared,
      'decoder': decoder if case.horizon else 'none',
      'decisions_per_second': case.environments / seconds,
      'passes_per_frame': stages.passes(decoder),
      'decision_ms': seconds * 1e3,
      'peak_bytes': peak_bytes,
      **stages.shares(decoder, seconds),
    }
    if case.horizon:
      record['search_ms'] = stages.search(decoder) * 1e3
      if decoder == 'parallel':
        record['pass_ms'] = stages.one_pass() * 1e3
        record['schedule'] = list(case.schedule)
    records.append(record)
  if len(records) == 2:
    parallel, sequential = records
    for name, of in (('search', 'searches'), ('decision', 'decisions')):
      ratio = sequential[f'{name}_ms'] / parallel[f'{name}_ms']
      parallel[f'times_sequential_{of}'] = ratio
  return records


class _Stages:
  """The stages of one case, each compiled and timed on its own."""

  def __init__(self, case, method, model, variables):
    self._case = case
    self._method, self._model = method, model
    self._variables = variables
    # What a decision casts once.
    self._params = jax.jit(
      functools.partial(world_action.in_compute_dtype, model)
    )(variables.params)
    blocks = model.backbone.max_blocks - case.horizon
    envs, num_tokens = case.environments, model.backbone.tokens_per_frame
    rng = np.random.default_rng(1)
    self._tasks = jnp.arange(envs, dtype=jnp.int32) % games.NUM_TASKS
    self._context = History(
      seen=jnp.asarray(
        rng.integers(0, model.backbone.vocab_size, (envs, blocks, num_tokens)),
        jnp.int32,
      ),
      actions=jnp.zeros((envs, blocks), jnp.int32),
      count=jnp.full((envs,), blocks, jnp.int32),
      tasks=self._tasks,
    )
    self._frames = jnp.asarray(
      rng.integers(0, 256, (envs, 84, 84)).astype(np.uint8)
    )
    self._legal = jnp.asarray(games.legal_mask())[self._tasks]

  def _time(self, fn, *arguments):
    fn = jax.jit(fn)
    return seconds_per_call(lambda: fn(*arguments), self._case.seconds)

  def encode(self) -> float:
    """Frames to tokens."""
    encode = self._method.tokenizer.encode
    return self._time(encode, self._variables, self._frames)

  def prefill(self) -> float:
    """Contexts to memories and root values."""
    fn = functools.partial(remember, self._model)
    return self._time(fn, self._params, self._context)

  def score(self) -> float:
    """Q values of the frames of all levels."""
    hidden = [
      jnp.ones((rows, self._model.backbone.width), self._case.dtype)
      for rows in self._level_rows()
    ]
    return self._time(
      lambda params, hidden: [
        jowa_dreams.value(self._model, params, x) for x in hidden
      ],
      self._params,
      hidden,
    )

  def _level_rows(self) -> list[int]:
    """How many frames every level dreams."""
    case, rows = self._case, []
    beams = case.environments
    for _ in range(case.horizon):
      rows.append(beams * case.width)
      beams = case.environments * case.width
    return rows

  def search(self, decoder: str) -> float:
    """The search, from memories to actions: dreaming, and what `score` is."""

    def fn(params, memory, q):
      simulator = world_model(
        self._model,
        params,
        self._tasks,
        decoder=decoder,
        shares=jowa_policy.default_shares(decoder, self._case.environments),
        schedule=self._case.schedule if decoder == 'parallel' else (),
      )
      return beam_search(
        simulator,
        q,
        memory,
        self._legal,
        width=self._case.width,
        horizon=self._case.horizon,
        gamma=self._model.returns.gamma,
      )

    memory, q = jax.jit(functools.partial(remember, self._model))(
      self._params, self._context
    )
    return self._time(fn, self._params, memory, q)

  def one_pass(self) -> float:
    """One pass over the action and the frame, for every level."""
    cfg, total = self._model.backbone, 0.0
    memory, _ = jax.jit(functools.partial(remember, self._model))(
      self._params, self._context
    )
    for rows in self._level_rows():
      ids = jnp.zeros((rows, cfg.block_size), jnp.int32)
      fn = functools.partial(jowa_dreams.one_pass, self._model)
      total += self._time(fn, self._params, self._tasks, memory, ids)
    return total

  def passes(self, decoder: str) -> float:
    if not self._case.horizon:
      return 0.0
    if decoder == 'sequential':
      return float(self._model.backbone.block_size)
    return float(len(self._case.schedule))

  def decide(self, decoder: str) -> tuple[float, int]:
    """The whole decision: (seconds, bytes of device memory)."""
    case, options = self._case, {}
    if case.horizon:
      search = self._method.simulator.search(case.width, case.horizon)
      options = dict(search, decoder=decoder)
    if options and decoder == 'parallel':
      options['schedule'] = case.schedule
    policy = self._method.policy(**options)
    first = jnp.zeros((case.environments,), bool)
    step = TimeStep(frames=self._frames, first=first)
    keys = jax.random.split(jax.random.key(0), case.environments)
    arguments = (self._variables, policy.init(self._tasks), step, keys)
    compiled = policy.act.lower(*arguments).compile()
    state = policy.init(self._tasks)

    def fn():
      nonlocal state
      actions, state, _ = compiled(self._variables, state, step, keys)
      return actions

    return seconds_per_call(fn, case.seconds), peak_bytes(compiled)

  def shares(self, decoder: str, seconds: float) -> dict[str, float]:
    """The shares of the device's peaks, if they are known.

    Operations are those of products with the weights of the backbone, two for
    every weight and token; bytes are these weights, once for every pass.
    """
    peak = devices.peak()
    if peak is None:
      return {}
    cfg = self._model.backbone
    weights = 12 * cfg.num_layers * cfg.width**2
    context = self._context.seen.shape[1] * cfg.block_size - 1
    tokens = context * self._case.environments
    reads = 1.0
    for rows in self._level_rows():
      whole = sum(self._case.schedule) if decoder == 'parallel' else 1
      tokens += cfg.block_size * rows * whole
      reads += self.passes(decoder)
    itemsize = jnp.dtype(self._case.dtype).itemsize
    return {
      'flops_share': 2 * weights * tokens / seconds / peak.flops,
      'bandwidth_share': weights * itemsize * reads / seconds / peak.bandwidth,
    }


_COLUMNS = (
  ('size', '{}', 6),
  ('environments', '{}', 4),
  ('width', '{}', 2),
  ('horizon', '{}', 2),
  ('decoder', '{}', 11),
  ('decisions_per_second', '{:.2f}', 9),
  ('passes_per_frame', '{:.1f}', 6),
  ('encode_ms', '{:.1f}', 8),
  ('prefill_ms', '{:.1f}', 8),
  ('search_ms', '{:.1f}', 9),
  ('score_ms', '{:.1f}', 7),
  ('pass_ms', '{:.1f}', 8),
  ('peak_bytes', '{:.2e}', 9),
  ('times_sequential_searches', '{:.2f}', 6),
)
_HEADS = (
  'size envs K H decoder decisions/s passes encode prefill search score pass '
  'bytes ratio'
).split()


def describe(records: Sequence[dict[str, Any]]) -> str:
  """A table; times are in milliseconds, scoring within the search's."""
  return table(_HEADS, _COLUMNS, records)
