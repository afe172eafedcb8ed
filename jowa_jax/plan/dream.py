"""Greedy, token-by-token dreaming of one frame after an action."""

import chex
import jax.numpy as jnp
from jax import lax

from jowa_jax.models import kv_cache, world_action
from jowa_jax.models.heads import WorldHeads
from jowa_jax.models.kv_cache import KVCache
from jowa_jax.models.transformer import Backbone
from jowa_jax.models.world_action import WorldActionConfig
from jowa_jax.plan.base import Dream, WorldModel
from jowa_jax.types import Params


def world_model(
  config: WorldActionConfig, params: Params, tasks: chex.Array
) -> WorldModel:
  """Returns the trained model as a simulator.

  Args:
    config: sizes of the model.
    params: with the top-level names of `world_action.init`.
    tasks: [B] int32, the game of each row the search starts from. Rows that
      are gathered later are spread evenly over these, B at a time.
  """
  backbone = Backbone(config.backbone)
  heads = WorldHeads(config.backbone)
  head_params = {'params': params['world_heads']}

  def step(ids: chex.Array, cache: KVCache):
    rows = jnp.repeat(tasks, ids.shape[0] // tasks.shape[0])
    hidden, cache = backbone.apply(
      {'params': params['backbone']}, ids[:, None], rows, cache
    )
    return hidden[:, 0], cache

  def next_token(hidden):
    logits = heads.apply(head_params, hidden, method='next_token')
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)

  def dream(cache: KVCache, actions: chex.Array) -> Dream:
    hidden, cache = step(actions, cache)
    reward_logits = heads.apply(head_params, hidden, method='reward')

    def decode(carry, _):
      token, cache, _ = carry
      hidden, cache = step(token, cache)
      return (next_token(hidden), cache, hidden), token

    # Each pass feeds one token of the frame; the last one's prediction is
    # not used, its hidden state is what the Q heads read.
    carry = (next_token(hidden), cache, hidden)
    (_, cache, hidden), tokens = lax.scan(
      decode, carry, length=config.backbone.tokens_per_frame
    )
    return Dream(
      reward=jnp.argmax(reward_logits, axis=-1).astype(jnp.float32) - 1,
      tokens=tokens.T,
      q=world_action.q_values(config, params['q_heads'], hidden),
      cache=cache,
    )

  return WorldModel(dream=dream, take_rows=kv_cache.take_rows)
