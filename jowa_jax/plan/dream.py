"""The trained model as a simulator: frames and rewards that follow actions."""

from collections.abc import Callable, Sequence

import chex
import jax
import jax.numpy as jnp

from jowa_jax.models import kv_cache, world_action
from jowa_jax.models.heads import WorldHeads
from jowa_jax.models.kv_cache import KVCache, Revision
from jowa_jax.models.transformer import Backbone
from jowa_jax.models.world_action import WorldActionConfig
from jowa_jax.plan import decode
from jowa_jax.plan.base import Dream, WorldModel
from jowa_jax.types import Context, Params

DECODERS = ('parallel', 'sequential')


@chex.dataclass(frozen=True)
class Memory:
  """What N sequences have seen."""

  cache: KVCache
  frame: chex.Array  # [N, K] int32, the last one


def remember(
  config: WorldActionConfig, params: Params, context: Context
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
    params['backbone'],
    context.tokens,
    context.actions,
    context.count,
    context.tasks,
  )
  q = world_action.q_values(config, params['q_heads'], hidden)
  return Memory(cache=cache, frame=context.tokens[:, -1]), q


def check_options(decoder: str, temperature: float = 0.0) -> None:
  """Raises ValueError if `world_model` cannot be told this."""
  if decoder not in DECODERS or temperature < 0:
    raise ValueError(
      f'decoder={decoder!r} must be in {DECODERS} and '
      f'temperature={temperature} at least 0'
    )


def world_model(
  config: WorldActionConfig,
  params: Params,
  tasks: chex.Array,
  *,
  decoder: str = 'parallel',
  temperature: float = 0.0,
  shares: Sequence[float] = (),
  passes: int | None = None,
) -> WorldModel:
  """Returns the trained model as a simulator.

  Args:
    config: sizes of the model.
    params: with the top-level names of `world_action.init`.
    tasks: [E] int32, the games of the environments.
    decoder: how frames are decoded greedily, one of `DECODERS`.
    temperature: frames and rewards are drawn from the softmax of logits over
      temperature, token by token; 0 is greedy.
    shares: see `decode.parallel`.
    passes: of the parallel decoder, whatever is needed; for measurements.

  Raises:
    ValueError: the decoder is none, or the temperature negative.
  """
  check_options(decoder, temperature)
  backbone, heads = Backbone(config.backbone), WorldHeads(config.backbone)
  num_tokens = config.backbone.tokens_per_frame

  def forward(cache: KVCache, ids: chex.Array, revision: Revision | None):
    rows = jnp.repeat(tasks, ids.shape[0] // tasks.shape[0])
    return backbone.apply(
      {'params': params['backbone']}, ids, rows, cache, revision=revision
    )

  def choose(method: str) -> Callable:
    def fn(hidden, key=None):
      logits = heads.apply(
        {'params': params['world_heads']}, hidden, method=method
      )
      if temperature:
        chosen = jax.random.categorical(key, logits / temperature)
      else:
        chosen = jnp.argmax(logits, axis=-1)
      return chosen.astype(jnp.int32)

    return fn

  next_token, reward_class = choose('next_token'), choose('reward')

  def dream(
    memory: Memory, actions: chex.Array, key: chex.PRNGKey | None = None
  ) -> Dream:
    if temperature and key is None:
      raise ValueError('A dream that is drawn needs a key')
    keys = (None, None) if key is None else jax.random.split(key)
    if temperature or decoder == 'sequential':
      frame = decode.sequential(
        forward, next_token, memory.cache, actions, num_tokens, keys[0]
      )
    else:
      copies = len(actions) // len(memory.frame)
      draft = jnp.repeat(memory.frame, copies, axis=0)
      frame = decode.parallel(
        forward, next_token, memory.cache, actions, draft, shares, passes
      )
    reward = reward_class(frame.action_hidden, keys[1])
    return Dream(
      reward=reward.astype(jnp.float32) - 1,
      tokens=frame.tokens,
      q=world_action.q_values(config, params['q_heads'], frame.frame_hidden),
      memory=Memory(
        cache=kv_cache.append(memory.cache, frame.part), frame=frame.tokens
      ),
      passes=frame.passes,
    )

  def take_rows(memory: Memory, rows: chex.Array) -> Memory:
    return Memory(
      cache=kv_cache.take_rows(memory.cache, rows), frame=memory.frame[rows]
    )

  return WorldModel(dream=dream, take_rows=take_rows)
