"""The backbone: causal, the same with a cache as without, and its options."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jowa_jax.models import world_action
from jowa_jax.models.transformer import Backbone, BackboneConfig, empty_cache
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
def run(config, params, ids, tasks, cache=None):
  return Backbone(config).apply({'params': params}, ids, tasks, cache)


def decode(params, ids, start, chunks):
  """Runs ids through a cache in pieces of the given lengths."""
  cache = empty_cache(CONFIG, start, CONFIG.max_blocks)
  hidden, slot = [], 0
  for length in chunks:
    piece = ids[:, slot : slot + length]
    out, cache = run(CONFIG, params, piece, TASKS[: len(ids)], cache)
    hidden.append(out)
    slot += length
  assert slot == ids.shape[1] == cache.length
  return jnp.concatenate(hidden, axis=1)


@pytest.mark.parametrize(
  'chunks',
  [(1,) * LENGTH, (LENGTH,), (BLOCK,) * 5, (7, 4, 1, 1, 7)],
  ids=['token by token', 'at once', 'by blocks', 'uneven'],
)
def test_cached_equals_uncached(params, ids, chunks):
  expected, none = run(CONFIG, params, ids, TASKS)
  assert none is None
  got = decode(params, ids, jnp.zeros(3, jnp.int32), chunks)
  assert np.asarray(expected).std() > 0.1
  np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_cache_with_room_to_spare_changes_nothing(params, ids):
  expected, _ = run(CONFIG, params, ids, TASKS)
  got = decode(params, ids[:, : 2 * BLOCK], jnp.zeros(3, jnp.int32), (4, 4))
  np.testing.assert_allclose(got, expected[:, : 2 * BLOCK], atol=1e-5)


@pytest.mark.parametrize('chunks', [(1,) * LENGTH, (7, 4, 1, 1, 7)])
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
  cache = empty_cache(config, jnp.zeros(3, jnp.int32), CONFIG.max_blocks)
  got, cache = run(config, params, ids, TASKS, cache)
  assert got.dtype == cache.keys[0].dtype == jnp.bfloat16
  expected, _ = run(CONFIG, params, ids, TASKS)
  difference = np.abs(np.asarray(got, np.float32) - np.asarray(expected))
  assert 0 < difference.mean() < 0.05


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
