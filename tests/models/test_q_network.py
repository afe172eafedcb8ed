import functools
import math

import jax
import numpy as np
import pytest
from flax import linen as nn

from jowa_jax.models import q_network
from jowa_jax.models.q_network import QNetworkConfig
from jowa_jax.models.resnet import ResNetConfig

TINY = ResNetConfig(
  stage_sizes=(1,), stage_strides=(1,), width=4, pooling='mean'
)
SMALL = QNetworkConfig(mlp_width=6, mlp_layers=2, num_atoms=5)
STACKS = np.random.default_rng(0).integers(0, 256, (3, 84, 84, 4), np.uint8)


def count(params):
  return sum(math.prod(x.shape) for x in jax.tree.leaves(params))


@pytest.mark.slow
@pytest.mark.parametrize(
  ('sizes', 'bottleneck', 'fifteen', 'forty'),
  [
    ((3, 4, 6, 3), False, 41_733_450, 65_257_200),
    ((3, 4, 6, 3), True, 56_650_314, 80_174_064),
    ((3, 4, 23, 3), True, 75_642_442, 99_166_192),
  ],
)
def test_parameters_of_published_sizes(sizes, bottleneck, fifteen, forty):
  encoder = ResNetConfig(stage_sizes=sizes, bottleneck=bottleneck)
  for games, expected in ((15, fifteen), (40, forty)):
    params = jax.eval_shape(
      lambda key, n=games: q_network.init(encoder, QNetworkConfig(), n, key),
      jax.random.key(0),
    )
    assert count(params) == expected
    assert count(params['heads']) == games * 940_950


_apply = jax.jit(q_network.apply, static_argnums=(0, 1))


def outputs(config, rows, params=None):
  params = params or make(config)
  return _apply(TINY, config, params, STACKS, np.array(rows))


@functools.cache
def make(config):
  init = jax.jit(q_network.init, static_argnums=(0, 1, 2))
  return nn.meta.unbox(init(TINY, config, 4, jax.random.key(0)))


@pytest.mark.slow
def test_games_have_heads_of_their_own():
  params = make(SMALL)
  found = outputs(SMALL, [2, 0, 2], params)
  head = params['heads']
  for i, row in enumerate((2, 0, 2)):
    logits = found.features[i] @ head['kernel'][row] + head['bias'][row]
    np.testing.assert_allclose(
      found.logits[i], logits.reshape(18, 5), rtol=1e-4, atol=1e-6
    )
  grads = jax.grad(
    lambda heads: outputs(SMALL, [2, 0, 2], {**params, 'heads': heads}).q.sum()
  )(head)
  for gradient in grads.values():
    moved = np.abs(gradient).reshape(4, -1).any(axis=1)
    np.testing.assert_array_equal(moved, [True, False, True, False])


def test_there_is_nothing_beyond_the_last_head():
  found = outputs(SMALL, [3, 4, 0])
  assert np.isfinite(found.q[::2]).all() and np.isnan(found.q[1]).all()


def test_a_shared_head_is_of_all_games():
  config = QNetworkConfig(**{**vars(SMALL), 'shared_head': True})
  params = make(config)
  assert params['heads']['kernel'].shape == (1, 6, 90)
  one, other = outputs(config, [0, 1, 2]), outputs(config, [3, 0, 1])
  np.testing.assert_array_equal(one.logits, other.logits)
  # No table of games: none of its rows is another game's.
  boxed = jax.eval_shape(
    lambda key: q_network.init(TINY, config, 4, key), jax.random.key(0)
  )['heads']
  assert boxed['kernel'].names[0] is None


@pytest.mark.slow
def test_features_are_of_length_one_even_if_dead():
  found = outputs(SMALL, [0, 1, 2])
  np.testing.assert_allclose(
    np.linalg.norm(found.features, axis=-1), 1, rtol=1e-5
  )
  params = jax.tree.map(np.zeros_like, make(SMALL))
  dead = jax.grad(lambda p: outputs(SMALL, [0, 1, 2], p).q.sum())(params)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(dead))
  config = QNetworkConfig(**{**vars(SMALL), 'normalize_features': False})
  plain = outputs(config, [0, 1, 2])
  np.testing.assert_array_equal(plain.features, plain.hidden)


def test_a_scalar_is_the_value():
  config = QNetworkConfig(**{**vars(SMALL), 'num_atoms': 1})
  found = outputs(config, [0, 1, 2])
  assert found.logits.shape == (3, 18, 1)
  np.testing.assert_array_equal(found.q, found.logits[..., 0])


def test_sizes_that_cannot_be():
  with pytest.raises(ValueError, match='mlp_width'):
    QNetworkConfig(mlp_width=0)
  with pytest.raises(ValueError, match='v_min'):
    QNetworkConfig(v_min=20.0)


def test_operations_of_heads_are_of_all_games():
  found = q_network.count_flops(SMALL, embedding=8, games=4)
  assert found == {'mlp': 2 * (8 * 6 + 6 * 6), 'heads': 2 * 4 * 6 * 90}
