"""Greedy decoding of a frame's tokens: all at once, or one by one.

Both find the same tokens. A pass over the action and a draft of the frame
predicts every token from those before it. Where the draft's first tokens are
what is predicted, they are right, and so is the prediction after them; so the
predictions become the next draft until nothing changes (Jacobi iteration:
Santilli et al., 2023, algorithm 1). Little changes from frame to frame, so the
frame before is a good first draft.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax

from jowa_jax.models import kv_cache
from jowa_jax.models.kv_cache import KVCache, Part

# (cache, ids [B, N]) -> hidden states [B, N, D], keys and values.
Forward = Callable[[KVCache, chex.Array], tuple[chex.Array, Part]]


class Decoded(NamedTuple):
  """A frame of B sequences, after an action."""

  tokens: chex.Array  # [B, K] int32
  action_hidden: chex.Array  # [B, D], at the action
  frame_hidden: chex.Array  # [B, D], at the frame's last token
  part: Part  # keys and values of the action and the frame
  passes: chex.Array  # [B] int32, until the frame was known


def parallel(
  forward: Forward,
  predict: Callable[[chex.Array], chex.Array],
  cache: KVCache,
  actions: chex.Array,
  draft: chex.Array,
  passes: int | None = None,
) -> Decoded:
  """Decodes all tokens of all rows together, in as many passes as it takes.

  Args:
    forward: the backbone.
    predict: hidden states [..., D] -> tokens [...] int32.
    cache: what came before.
    actions: [B] int32.
    draft: [B, K] int32, a guess at the frame.
    passes: take so many whatever is predicted, for measurements: the tokens
      are then not necessarily right.
  """
  batch, num_tokens = draft.shape

  def step(state):
    tokens, done, count, taken, _, _ = state
    ids = jnp.concatenate([actions[:, None], tokens], axis=1)
    hidden, part = forward(cache, ids)
    predicted = predict(hidden[:, :-1])
    ends = jnp.stack([hidden[:, 0], hidden[:, -1]])
    count = count + ~done
    done = done | (predicted == tokens).all(axis=1)
    return predicted, done, count, taken + 1, ends, part

  def unsettled(state):
    _, done, _, taken, _, _ = state
    if passes is not None:
      return taken < passes
    # A token more is right after every pass, whatever the draft.
    return ~done.all() & (taken <= num_tokens)

  ids = jax.ShapeDtypeStruct((batch, num_tokens + 1), jnp.int32)
  hidden, part = jax.eval_shape(forward, cache, ids)
  ends = jnp.zeros((2, batch, hidden.shape[-1]), hidden.dtype)
  empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), part)
  no, zero = jnp.zeros((batch,), bool), jnp.zeros((), jnp.int32)
  count = jnp.zeros((batch,), jnp.int32)
  tokens, _, count, _, ends, part = lax.while_loop(
    unsettled, step, (draft, no, count, zero, ends, empty)
  )
  return Decoded(tokens, ends[0], ends[1], part, count)


def sequential(
  forward: Forward,
  predict: Callable[[chex.Array, chex.PRNGKey | None], chex.Array],
  cache: KVCache,
  actions: chex.Array,
  num_tokens: int,
  key: chex.PRNGKey | None = None,
) -> Decoded:
  """Decodes token by token: the reference, and the way to draw tokens.

  Args:
    forward: the backbone.
    predict: (hidden states [B, D], key) -> tokens [B] int32.
    cache: what came before.
    actions: [B] int32.
    num_tokens: K.
    key: of what is drawn; None draws nothing.
  """
  batch = actions.shape[0]
  _, like = jax.eval_shape(forward, cache, actions[:, None])
  buffer = kv_cache.empty_part(like, num_tokens + 1, batch)

  def step(carry, place):
    ids, buffer = carry
    seen = cache.replace(
      frames=(*cache.frames, buffer), length=cache.length + place
    )
    hidden, new = forward(seen, ids[:, None])
    hidden = hidden[:, 0]
    drawn = None if key is None else jax.random.fold_in(key, place)
    token = predict(hidden, drawn)
    return (token, kv_cache.write(buffer, new, place)), (token, hidden)

  # The last pass feeds the last token: its hidden state is what is wanted.
  (_, part), (tokens, hidden) = lax.scan(
    step, (actions, buffer), jnp.arange(num_tokens + 1)
  )
  passes = jnp.full((batch,), num_tokens + 1, jnp.int32)
  return Decoded(tokens[:-1].T, hidden[0], hidden[-1], part, passes)
