"""The trained model as a simulator: frames and rewards that follow actions."""

import dataclasses
from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp

from jowa_jax.models import kv_cache, world_action
from jowa_jax.models.backbone import Backbone
from jowa_jax.models.heads import WorldHeads
from jowa_jax.models.kv_cache import KVCache, Revision, Span
from jowa_jax.models.world_action import (
  BACKBONE,
  Q_HEADS,
  WORLD_HEADS,
  WorldActionConfig,
)
from jowa_jax.plan import decode
from jowa_jax.plan.base import Dream, Trails, WorldModel
from jowa_jax.plan.imagine import DreamPolicy, Imagined, unroll
from jowa_jax.types import History, Params

DECODERS = ('parallel', 'sequential')


@chex.dataclass(frozen=True)
class Memory:
  """What N sequences have seen."""

  cache: KVCache
  frame: chex.Array  # [N, K] int32, the last one


@chex.dataclass(frozen=True)
class Trail:
  """What was dreamed on the way from contexts to N states."""

  frames: Span | None  # with room for some steps; None for none
  length: chex.Array  # [N] int32, tokens of what was dreamed
  frame: chex.Array  # [N, K] int32, the last one


def remember(
  config: WorldActionConfig, params: Params, context: History
) -> tuple[Memory, chex.Array]:
  """Reads contexts up to the current frame, once for all that is dreamed.

  Args:
    config: sizes of the model.
    params: with the top-level names of `world_action.init`.
    context: of E environments.

  Returns:
    The memory, and Q values [E, A] at the current frames.
  """
  hidden, cache = world_action.prefill(
    config.backbone,
    params[BACKBONE],
    context.seen,
    context.actions,
    context.count,
    context.tasks,
  )
  q = value(config, params, hidden)
  return Memory(cache=cache, frame=context.seen[:, -1]), q


def choose_decoder(
  decoder: str | None,
  environments: int,
  shares: Sequence[float] | None = (),
  schedule: Sequence[float] = (),
) -> str:
  """What dreams are decoded with: as asked, or what is fastest here.

  A pass over all of a frame's tokens takes an accelerator little longer than
  one over a single token, so few passes are fastest. A CPU takes a time for
  every token, and passes over whole frames run some of them many times; only
  where one environment is alone are those that stand left out, see
  `decode.parallel`. `launch.benchmark --suite=plan --checkpoint` measures both.

  Args:
    decoder: one of `DECODERS`; None for the fastest.
    environments: that are dreamed of together.
    shares: see `decode.parallel`, which alone can be told them; none if None.
    schedule: see `decode.parallel`, which alone can be told it.
  """
  if decoder is not None:
    return decoder
  told = bool(shares or schedule)
  cpu = jax.default_backend() == 'cpu'
  return 'sequential' if cpu and environments > 1 and not told else 'parallel'


def check_options(
  decoder: str | None,
  temperature: float = 0.0,
  shares: Sequence[float] = (),
  schedule: Sequence[float] = (),
) -> None:
  """Raises ValueError if `world_model` cannot be told this."""
  decode.check_shares(shares, schedule)
  if decoder == 'sequential' and (shares or schedule):
    raise ValueError('shares and schedule are of the parallel decoder')
  if decoder not in (None, *DECODERS) or temperature < 0:
    raise ValueError(
      f'decoder={decoder!r} must be in {DECODERS} and '
      f'temperature={temperature} at least 0'
    )


def world_model(
  config: WorldActionConfig,
  params: Params,
  tasks: chex.Array,
  *,
  decoder: str | None = None,
  temperature: float | chex.Array = 0.0,
  shares: Sequence[float] = (),
  schedule: Sequence[float] = (),
) -> WorldModel:
  """The trained model as a simulator.

  Args:
    config: sizes of the model.
    params: with the top-level names of `world_action.init`.
    tasks: [E] int32, the games of the environments.
    decoder: how frames are decoded greedily, one of `DECODERS`; by default
      `choose_decoder`'s.
    temperature: frames and rewards are drawn from the softmax of logits over
      temperature, token by token; the number 0 is greedy. An array [] above 0
      is for programs that are compiled once for all temperatures.
    shares: see `decode.parallel`.
    schedule: see `decode.parallel`.

  Raises:
    ValueError: see `check_options`.
  """
  if not isinstance(temperature, jax.Array):
    check_options(decoder, temperature, shares, schedule)
  decoder = choose_decoder(decoder, len(tasks), shares, schedule)
  dreamer = _Dreamer(
    config, params, tasks, decoder, temperature, shares, schedule
  )
  return WorldModel(
    dream=dreamer.dream,
    take_rows=_take_rows,
    trails=Trails(begin=_begin_trail, recall=_recall, extend=_extend_trail),
    observe=dreamer.observe,
  )


def imagine(
  config: WorldActionConfig,
  params: Params,
  context: History,
  policy: DreamPolicy,
  horizon: int,
  key: chex.PRNGKey | None = None,
  *,
  temperature: float = 0.0,
  decoder: str | None = None,
  shares: Sequence[float] = (),
) -> Imagined:
  """Dreams `horizon` steps from real contexts (JOWA section 4.2).

  Args:
    config: sizes of the model.
    params: with the top-level names of `world_action.init`.
    context: of E environments; its last actions are not read.
    policy: chooses every action; to replay actions, ignore what it is given.
    horizon: steps; the position table must have room for them.
    key: for the policy and, with a temperature, for what is drawn.
    temperature: see `world_model`.
    decoder: see `world_model`.
    shares: see `world_model`.

  Raises:
    ValueError: horizon < 0, or no room for it beside the context.
  """
  _check_room(config, context, horizon)
  params = world_action.in_compute_dtype(config, params)
  memory, q = remember(config, params, context)
  if not horizon:
    envs, _, num_tokens = context.seen.shape
    empty = jnp.zeros((envs, 0), jnp.int32)
    return Imagined(
      actions=empty,
      rewards=empty.astype(jnp.float32),
      tokens=jnp.zeros((envs, 0, num_tokens), jnp.int32),
      q=q[:, None],
      passes=empty,
    )
  model = world_model(
    config,
    params,
    context.tasks,
    decoder=decoder,
    temperature=temperature,
    shares=shares,
  )
  return unroll(model, memory, q, policy, horizon, key)


def _check_room(
  config: WorldActionConfig, context: History, horizon: int
) -> None:
  """Raises ValueError unless the position table has room for a dream."""
  blocks, limit = context.seen.shape[1], config.backbone.max_blocks
  if horizon < 0 or blocks + horizon > limit:
    raise ValueError(
      f'A context of {blocks} blocks and horizon={horizon} (at least 0) do not '
      f'fit into the {limit} blocks of the position table: shorten one'
    )


def value(
  config: WorldActionConfig, params: Params, hidden: chex.Array
) -> chex.Array:
  """Q values [..., A] at hidden states [..., D] of frames' last tokens."""
  return world_action.q_values(config, params[Q_HEADS], hidden)


def one_pass(
  config: WorldActionConfig,
  params: Params,
  tasks: chex.Array,
  memory: Memory,
  ids: chex.Array,
) -> tuple[chex.Array, Span, chex.Array]:
  """What one pass of the parallel decoder computes, to be measured alone.

  Args:
    config: sizes of the model.
    params: with the top-level names of `world_action.init`.
    tasks: [E] int32, the games of the environments.
    memory: of E environments.
    ids: [M, K + 1] int32, an action and a draft of the frame after it; M / E
      neighbours go on from one memory.

  Returns:
    Hidden states [M, D] at the last tokens, keys and values of all, and the
    frames [M, K] that are predicted.
  """
  dreamer = _Dreamer(config, params, tasks, 'parallel', 0.0, (), ())
  hidden, span = dreamer.forward(memory.cache, ids, None)
  return hidden[:, -1], span, dreamer.next_token(hidden[:, :-1])


@dataclasses.dataclass(frozen=True)
class _Dreamer:
  """What a `world_model` continues sequences with, see there."""

  config: WorldActionConfig
  params: Params
  tasks: chex.Array
  decoder: str
  temperature: float | chex.Array
  shares: Sequence[float]
  schedule: Sequence[float]

  @property
  def draws(self) -> bool:
    return isinstance(self.temperature, jax.Array) or bool(self.temperature)

  def dream(
    self, memory: Memory, actions: chex.Array, key: chex.PRNGKey | None = None
  ) -> Dream:
    """The step after each of the actions, see `WorldModel`."""
    if self.draws and key is None:
      raise ValueError('A dream that is drawn needs a key')
    keys = (None, None) if key is None else jax.random.split(key)
    frame = self._decode(memory, actions, keys[0])
    cache = kv_cache.append(memory.cache, frame.span)
    return Dream(
      reward=self._reward(frame.action_hidden, keys[1]),
      tokens=frame.tokens,
      q=value(self.config, self.params, frame.frame_hidden),
      memory=Memory(cache=cache, frame=frame.tokens),
      runs=frame.runs,
      end=self._end(frame.action_hidden),
    )

  def observe(
    self, memory: Memory, actions: chex.Array, tokens: chex.Array
  ) -> tuple[chex.Array, Memory]:
    """Q values at frames that were seen, see `WorldModel`."""
    ids = jnp.concatenate([actions[:, None], tokens], axis=1)
    hidden, span = self.forward(memory.cache, ids, None)
    cache = kv_cache.append(memory.cache, span)
    q = value(self.config, self.params, hidden[:, -1])
    return q, Memory(cache=cache, frame=tokens)

  def _decode(
    self, memory: Memory, actions: chex.Array, key: chex.PRNGKey | None
  ) -> decode.Decoded:
    if self.draws or self.decoder == 'sequential':
      return decode.sequential(
        *(self.forward, self.next_token, memory.cache, actions),
        *(self.config.backbone.tokens_per_frame, key),
      )
    copies = len(actions) // len(memory.frame)
    return decode.parallel(
      *(self.forward, self.next_token, memory.cache, actions),
      draft=jnp.repeat(memory.frame, copies, axis=0),
      shares=self.shares,
      schedule=self.schedule,
    )

  def forward(self, cache: KVCache, ids: chex.Array, revision: Revision | None):
    """The `decode.Forward` of the backbone."""
    rows = jnp.repeat(self.tasks, ids.shape[0] // self.tasks.shape[0])
    return Backbone(self.config.backbone).apply(
      {'params': self.params[BACKBONE]}, ids, rows, cache, revision=revision
    )

  def _logits(self, method: str, hidden: chex.Array) -> chex.Array:
    return WorldHeads(self.config.backbone).apply(
      {'params': self.params[WORLD_HEADS]}, hidden, method=method
    )

  def _choose(self, logits: chex.Array, key: chex.PRNGKey | None) -> chex.Array:
    if self.draws:
      return jax.random.categorical(key, logits / self.temperature)
    return jnp.argmax(logits, axis=-1)

  def next_token(
    self, hidden: chex.Array, key: chex.PRNGKey | None = None
  ) -> chex.Array:
    logits = self._logits('next_token', hidden)
    return self._choose(logits, key).astype(jnp.int32)

  def _reward(self, hidden: chex.Array, key: chex.PRNGKey | None) -> chex.Array:
    logits = self._logits('reward', hidden)
    value = self._choose(logits, key).astype(jnp.float32) - 1
    return jnp.where(jnp.isfinite(logits).all(axis=-1), value, jnp.nan)

  def _end(self, hidden: chex.Array) -> chex.Array:
    logits = self._logits('end', hidden).astype(jnp.float32)
    return jax.nn.softmax(logits)[..., 1]


def _take_rows(memory: Memory, rows: chex.Array) -> Memory:
  return Memory(
    cache=kv_cache.take_rows(memory.cache, rows), frame=memory.frame[rows]
  )


def _begin_trail(memory: Memory, steps: int) -> Trail:
  rows, num_tokens = memory.frame.shape
  frames = None
  if steps:
    slots = steps * (num_tokens + 1)
    frames = kv_cache.empty_span(memory.cache.context, slots, rows)
  return Trail(
    frames=frames, length=jnp.zeros((rows,), jnp.int32), frame=memory.frame
  )


def _recall(memory: Memory, trail: Trail) -> Memory:
  cache = memory.cache
  dreamed = () if trail.frames is None else (trail.frames,)
  return Memory(
    cache=cache.replace(
      frames=(*cache.frames, *dreamed), length=cache.length + trail.length
    ),
    frame=trail.frame,
  )


def _extend_trail(trail: Trail, memory: Memory) -> Trail:
  frames, new = trail.frames, memory.cache.frames[-1]
  if frames is not None:
    # A frame that nothing will be dreamed after finds no room.
    frames = kv_cache.write_rows(frames, new, trail.length)
  return Trail(
    frames=frames,
    length=trail.length + new.valid.shape[1],
    frame=memory.frame,
  )
