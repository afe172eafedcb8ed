"""The backbone: causal, the same with a cache as without, and its options."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jowa_jax.models import kv_cache, world_action
from jowa_jax.models.backbone import Backbone, BackboneConfig
from jowa_jax.models.kv_cache import KVCache
from tests.models import random_params

CONFIG = BackboneConfig(
  num_layers=2,
  width=16,
  num_heads=2,
  vocab_size=11,
  tokens_per_frame=3,
  max_blocks=5,
)
BLOCK, LENGTH = CONFIG.block_size, CONFIG.max_tokens
TASKS = jnp.array([3, 40, 3])


def init(config, key=None):
  key = jax.random.key(0) if key is None else key
  return world_action.init_backbone(config, key)


@pytest.fixture(scope='module')
def params():
  return random_params.like(functools.partial(init, CONFIG))


@pytest.fixture(scope='module')
def ids():
  rng = np.random.default_rng(1)
  return jnp.asarray(rng.integers(0, CONFIG.vocab_size, (3, LENGTH)))


@functools.partial(jax.jit, static_argnums=0)
def run(config, params, ids, tasks, cache=None, start=None):
  return Backbone(config).apply(
    {'params': params}, ids, tasks, cache, start=start
  )


def decode(params, ids, start, chunks):
  """Runs ids in pieces of the given lengths, each reading those before."""
  slot = chunks[0]
  tasks = TASKS[: len(ids)]
  out, context = run(CONFIG, params, ids[:, :slot], tasks, start=start)
  hidden = [out]
  cache = KVCache(context=context, frames=(), length=slot - start)
  for length in chunks[1:]:
    piece = ids[:, slot : slot + length]
    out, span = run(CONFIG, params, piece, tasks, cache)
    cache = kv_cache.append(cache, span)
    hidden.append(out)
    slot += length
  assert slot == ids.shape[1]
  return jnp.concatenate(hidden, axis=1)


@pytest.mark.parametrize(
  'chunks',
  [
    (LENGTH,),
    pytest.param((BLOCK,) * 5, marks=pytest.mark.slow),
    (7, 4, 1, 1, 7),
  ],
  ids=['at once', 'by blocks', 'uneven'],
)
def test_cached_equals_uncached(params, ids, chunks):
  expected, span = run(CONFIG, params, ids, TASKS)
  assert span.valid.all() and span.valid.shape == ids.shape
  assert span.keys[0].shape == (3, 2, LENGTH, 8)
  got = decode(params, ids, jnp.zeros(3, jnp.int32), chunks)
  assert np.asarray(expected).std() > 0.1
  np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.slow
def test_continuations_share_what_they_follow(params, ids):
  """Rows of spans are read by one, two or four neighbours of the batch."""
  start = np.array([0, BLOCK])
  _, context = run(CONFIG, params, ids[:2, :8], TASKS[:2], start=start)
  cache = KVCache(context=context, frames=(), length=8 - start)
  middle = jnp.stack([ids[0, 8:12], ids[1, 8:12], ids[2, 8:12], ids[1, 4:8]])
  last = jnp.concatenate([ids[:, 12:16], ids[:, 16:20], ids[:2, 4:8]])
  _, span = run(CONFIG, params, middle, jnp.repeat(TASKS[:2], 2), cache)
  cache = kv_cache.append(cache, span)
  got, _ = run(CONFIG, params, last, jnp.repeat(TASKS[:2], 4), cache)
  for row in range(8):
    env = row // 4
    whole = [ids[env, start[env] : 8], middle[row // 2], last[row]]
    whole = jnp.concatenate(whole)[None]
    expected, _ = run(CONFIG, params, whole, TASKS[env : env + 1])
    np.testing.assert_allclose(got[row], expected[0, -4:], atol=1e-5)


def test_more_tokens_than_positions_are_refused(params, ids):
  _, context = run(CONFIG, params, ids, TASKS)
  cache = KVCache(
    context=context, frames=(), length=jnp.full(3, LENGTH, jnp.int32)
  )
  with pytest.raises(ValueError, match='21 tokens.* position table has 20'):
    run(CONFIG, params, ids[:, :1], TASKS, cache)


@pytest.mark.slow
@pytest.mark.parametrize('chunks', [(LENGTH,), (17, 2, 1)])
def test_rows_with_contexts_of_their_own_length(params, ids, chunks):
  """A row that starts later equals its own tokens run alone from slot 0."""
  starts = np.array([0, 2, 4]) * BLOCK
  got = decode(params, ids, jnp.asarray(starts), chunks)
  assert np.isfinite(got).all()
  # What follows a row's own tokens here is not read.
  early = [np.roll(x, -start) for x, start in zip(ids, starts, strict=True)]
  expected, _ = run(CONFIG, params, jnp.array(early), TASKS)
  for row, start in enumerate(starts):
    np.testing.assert_allclose(
      got[row, start:], expected[row, : LENGTH - start], atol=1e-5
    )


def test_padding_before_a_rows_start_is_not_read(params, ids):
  start = jnp.full((3,), 2 * BLOCK)
  other = ids.at[:, : 2 * BLOCK].set(0)
  got, same = (decode(params, x, start, (LENGTH,)) for x in (ids, other))
  np.testing.assert_array_equal(got[:, 2 * BLOCK :], same[:, 2 * BLOCK :])


def test_later_tokens_are_not_read(params, ids):
  base, _ = run(CONFIG, params, ids, TASKS)
  changed = ids.at[:, 9].set((ids[:, 9] + 1) % CONFIG.vocab_size)
  got, _ = run(CONFIG, params, changed, TASKS)
  np.testing.assert_array_equal(got[:, :9], base[:, :9])
  moved = np.abs(np.asarray(got - base)[:, 9:]).max(axis=(0, 2))
  assert (moved > 1e-4).all()


def test_actions_and_observations_have_tables_of_their_own(params, ids):
  rows = np.asarray(params['action_embedding']).shape
  assert rows == (18, 16)
  # Action 17 is past the end of the observation table and must not be clipped.
  ids = ids.at[:, BLOCK - 1].set(17)
  bent = dict(params)
  # Doubled, not shifted: layer norm takes a shift out again.
  bent['action_embedding'] = params['action_embedding'].at[17].multiply(2)
  base, _ = run(CONFIG, params, ids, TASKS)
  got, _ = run(CONFIG, bent, ids, TASKS)
  np.testing.assert_array_equal(got[:, : BLOCK - 1], base[:, : BLOCK - 1])
  assert np.abs(got - base)[:, BLOCK - 1].min(axis=0).max() > 1e-3


def test_task_embedding_tells_games_apart(params, ids):
  same = jnp.tile(ids[:1], (3, 1))
  hidden, _ = run(CONFIG, params, same, TASKS)
  np.testing.assert_allclose(hidden[0], hidden[2], atol=1e-6)
  assert np.abs(hidden[0] - hidden[1]).max() > 0.01


def test_without_task_embedding_the_task_is_not_read(ids):
  config = dataclasses.replace(CONFIG, task_embedding=False)
  fresh = random_params.like(functools.partial(init, config))
  assert not [name for name in fresh if 'task' in name]
  hidden, _ = run(config, fresh, ids, TASKS)
  other, _ = run(config, fresh, ids, jnp.zeros_like(TASKS))
  np.testing.assert_array_equal(hidden, other)


def test_bfloat16_computes_close_to_float32(params, ids):
  config = dataclasses.replace(CONFIG, dtype='bfloat16')
  shapes = jax.eval_shape(lambda: init(config))
  assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {
    jnp.dtype('float32')
  }
  got, span = run(config, params, ids, TASKS)
  assert got.dtype == span.keys[0].dtype == jnp.bfloat16
  expected, _ = run(CONFIG, params, ids, TASKS)
  difference = np.abs(np.asarray(got, np.float32) - np.asarray(expected))
  assert 0 < difference.mean() < 0.05


@pytest.mark.slow
def test_dropout_needs_a_key_and_is_off_by_default(params, ids):
  actions = ids.reshape(3, 5, BLOCK)[..., -1]
  tokens = ids.reshape(3, 5, BLOCK)[..., :-1]
  apply = jax.jit(world_action.hidden_states, static_argnums=0)
  plain, _ = run(CONFIG, params, ids, TASKS)
  np.testing.assert_allclose(
    apply(CONFIG, params, tokens, actions, TASKS), plain, atol=1e-6
  )
  one, two = (
    apply(CONFIG, params, tokens, actions, TASKS, jax.random.key(i))
    for i in range(2)
  )
  assert np.abs(one - plain).max() > 1e-2
  assert np.abs(one - two).max() > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize('scale', [0.02, 0.1])
def test_init_is_normal_with_zero_bias(scale):
  config = dataclasses.replace(CONFIG, width=64, num_layers=1, init_scale=scale)
  fresh = nn.meta.unbox(jax.jit(lambda: init(config))())
  flat = jax.tree_util.tree_leaves_with_path(fresh)
  for path, leaf in flat:
    name = path[-1].key
    if name == 'bias':
      assert not np.any(leaf)
    elif name == 'scale':
      np.testing.assert_array_equal(leaf, np.ones(64))
    else:
      assert abs(float(jnp.std(leaf)) / scale - 1) < 0.15, path


def test_the_paper_s_init_is_the_default():
  assert BackboneConfig(num_layers=1, width=8, num_heads=1).init_scale == 0.02


def test_width_must_divide_over_the_heads():
  with pytest.raises(ValueError, match='width=10.*num_heads=4'):
    BackboneConfig(num_layers=1, width=10, num_heads=4)


def gradients(config, params, ids):
  @jax.jit
  def fn(params):
    hidden, span = run(config, params, ids, TASKS)
    return jnp.sum(jnp.sin(hidden) * 3), (hidden, span)

  return jax.grad(fn, has_aux=True)(params)


@pytest.mark.slow
@pytest.mark.parametrize(
  'changes',
  [
    dict(fused_attention=True, attention_dropout=0.0),
    dict(remat=True),
  ],
)
def test_other_ways_to_compute_give_the_same(params, ids, changes):
  ours = gradients(dataclasses.replace(CONFIG, **changes), params, ids)
  theirs = gradients(CONFIG, params, ids)
  assert jax.tree.structure(ours) == jax.tree.structure(theirs)
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    # Sums of a hundred terms, as large as a hundred.
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)


def test_remat_computes_layers_again(params, ids):
  def program(config):
    fn = jax.grad(lambda p: jnp.sum(run(config, p, ids, TASKS)[0] ** 2))
    return str(jax.make_jaxpr(fn)(params))

  assert 'remat' in program(dataclasses.replace(CONFIG, remat=True))
  assert 'remat' not in program(CONFIG)


def test_fused_attention_knows_no_dropout():
  with pytest.raises(ValueError, match='attention_dropout=0.1 to 0'):
    dataclasses.replace(CONFIG, fused_attention=True)
