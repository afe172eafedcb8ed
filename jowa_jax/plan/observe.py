"""Frames that were really seen, read after a memory as dreamed ones are."""

from collections.abc import Callable

import chex
import jax.numpy as jnp

from jowa_jax.models import kv_cache, world_action
from jowa_jax.models.backbone import Backbone
from jowa_jax.models.world_action import WorldActionConfig
from jowa_jax.plan.dream import Memory
from jowa_jax.types import Params

# (memory of N sequences, actions [M], tokens [M, K]) -> Q [M, A] at these
# frames, and the memory with them appended; each sequence is continued by M / N
# neighbours.
Observe = Callable[[Memory, chex.Array, chex.Array], tuple[chex.Array, Memory]]


def observer(
  config: WorldActionConfig, params: Params, tasks: chex.Array
) -> Observe:
  """Returns what `dream.world_model` does, told the frame that follows.

  Args:
    config: sizes of the model.
    params: with the top-level names of `world_action.init`.
    tasks: [E] int32, the games of the environments.
  """
  backbone = Backbone(config.backbone)

  def observe(memory: Memory, actions: chex.Array, tokens: chex.Array):
    ids = jnp.concatenate([actions[:, None], tokens], axis=1)
    rows = jnp.repeat(tasks, len(ids) // len(tasks))
    hidden, part = backbone.apply(
      {'params': params['backbone']}, ids, rows, memory.cache
    )
    q = world_action.q_values(config, params['q_heads'], hidden[:, -1])
    return q, Memory(cache=kv_cache.append(memory.cache, part), frame=tokens)

  return observe
