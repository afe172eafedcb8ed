"""Greedy decoding of a frame's tokens: all at once, or one by one.

Both find the same tokens. A pass over the action and a draft of the frame
predicts every token from those before it. Where the draft's first tokens are
what is predicted, they are right, and so is the prediction after them; so the
predictions become the next draft until nothing changes (Jacobi iteration:
Santilli et al., 2023, algorithm 1). Little changes from frame to frame, so the
frame before is a good first draft.

What a token's pass computed stands until a token before it changes. Fewer and
fewer have to run again, of fewer and fewer rows; once they fit into a share of
the batch, they are packed together, and a pass costs that share.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax

from jowa_jax.models import kv_cache
from jowa_jax.models.kv_cache import KVCache, Revision, Span

# (cache, ids [B, N], or [B, 1] of a column, revision) -> hidden states and keys
# and values, as of `Backbone`.
Forward = Callable[
  [KVCache, chex.Array, Revision | None], tuple[chex.Array, Span]
]


class Decoded(NamedTuple):
  """A frame of B sequences, after an action."""

  tokens: chex.Array  # [B, K] int32
  action_hidden: chex.Array  # [B, D], at the action
  frame_hidden: chex.Array  # [B, D], at the frame's last token
  span: Span  # keys and values of the action and the frame
  runs: chex.Array  # [B, K + 1] int32, tokens that each pass had to run


@chex.dataclass(frozen=True)
class _State:
  """Between two passes, of B rows of N = K + 1 ids, the action first."""

  ids: chex.Array  # [B, N] int32, the action and the draft
  first: chex.Array  # [B] int32, of the ids that changed; N if none did
  hidden: chex.Array  # [B, N, D]
  span: Span
  runs: chex.Array  # [B, N] int32, tokens that each pass had to run
  passes: chex.Array  # [] int32


def parallel(
  forward: Forward,
  predict: Callable[[chex.Array], chex.Array],
  cache: KVCache,
  actions: chex.Array,
  draft: chex.Array,
  shares: Sequence[float] = (),
  schedule: Sequence[float] = (),
) -> Decoded:
  """Decodes all tokens of all rows together, in as many passes as it takes.

  Args:
    forward: the backbone.
    predict: hidden states [..., D] -> tokens [...] int32.
    cache: what came before.
    actions: [B] int32.
    draft: [B, K] int32, a guess at the frame.
    shares: of the batch that passes may be packed into, falling; each is a
      program of its own to compile.
    schedule: the share of the tokens that every pass has to run, whatever is
      predicted, for measurements: the tokens are then not necessarily right.

  Raises:
    ValueError: see `check_shares`.
  """
  check_shares(shares, schedule)
  batch, num_tokens = draft.shape
  size = num_tokens + 1
  ids = jnp.concatenate([actions[:, None], draft], axis=1)

  def tokens_of(shares: Sequence[float]) -> list[int]:
    return [math.ceil(batch * size * share) for share in shares]

  capacities = tokens_of(shares)
  passes = [
    _run_all(forward, predict, cache),
    *(_run_again(forward, predict, cache, c) for c in capacities),
  ]

  def step(state: _State) -> _State:
    runs = size - state.first
    needed = jnp.sum(runs)
    if schedule:
      needed = jnp.array(tokens_of(schedule))[state.passes]
    branch = jnp.sum(jnp.array([needed <= c for c in capacities], jnp.int32))
    predicted, hidden, span = lax.switch(branch, passes, state)
    changed = predicted != state.ids[:, 1:]
    first = jnp.where(changed.any(axis=1), changed.argmax(axis=1) + 1, size)
    return _State(
      ids=state.ids.at[:, 1:].set(predicted),
      first=first.astype(jnp.int32),
      hidden=hidden,
      span=span,
      runs=state.runs.at[:, state.passes].set(runs),
      passes=state.passes + 1,
    )

  def unsettled(state: _State) -> chex.Array:
    if schedule:
      return state.passes < len(schedule)
    # A token more is right after every pass, whatever the draft.
    return (state.first < size).any() & (state.passes <= num_tokens)

  state = lax.while_loop(unsettled, step, _nothing_run(forward, cache, ids))
  return Decoded(
    tokens=state.ids[:, 1:],
    action_hidden=state.hidden[:, 0],
    frame_hidden=state.hidden[:, -1],
    span=state.span,
    runs=state.runs,
  )


# A pass: predicted tokens [B, K], hidden states [B, N, D], keys and values.
_Pass = Callable[[_State], tuple[chex.Array, chex.Array, Span]]


def _nothing_run(forward: Forward, cache: KVCache, ids: chex.Array) -> _State:
  """The state before the first pass, which runs all of the ids."""
  hidden, span = jax.eval_shape(forward, cache, ids, None)

  def empty(x):
    return jnp.zeros(x.shape, x.dtype)

  return _State(
    ids=ids,
    first=jnp.zeros(ids.shape[:1], jnp.int32),
    hidden=empty(hidden),
    span=jax.tree.map(empty, span),
    runs=jnp.zeros(ids.shape, jnp.int32),
    passes=jnp.zeros((), jnp.int32),
  )


def _run_all(forward: Forward, predict: Callable, cache: KVCache) -> _Pass:
  """A pass over all tokens."""

  def run(state: _State):
    hidden, span = forward(cache, state.ids, None)
    return predict(hidden[:, :-1]), hidden, span

  return run


def _run_again(
  forward: Forward, predict: Callable, cache: KVCache, capacity: int
) -> _Pass:
  """A pass over the tokens that changed, of which there is room for some."""

  def run(state: _State):
    batch, size = state.ids.shape
    changed = jnp.arange(size) >= state.first[:, None]
    (places,) = jnp.nonzero(
      changed.reshape(-1), size=capacity, fill_value=batch * size
    )
    hidden, span = forward(
      cache, state.ids, Revision(span=state.span, places=places)
    )
    # What follows every id, as far as it is known.
    following = jnp.pad(state.ids[:, 1:], ((0, 0), (0, 1)))
    following = kv_cache.put(following, places, predict(hidden))
    return following[:, :-1], kv_cache.put(state.hidden, places, hidden), span

  return run


def check_shares(shares: Sequence[float], schedule: Sequence[float]) -> None:
  """Raises ValueError if `parallel` cannot be told this."""
  if list(shares) != sorted(set(shares), reverse=True) or not all(
    0 < share < 1 for share in shares
  ):
    raise ValueError(f'shares={shares} must fall, between 1 and 0')
  if schedule and (schedule[0] != 1 or not all(0 < x <= 1 for x in schedule)):
    raise ValueError(
      f'schedule={schedule} must begin with 1, as all tokens have to run once, '
      'and be between 0 and 1'
    )


def sequential(
  forward: Forward,
  predict: Callable[[chex.Array, chex.PRNGKey | None], chex.Array],
  cache: KVCache,
  actions: chex.Array,
  num_tokens: int,
  key: chex.PRNGKey | None = None,
) -> Decoded:
  """Decodes token by token: how tokens are drawn, and fastest on a CPU.

  Args:
    forward: the backbone.
    predict: (hidden states [B, D], key) -> tokens [B] int32.
    cache: what came before.
    actions: [B] int32.
    num_tokens: K.
    key: of what is drawn; None draws nothing.
  """
  batch = actions.shape[0]
  _, like = jax.eval_shape(forward, cache, actions[:, None], None)
  empty = kv_cache.empty_span(like, num_tokens + 1, batch)

  def step(carry, place):
    ids, span = carry
    column = Revision(span=span, places=place)
    hidden, span = forward(cache, ids[:, None], column)
    hidden = hidden[:, 0]
    drawn = None if key is None else jax.random.fold_in(key, place)
    token = predict(hidden, drawn)
    return (token, span), (token, hidden)

  # The last pass feeds the last token: its hidden state is what is wanted.
  (_, span), (tokens, hidden) = lax.scan(
    step, (actions, empty), jnp.arange(num_tokens + 1)
  )
  runs = jnp.ones((batch, num_tokens + 1), jnp.int32)
  return Decoded(tokens[:-1].T, hidden[0], hidden[-1], span, runs)
