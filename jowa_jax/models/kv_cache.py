"""Keys and values of past tokens, as an explicit pytree that is never written.

A cache is a tuple of spans: the context, and one span for every frame dreamed
after it. A span may have fewer rows than the batch that reads it: each of its
rows is then read by as many neighbouring rows of the batch. So all beams of an
environment share the context they branched from, and children their parent's
frames; choosing rows gathers the dreamed frames alone.
"""

import chex
import jax
import jax.numpy as jnp
from jax import lax


@chex.dataclass(frozen=True)
class Span:
  """Keys and values of S neighbouring tokens."""

  keys: tuple[chex.Array, ...]  # per layer [R, heads, S, head_dim]
  values: tuple[chex.Array, ...]  # per layer [R, heads, S, head_dim]
  valid: chex.Array  # [R, S] bool, false where a slot holds no token


@chex.dataclass(frozen=True)
class KVCache:
  """What a batch of N sequences has read."""

  context: Span  # of R rows, each shared by N / R sequences
  frames: tuple[Span, ...]  # what was dreamed, in order
  length: chex.Array  # [N] int32, tokens of each sequence

  @property
  def spans(self) -> tuple[Span, ...]:
    return (self.context, *self.frames)


@chex.dataclass(frozen=True)
class Revision:
  """Tokens of a span that are run.

  Again, since ones before them changed; or for the first time, a column of all
  rows after the other.
  """

  span: Span  # of all B rows of N tokens, as they were
  # [M] int32, row * N + column, where B * N stands for none; or [] int32, the
  # column that is run of all rows: those before it are read, and none after.
  places: chex.Array

  @property
  def is_column(self) -> bool:
    return not self.places.ndim


def pick(x: chex.Array, places: chex.Array) -> chex.Array:
  """The tokens [M, ...] of x [B, N, ...] at places of a `Revision`."""
  return jnp.take(x.reshape(-1, *x.shape[2:]), places, axis=0, mode='clip')


def put(x: chex.Array, places: chex.Array, new: chex.Array) -> chex.Array:
  """X [B, N, ...] with the tokens new [M, ...] at their places."""
  flat = x.reshape(-1, *x.shape[2:])
  return flat.at[places].set(new.astype(x.dtype), mode='drop').reshape(x.shape)


def append(cache: KVCache, span: Span) -> KVCache:
  """The cache with a further span, all of whose slots hold tokens.

  Args:
    cache: of N sequences.
    span: of M rows, M / N continuations of each of the sequences.
  """
  rows, tokens = span.valid.shape
  length = jnp.repeat(cache.length, rows // len(cache.length))
  return cache.replace(frames=(*cache.frames, span), length=length + tokens)


def take_rows(cache: KVCache, rows: chex.Array) -> KVCache:
  """The cache whose sequence i is sequence rows[i] of `cache`.

  Args:
    cache: of N sequences.
    rows: [M] int32. Sequences of a row of the context stay its own, as many
      for each.
  """
  total, envs = len(cache.length), len(cache.context.valid)

  def take(x):
    # Within an environment, so that environments may live on many devices.
    each = total // len(x)
    first = jnp.arange(envs)[:, None] * (total // envs)
    chosen = (rows.reshape(envs, -1) - first) // each
    taken = jax.vmap(lambda a, i: jnp.take(a, i, axis=0))(
      x.reshape(envs, -1, *x.shape[1:]), chosen
    )
    return taken.reshape(-1, *x.shape[1:])

  return cache.replace(
    frames=jax.tree.map(take, cache.frames), length=take(cache.length)
  )


def empty_span(like: Span, tokens: int, rows: int) -> Span:
  """A span of `tokens` slots that hold nothing, shaped like another."""

  def empty(x):
    return jnp.zeros((rows, x.shape[1], tokens, x.shape[3]), x.dtype)

  return Span(
    keys=jax.tree.map(empty, like.keys),
    values=jax.tree.map(empty, like.values),
    valid=jnp.zeros((rows, tokens), bool),
  )


def write_rows(span: Span, new: Span, slots: chex.Array) -> Span:
  """Writes every row of `new` to the slots from its own of `slots` [R] on.

  A row without room for its tokens stays as it is.
  """
  fits = slots + new.valid.shape[1] <= span.valid.shape[1]

  def put(old, x, axis):
    place = jax.vmap(
      lambda a, b, slot: lax.dynamic_update_slice_in_dim(a, b, slot, axis)
    )
    written = place(old, x.astype(old.dtype), slots)
    return jnp.where(fits.reshape(-1, *(1,) * (old.ndim - 1)), written, old)

  def put_heads(old, x):
    return put(old, x, 1)

  return Span(
    keys=jax.tree.map(put_heads, span.keys, new.keys),
    values=jax.tree.map(put_heads, span.values, new.values),
    valid=put(span.valid, new.valid, 0),
  )
