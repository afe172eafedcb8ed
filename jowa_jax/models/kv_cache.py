"""Keys and values of past tokens, as an explicit pytree.

All rows write at the same slot, so a write is one `dynamic_update_slice`;
a row whose context is shorter begins at a later slot, `start`. A token's
position is its slot minus its row's start. Contexts are whole blocks, so a
slot holds the same kind of token in every row.
"""

import chex
import jax
import jax.numpy as jnp
from jax import lax


@chex.dataclass(frozen=True)
class KVCache:
  """One batch of contexts; rows are gathered with `take_rows`."""

  keys: tuple[chex.Array, ...]  # per layer [B, heads, slots, head_dim]
  values: tuple[chex.Array, ...]  # per layer [B, heads, slots, head_dim]
  start: chex.Array  # [B] int32, first slot of the row's context
  length: chex.Array  # [] int32, slots written

  @property
  def num_slots(self) -> int:
    return self.keys[0].shape[2]


def init_cache(
  num_layers: int,
  num_heads: int,
  head_dim: int,
  num_slots: int,
  start: chex.Array,
  dtype,
) -> KVCache:
  """Returns an empty cache for contexts that begin at slots `start` [B]."""
  shape = (start.shape[0], num_heads, num_slots, head_dim)
  empty = tuple(jnp.zeros(shape, dtype) for _ in range(num_layers))
  return KVCache(
    keys=empty,
    values=empty,
    start=start.astype(jnp.int32),
    length=jnp.zeros((), jnp.int32),
  )


def write(buffer: chex.Array, new: chex.Array, slot: chex.Array) -> chex.Array:
  """Writes new [B, heads, N, head_dim] at the slots from `slot` on."""
  return lax.dynamic_update_slice(
    buffer, new.astype(buffer.dtype), (0, 0, slot, 0)
  )


def take_rows(cache: KVCache, rows: chex.Array) -> KVCache:
  """Returns the cache whose row i is row rows[i] of `cache`."""

  def take(x):
    return jnp.take(x, rows, axis=0)

  return cache.replace(
    keys=jax.tree.map(take, cache.keys),
    values=jax.tree.map(take, cache.values),
    start=take(cache.start),
  )
