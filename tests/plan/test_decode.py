"""All tokens at once are the tokens one by one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax.methods.jowa_dreams import remember, world_model
from jowa_jax.models import world_action
from jowa_jax.models.backbone import Backbone, BackboneConfig
from jowa_jax.models.heads import HeadSizes, WorldHeads
from jowa_jax.models.kv_cache import Revision
from jowa_jax.models.world_action import WorldActionConfig
from jowa_jax.plan import decode
from jowa_jax.types import History
from tests.models import random_params

K, VOCAB, ROWS = 12, 29, 8
CONFIG = WorldActionConfig(
  backbone=BackboneConfig(
    num_layers=2,
    width=32,
    num_heads=2,
    vocab_size=VOCAB,
    tokens_per_frame=K,
    max_blocks=3,
  ),
  heads=HeadSizes(num_heads=1, width=12),
)


@pytest.fixture(scope='module')
def params():
  return random_params.like(
    lambda key: world_action.init(CONFIG, key), std=0.25
  )


def contexts(seed):
  rng = np.random.default_rng(seed)
  return History(
    seen=rng.integers(0, VOCAB, (ROWS, 2, K)).astype(np.int32),
    actions=rng.integers(0, 18, (ROWS, 2)).astype(np.int32),
    count=rng.integers(1, 3, ROWS).astype(np.int32),
    tasks=rng.integers(0, 60, ROWS).astype(np.int32),
  )


@functools.partial(jax.jit, static_argnames=('decoder', 'temperature'))
def dream(params, context, key=None, decoder='parallel', temperature=0.0):
  memory, _ = remember(CONFIG, params, context)
  model = world_model(
    CONFIG, params, context.tasks, decoder=decoder, temperature=temperature
  )
  return model.dream(memory, context.actions[:, -1], key)


@functools.partial(jax.jit, static_argnames=('shares', 'schedule'))
def from_draft(params, context, draft, shares=(), schedule=()):
  """Decodes from a draft; returns the frame and the last pass's logits."""
  memory, _ = remember(CONFIG, params, context)

  def forward(cache, ids, revision):
    return Backbone(CONFIG.backbone).apply(
      {'params': params['backbone']},
      ids,
      context.tasks,
      cache,
      revision=revision,
    )

  def logits(hidden):
    heads = {'params': params['world_heads']}
    return WorldHeads(CONFIG.backbone).apply(heads, hidden, method='next_token')

  actions = context.actions[:, -1]
  found = decode.parallel(
    forward,
    lambda hidden: jnp.argmax(logits(hidden), axis=-1).astype(jnp.int32),
    memory.cache,
    actions,
    draft,
    shares,
    schedule,
  )
  ids = jnp.concatenate([actions[:, None], found.tokens], axis=1)
  return found, logits(forward(memory.cache, ids, None)[0][:, :-1])


@pytest.mark.parametrize('seed', range(6))
def test_both_find_the_same(params, seed):
  context = contexts(seed)
  one_by_one = dream(params, context, decoder='sequential')
  together = dream(params, context)
  found, logits = from_draft(params, context, context.seen[:, -1])
  np.testing.assert_array_equal(found.tokens, together.tokens)
  best = np.sort(logits, axis=-1)
  clear = (best[..., -1] - best[..., -2] > 1e-4).all(axis=1)
  assert clear.sum() >= ROWS - 1
  np.testing.assert_array_equal(
    together.tokens[clear], one_by_one.tokens[clear]
  )
  np.testing.assert_allclose(together.q[clear], one_by_one.q[clear], atol=1e-4)
  np.testing.assert_array_equal(
    together.reward[clear], one_by_one.reward[clear]
  )
  ours, theirs = (
    x.memory.cache.frames[0].keys[1][clear] for x in (together, one_by_one)
  )
  np.testing.assert_allclose(ours, theirs, atol=1e-4)
  # Frames differ from the draft, so that there is something to find.
  changed = (together.tokens != context.seen[:, -1]).mean()
  assert changed > 0.5
  assert (one_by_one.runs == 1).all()
  assert 2 <= together.passes.min() and together.passes.max() <= K + 1


@pytest.mark.slow
@pytest.mark.parametrize('shares', [(0.5,), (0.9, 0.6, 0.3, 0.1), (0.01,)])
@pytest.mark.parametrize('seed', range(3))
def test_packed_passes_find_the_same(params, seed, shares):
  context = contexts(seed)
  found, logits = from_draft(params, context, context.seen[:, -1])
  packed, _ = from_draft(params, context, context.seen[:, -1], shares)
  best = np.sort(logits, axis=-1)
  assert (best[..., -1] - best[..., -2] > 1e-4).all(axis=1).all()
  np.testing.assert_array_equal(packed.tokens, found.tokens)
  np.testing.assert_array_equal(packed.runs, found.runs)
  for ours, theirs in zip(
    jax.tree.leaves(packed), jax.tree.leaves(found), strict=True
  ):
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (dict(shares=(0.1, 0.5)), r'shares=\(0.1, 0.5\) must fall'),
    (dict(shares=(0.5, 0.5)), 'must fall'),
    (dict(shares=(1.0,)), 'must fall, between 1 and 0'),
    (dict(schedule=(0.5, 0.5)), r'schedule=\(0.5, 0.5\) must begin with 1'),
    (dict(schedule=(1.0, 2.0)), 'between 0 and 1'),
  ],
)
def test_bad_options_are_errors(params, options, message):
  context = contexts(0)
  with pytest.raises(ValueError, match=message):
    from_draft(params, context, context.seen[:, -1], **options)


@pytest.mark.slow
def test_a_revision_runs_the_tokens_it_names(params):
  """Those that changed and those after them; the others stand."""
  rng = np.random.default_rng(0)
  ids = rng.integers(0, VOCAB, (2, 6)).astype(np.int32)
  tasks = np.array([3, 8], np.int32)
  backbone = Backbone(CONFIG.backbone)
  variables = {'params': params['backbone']}
  _, span = backbone.apply(variables, ids, tasks)
  after = ids.copy()
  after[0, 4] += 1
  after[1, 2] += 1
  places = np.array([4, 5, 6 + 2, 6 + 3, 6 + 4, 6 + 5, 12, 12], np.int32)
  hidden, revised = backbone.apply(
    variables, after, tasks, revision=Revision(span=span, places=places)
  )
  expected, whole = backbone.apply(variables, after, tasks)
  np.testing.assert_allclose(hidden[:2], expected[0, 4:], atol=1e-5)
  np.testing.assert_allclose(hidden[2:6], expected[1, 2:], atol=1e-5)
  for ours, theirs in zip(
    jax.tree.leaves(revised), jax.tree.leaves(whole), strict=True
  ):
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_columns_fill_a_span(params):
  """One after the other they compute what all of the tokens do together."""
  ids = np.random.default_rng(0).integers(0, VOCAB, (2, 6)).astype(np.int32)
  tasks = np.array([3, 8], np.int32)
  backbone = Backbone(CONFIG.backbone)
  variables = {'params': params['backbone']}
  expected, whole = backbone.apply(variables, ids, tasks)
  # What is in the slots after a column is not read.
  span = jax.tree.map(lambda x: jnp.full_like(x, 9), whole)
  for column in range(6):
    revision = Revision(span=span, places=jnp.int32(column))
    hidden, span = backbone.apply(
      variables, ids[:, column, None], tasks, revision=revision
    )
    np.testing.assert_allclose(hidden[:, 0], expected[:, column], atol=1e-5)
    filled = np.arange(6) <= column
    np.testing.assert_array_equal(span.valid, np.broadcast_to(filled, (2, 6)))
  for ours, theirs in zip(
    jax.tree.leaves(span), jax.tree.leaves(whole), strict=True
  ):
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_column_goes_with_no_padding(params):
  backbone = Backbone(CONFIG.backbone)
  variables = {'params': params['backbone']}
  ids, tasks = np.zeros((2, 1), np.int32), np.array([3, 8], np.int32)
  _, span = backbone.apply(variables, ids, tasks)
  column = Revision(span=span, places=jnp.int32(0))
  with pytest.raises(ValueError, match='A column reads'):
    backbone.apply(
      variables, ids, tasks, start=jnp.zeros(2, jnp.int32), revision=column
    )


def passes_of(found):
  return (found.runs > 0).sum(axis=1)


def test_passes_depend_on_how_good_the_draft_is(params):
  context = contexts(0)
  right = dream(params, context, decoder='sequential').tokens
  found, _ = from_draft(params, context, right)
  assert (passes_of(found) == 1).all()
  # A wrong token is mended by the pass that finds it; one more confirms.
  last = right.at[:, -1].add(1) % VOCAB
  found, _ = from_draft(params, context, last)
  assert (passes_of(found) == 2).all()
  assert found.runs[:, :2].tolist() == [[K + 1, 1]] * ROWS
  np.testing.assert_array_equal(found.tokens, right)
  # Rows are counted on their own.
  mixed = jnp.where(jnp.arange(ROWS)[:, None] < 3, right, last)
  found, _ = from_draft(params, context, mixed)
  assert passes_of(found).tolist() == [1] * 3 + [2] * (ROWS - 3)
  np.testing.assert_array_equal(found.tokens, right)


@pytest.mark.slow
def test_the_worst_draft_takes_a_pass_for_every_token(params):
  """Whatever the draft, a token more is right after every pass."""
  context = contexts(1)
  right = np.asarray(dream(params, context, decoder='sequential').tokens)
  for passes in (1, 4, K):
    found, _ = from_draft(
      params, context, (right + 1) % VOCAB, schedule=(1.0,) * passes
    )
    np.testing.assert_array_equal(found.tokens[:, :passes], right[:, :passes])


def test_traces_once(params):
  dream(params, contexts(0))
  traces = dream._cache_size()
  for seed in range(1, 4):
    dream(params, contexts(seed))
  assert dream._cache_size() == traces


@pytest.mark.slow
def test_drawn_dreams_follow_the_logits(params):
  """Frequencies of the first token against the softmax, and keys decide."""
  one = jax.tree.map(lambda x: np.repeat(x[:1], 2000, axis=0), contexts(0))
  drawn = dream(params, one, jax.random.key(0), temperature=1.5)
  again = dream(params, one, jax.random.key(0), temperature=1.5)
  other = dream(params, one, jax.random.key(1), temperature=1.5)
  np.testing.assert_array_equal(drawn.tokens, again.tokens)
  assert (drawn.tokens != other.tokens).mean() > 0.1
  found, logits = from_draft(params, one, drawn.tokens, schedule=(1.0,))
  expected = jax.nn.softmax(logits[0, 0] / 1.5)
  counts = np.bincount(drawn.tokens[:, 0], minlength=VOCAB) / 2000
  assert (expected > 0.01).sum() > 3
  np.testing.assert_allclose(counts, expected, atol=0.05)
  assert len(np.unique(drawn.reward)) > 1


@pytest.mark.slow
def test_a_cold_draw_is_greedy(params):
  context = contexts(2)
  greedy = dream(params, context, decoder='sequential')
  cold = dream(params, context, jax.random.key(0), temperature=1e-5)
  np.testing.assert_array_equal(greedy.tokens, cold.tokens)
  np.testing.assert_array_equal(greedy.reward, cold.reward)


def test_a_draw_needs_a_key(params):
  with pytest.raises(ValueError, match='needs a key'):
    dream(params, contexts(0), temperature=1.0)
