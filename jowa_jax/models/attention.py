"""Causal attention on arrays: of whole segments, and over spans of a cache.

Queries and keys are [B, heads, N, head_dim]; queries are scaled already. What
costs time at small widths is not arithmetic but the score matrices, [B, heads,
N, N]. Half of them is masked, and so `causal` makes them in blocks of queries
that leave most of that out, and makes them again in the backward pass rather
than keep them (Dao et al. 2022, "FlashAttention"; as static shapes and plain
products, which every device and every sharding of rows and heads can run).
"""

import functools
from collections.abc import Callable, Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jowa_jax.models import dropout

_MASKED = -1e30
# Above what is masked, so that its weight is 0 where there is nothing else.
_LEAST = -1e29


def _blocks(tokens: int, size: int) -> list[slice]:
  return [slice(i, min(i + size, tokens)) for i in range(0, tokens, size)]


def _scores(q, k, valid, rows):
  """Float32 logits [B, heads, M, S] of a block's queries, masked.

  Args:
    q: queries, scaled, [B, heads, N, head_dim].
    k: keys, [B, heads, N, head_dim].
    valid: [B or 1, N] bool, which tokens may be read; None for all.
    rows: the block, M of the N tokens, which read the first S.
  """
  end = rows.stop
  logits = jnp.einsum('bhmd,bhsd->bhms', q[:, :, rows], k[:, :, :end])
  places = jnp.arange(end)
  mask = (places[rows, None] >= places)[None]
  if valid is not None:
    mask = mask & valid[:, None, :end]
  return jnp.where(mask[:, None], logits.astype(jnp.float32), _MASKED)


def _keep(words, rate, shape, rows):
  return dropout.keep_rows(words, rate, (*shape[:3], shape[2]), rows, rows.stop)


def _forward(q, k, v, valid, words, rate, size):
  """The answers, and of every query's weights the log of the sum."""
  answers, sums = [], []
  for rows in _blocks(q.shape[2], size):
    logits = _scores(q, k, valid, rows)
    top = jnp.maximum(jnp.max(logits, axis=-1, keepdims=True), _LEAST)
    weights = jnp.exp(logits - top)
    # At least 1, but for a query that may read nothing, which is answered 0.
    total = jnp.maximum(jnp.sum(weights, axis=-1, keepdims=True), 1e-30)
    scale = 1 / total
    if words is not None:
      weights = jnp.where(_keep(words, rate, q.shape, rows), weights, 0)
      scale = scale / (1 - rate)
    # A row's weights are made to sum to 1 where they are fewest.
    y = jnp.einsum(
      'bhms,bhsd->bhmd', weights.astype(q.dtype), v[:, :, : rows.stop]
    )
    answers.append((y * scale).astype(q.dtype))
    sums.append(top + jnp.log(total))
  return jnp.concatenate(answers, axis=2), jnp.concatenate(sums, axis=2)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def causal(
  q: chex.Array,
  k: chex.Array,
  v: chex.Array,
  valid: chex.Array | None,
  words: chex.Array | None,
  rate: float,
  size: int,
) -> chex.Array:
  """Causal attention [B, heads, N, head_dim], block by block.

  Args:
    q: queries, scaled, [B, heads, N, head_dim].
    k: keys, [B, heads, N, head_dim].
    v: values, [B, heads, N, head_dim].
    valid: [B or 1, N] bool, which tokens may be read; None for all. A query
      that may read none, which is padding, is answered 0.
    words: of the dropout of weights, see `dropout.words`; None for none. The
      mask is that of the whole [B, heads, N, N].
    rate: probability that a weight is dropped.
    size: queries of a block. Small ones compute less of what is masked, and
      large ones multiply larger matrices.
  """
  return _forward(q, k, v, valid, words, rate, size)[0]


def _causal_fwd(q, k, v, valid, words, rate, size):
  y, sums = _forward(q, k, v, valid, words, rate, size)
  return y, (q, k, v, valid, words, y, sums)


def _causal_bwd(rate, size, saved, dy):
  q, k, v, valid, words, y, sums = saved
  product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
  # What a row's weighted sum of d(weight) is, dropout included.
  along = jnp.sum(
    dy.astype(jnp.float32) * y.astype(jnp.float32), axis=-1, keepdims=True
  )
  dq, dk, dv = [], None, None
  # The last block reads all keys.
  for rows in reversed(_blocks(q.shape[2], size)):
    end = rows.stop
    weights = jnp.exp(_scores(q, k, valid, rows) - sums[:, :, rows])
    dweights = jnp.einsum('bhmd,bhsd->bhms', dy[:, :, rows], v[:, :, :end])
    dweights, kept = dweights.astype(jnp.float32), weights
    if words is not None:
      keep = _keep(words, rate, q.shape, rows)
      dweights = jnp.where(keep, dweights / (1 - rate), 0)
      kept = jnp.where(keep, weights / (1 - rate), 0)
    dlogits = (weights * (dweights - along[:, :, rows])).astype(q.dtype)
    dq.append(jnp.einsum('bhms,bhsd->bhmd', dlogits, k[:, :, :end]))
    dk_part = product('bhms,bhmd->bhsd', dlogits, q[:, :, rows])
    dv_part = product('bhms,bhmd->bhsd', kept.astype(q.dtype), dy[:, :, rows])
    if dk is None:
      dk, dv = dk_part, dv_part
    else:
      dk, dv = dk.at[:, :, :end].add(dk_part), dv.at[:, :, :end].add(dv_part)
  dq = jnp.concatenate(dq[::-1], axis=2)
  return dq, dk.astype(k.dtype), dv.astype(v.dtype), None, None


causal.defvjp(_causal_fwd, _causal_bwd)


def _grouped(x, rows):
  """Joins neighbours: [B, heads, N, ...] to [rows, heads, M, ...]."""
  if x.shape[0] == rows:
    return x
  x = x.reshape(rows, -1, *x.shape[1:]).swapaxes(1, 2)
  return x.reshape(*x.shape[:2], -1, *x.shape[4:])


def _split(x, batch):
  """Undoes `_grouped`."""
  if x.shape[0] == batch:
    return x
  rows, heads, _, *rest = x.shape
  x = x.reshape(rows, heads, batch // rows, -1, *rest).swapaxes(1, 2)
  return x.reshape(batch, heads, -1, *rest)


def _read(q, keys, mask):
  """Attention logits [B, heads, N, S] on a span of R rows.

  Args:
    q: [B, heads, N, head_dim].
    keys: [R, heads, S, head_dim], each row for B / R rows of q.
    mask: which keys may be read, [1, R or B, 1 or N, S].
  """
  logits = jnp.einsum('rhmd,rhsd->rhms', _grouped(q, keys.shape[0]), keys)
  logits = _split(logits, q.shape[0]).astype(jnp.float32)
  if mask.shape[0] > 1:
    mask = jnp.repeat(mask, q.shape[0] // mask.shape[0], axis=0)
  return jnp.where(mask[:, None], logits, _MASKED)


def _mix(weights, values):
  """What weights [B, heads, N, S] make of a span's values."""
  grouped = _grouped(weights, values.shape[0])
  y = jnp.einsum('rhms,rhsd->rhmd', grouped, values)
  return _split(y, weights.shape[0])


def over_spans(
  q: chex.Array,
  spans: Sequence[tuple[chex.Array, chex.Array, chex.Array]],
  drop: Callable[[chex.Array], chex.Array],
) -> chex.Array:
  """Attention [B, heads, N, head_dim] over all spans together.

  Args:
    q: [B, heads, N, head_dim], scaled.
    spans: (keys, values, mask) of each; see `_read`.
    drop: dropout of the weights.
  """
  logits = [_read(q, keys, mask) for keys, _, mask in spans]
  weights = jax.nn.softmax(jnp.concatenate(logits, axis=-1)).astype(q.dtype)
  ends = np.cumsum([span.shape[-1] for span in logits])[:-1]
  pieces = jnp.split(drop(weights), ends, axis=-1)
  return sum(
    _mix(w, values) for w, (_, values, _) in zip(pieces, spans, strict=True)
  )


def fused(
  q: chex.Array, k: chex.Array, v: chex.Array, mask: chex.Array | None = None
) -> chex.Array:
  """Attention [B, N, heads, head_dim] of arrays like it, by one kernel.

  Args:
    q: queries.
    k: keys.
    v: values.
    mask: [B or 1, N, N] bool, what a query may read; None for causal.
  """
  half = q.dtype in (jnp.bfloat16, jnp.float16)
  cudnn = half and jax.default_backend() == 'gpu'
  return jax.nn.dot_product_attention(
    *(q, k, v),
    mask=None if mask is None else mask[:, None],
    is_causal=mask is None,
    implementation='cudnn' if cudnn else 'xla',
  )
