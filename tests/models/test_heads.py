"""Where the heads read, and what they compute."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jowa_jax.models.backbone import BackboneConfig
from jowa_jax.models.heads import EnsembleHeads, HeadSizes, WorldHeads

CONFIG = BackboneConfig(
  num_layers=1,
  width=8,
  num_heads=2,
  vocab_size=5,
  tokens_per_frame=3,
  max_blocks=2,
)


@pytest.fixture(scope='module')
def hidden():
  rng = np.random.default_rng(0)
  return jnp.asarray(rng.normal(size=(2, 8, 8)), jnp.float32)


def perceptron(params, x):
  """Linear, ReLU, linear, in numpy."""
  for name in ('dense_0', 'dense_2'):
    x = x @ np.asarray(params[name]['kernel']) + np.asarray(
      params[name]['bias']
    )
    x = np.maximum(x, 0) if name == 'dense_0' else x
  return x


@pytest.mark.slow
def test_world_heads_read_their_places(hidden):
  heads = WorldHeads(CONFIG)
  params = nn.meta.unbox(heads.init(jax.random.key(0), hidden))['params']
  params = jax.tree.map(lambda x: 20 * x + 0.1, params)
  logits = heads.apply({'params': params}, hidden)
  blocks = np.asarray(hidden).reshape(2, 2, 4, 8)
  # Not at the last observation token: the action comes next.
  np.testing.assert_allclose(
    logits.observations,
    perceptron(params['observations'], blocks[:, :, [0, 1, 3]]),
    rtol=1e-4,
    atol=1e-4,
  )
  action = blocks[:, :, 3]
  for name in ('rewards', 'ends'):
    expected = perceptron(params[name], action)
    np.testing.assert_allclose(logits[name], expected, rtol=1e-4, atol=1e-4)
  assert logits.rewards.shape == (2, 2, 3) and logits.ends.shape == (2, 2, 2)
  # One place at a time, as the planner reads them.
  for name, whole in (
    ('next_token', logits.observations[:, :, -1]),
    ('reward', logits.rewards),
  ):
    got = heads.apply({'params': params}, hidden[:, 3::4], method=name)
    np.testing.assert_allclose(got, whole, rtol=1e-4, atol=1e-4)


def norm(x, scale, bias):
  x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
  return x * scale + bias


def mish(x):
  return x * np.tanh(np.log1p(np.exp(x)))


@pytest.fixture(scope='module')
def ensemble(hidden):
  heads = EnsembleHeads(HeadSizes(num_heads=3, width=6, dropout=0.5), 4)
  params = nn.meta.unbox(heads.init(jax.random.key(1), hidden))['params']
  return heads, params


@pytest.mark.slow
def test_ensemble_is_separate_perceptrons(ensemble, hidden):
  heads, params = ensemble
  rng = np.random.default_rng(1)
  params = jax.tree.map(
    lambda x: x + rng.normal(0, 0.1, x.shape).astype(np.float32), params
  )
  got = heads.apply({'params': params}, hidden)
  assert got.shape == (3, 2, 8, 4) and got.dtype == jnp.float32
  for i in range(3):
    p = {name: np.asarray(leaf[i]) for name, leaf in params.items()}
    x = np.asarray(hidden)
    for j in range(2):
      x = x @ p[f'dense_{j}_kernel'] + p[f'dense_{j}_bias']
      x = mish(norm(x, p[f'norm_{j}_scale'], p[f'norm_{j}_bias']))
    expected = x @ p['dense_2_kernel'] + p['dense_2_bias']
    np.testing.assert_allclose(got[i], expected, rtol=1e-4, atol=1e-5)


def test_ensemble_starts_uniform_within_its_fan_in(ensemble):
  _, params = ensemble
  for name, fan_in in (('dense_0', 8), ('dense_1', 6), ('dense_2', 6)):
    for suffix in ('kernel', 'bias'):
      leaf = np.asarray(params[f'{name}_{suffix}'])
      assert leaf.shape[0] == 3
      assert 0.5 * fan_in**-0.5 < np.abs(leaf).max() <= fan_in**-0.5
  # The heads differ from one another.
  kernel = np.asarray(params['dense_0_kernel'])
  assert np.abs(kernel[0] - kernel[1]).max() > 0.1


def test_ensemble_dropout_is_on_only_when_asked(ensemble, hidden):
  heads, params = ensemble
  plain = heads.apply({'params': params}, hidden)
  np.testing.assert_array_equal(heads.apply({'params': params}, hidden), plain)
  dropped = heads.apply(
    {'params': params},
    hidden,
    deterministic=False,
    rngs={'dropout': jax.random.key(0)},
  )
  assert np.abs(dropped - plain).max() > 0.01


def test_bfloat16_heads_return_float32(ensemble, hidden):
  heads, params = ensemble
  half = EnsembleHeads(heads.sizes, 4, 'bfloat16')
  got = half.apply({'params': params}, hidden)
  assert got.dtype == jnp.float32
  expected = heads.apply({'params': params}, hidden)
  np.testing.assert_allclose(got, expected, atol=0.1)
