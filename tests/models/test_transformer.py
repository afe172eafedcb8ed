"""Layers on vectors, against plain NumPy, with every option.

The mask is that of a decision transformer: a step is two patches, which see
each other, a return and an action, and returns after the first are hidden.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax.models.transformer import (
  TransformerConfig,
  contract,
  gelu,
  run_layers,
)
from tests.models import random_params

STEP, TOKENS, WIDTH = 4, 12, 8
RETURN = 2  # its place within a step


def config(**fields):
  sizes = dict(num_layers=2, width=WIDTH, num_heads=2, dropout=0.0)
  return TransformerConfig(**{**sizes, **fields})


class Stack(nn.Module):
  config: TransformerConfig

  @nn.compact
  def __call__(self, x, **options):
    return run_layers(self.config, x, **options)


def run(cfg, params, x, key=None, **options):
  options |= dict(deterministic=key is None)
  rngs = {} if key is None else {'dropout': key}
  apply = functools.partial(Stack(cfg).apply, rngs=rngs, **options)
  return jax.jit(apply)({'params': params}, x)


def frame_mask():
  mask = np.tril(np.ones((TOKENS, TOKENS), bool))
  for first in range(0, TOKENS, STEP):
    mask[first : first + RETURN, first : first + RETURN] = True
    if first:
      mask[:, first + RETURN] = False
  return mask


@pytest.fixture(scope='module')
def params():
  """Of both kinds of norms: those of 'post' are all but `ln_f`."""

  def fresh(key):
    return Stack(config()).init(key, jnp.zeros((1, 1, WIDTH)))['params']

  return random_params.like(fresh)


@pytest.fixture(scope='module')
def x():
  return np.random.default_rng(0).normal(size=(2, TOKENS, WIDTH))


def norm(params, x):
  x = x - x.mean(-1, keepdims=True)
  x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)
  return x * params['scale'] + params['bias']


def attend(params, x, mask, heads_kept=True):
  """Token by token and head by head, [N, D]."""
  out = np.zeros_like(x)
  q, k, v = (
    np.einsum('nd,dhe->nhe', x, params[name]['kernel']) + params[name]['bias']
    for name in ('query', 'key', 'value')
  )
  for n in range(len(x)):
    for head in range(q.shape[1]):
      may = np.flatnonzero(mask[n])
      weights = np.exp(k[may, head] @ q[n, head] / math.sqrt(q.shape[2]))
      y = weights @ v[may, head] / weights.sum()
      out[n] += heads_kept * y @ params['proj']['kernel'][head]
  return out + params['proj']['bias']


def smooth(x, kind):
  if kind == 'exact':
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
  inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
  return x * 0.5 * (1 + np.tanh(inner))


def mlp(params, x, kind):
  y = x @ params['mlp_0']['kernel'] + params['mlp_0']['bias']
  y = smooth(y, kind)
  return y @ params['mlp_2']['kernel'] + params['mlp_2']['bias']


def reference(cfg, params, x, mask, heads_kept=True):
  """A row, [N, D], in float64."""
  for i in range(cfg.num_layers):
    layer = params[f'layer_{i}']
    if cfg.norm == 'pre':
      y = norm(layer['ln1'], x)
      x = x + attend(layer['attn'], y, mask, heads_kept)
      x = x + mlp(layer, norm(layer['ln2'], x), cfg.gelu)
    else:
      y = attend(layer['attn'], x, mask, heads_kept)
      x = norm(layer['ln1'], x + y)
      x = norm(layer['ln2'], x + mlp(layer, x, cfg.gelu))
  return norm(params['ln_f'], x) if cfg.norm == 'pre' else x


@pytest.fixture(scope='module')
def wide(params):
  return jax.tree.map(lambda x: np.asarray(x, np.float64), params)


@pytest.mark.parametrize('fused', [False, True])
@pytest.mark.parametrize(('norm', 'gelu'), [('pre', 'tanh'), ('post', 'exact')])
def test_layers_of_decision_transformers(params, wide, x, norm, gelu, fused):
  cfg = config(norm=norm, gelu=gelu, fused_attention=fused)
  mask = frame_mask()
  got, span = run(cfg, params, x, mask=mask[None])
  assert span.valid.shape == (2, TOKENS) and span.valid.all()
  for row in range(2):
    expected = reference(cfg, wide, x[row], mask)
    np.testing.assert_allclose(got[row], expected, rtol=1e-4, atol=1e-5)
  # The two approximations can be told apart.
  other = config(norm=norm, gelu='exact' if gelu == 'tanh' else 'tanh')
  difference = got[0] - reference(other, wide, x[0], mask)
  assert np.abs(difference).max() > 1e-4


def test_without_a_mask_attention_is_causal(params, wide, x):
  cfg, causal = config(), np.tril(np.ones((TOKENS, TOKENS), bool))
  got, _ = run(cfg, params, x)
  masked, _ = run(cfg, params, x, mask=causal[None])
  np.testing.assert_allclose(got, masked, atol=1e-5)
  expected = reference(cfg, wide, x[0], causal)
  np.testing.assert_allclose(got[0], expected, rtol=1e-4, atol=1e-5)


def test_masks_of_rows_and_slots_without_a_token(params, wide, x):
  """Each row has a mask of its own, and padding on the left."""
  cfg = config(norm='post')
  masks = np.stack([frame_mask(), np.tril(np.ones((TOKENS, TOKENS), bool))])
  valid = np.arange(TOKENS) >= np.array([[STEP], [2 * STEP]])
  got, span = run(cfg, params, x, mask=masks, valid=valid)
  np.testing.assert_array_equal(span.valid, valid)
  for row in range(2):
    held = valid[row]
    expected = reference(cfg, wide, x[row][held], masks[row][held][:, held])
    np.testing.assert_allclose(got[row][held], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('norm', ['pre', 'post'])
def test_a_mask_with_what_came_before(params, x, norm):
  """The patches of the first frame see nothing after them: they are kept."""
  cfg, mask = config(norm=norm), frame_mask()
  whole, _ = run(cfg, params, x, mask=mask[None])
  own, later = mask[None, :RETURN, :RETURN], mask[None, RETURN:, RETURN:]
  first, before = run(cfg, params, x[:, :RETURN], mask=own)
  rest, _ = run(
    *(cfg, params, x[:, RETURN:]),
    mask=later,
    spans=(before,),
  )
  got = np.concatenate([first, rest], axis=1)
  np.testing.assert_allclose(got, whole, atol=1e-5)


@pytest.mark.slow
def test_where_dropout_sits(params, wide, x):
  """A rate of 1 leaves nothing."""
  key, mask = jax.random.key(0), np.tril(np.ones((TOKENS, TOKENS), bool))
  got, _ = run(config(dropout=1.0), params, x, key)
  np.testing.assert_allclose(got[0], norm(wide['ln_f'], x[0]), atol=1e-5)
  # Of attention, the bias of the projection is left.
  cfg = config(heads_dropout=1.0)
  expected = reference(cfg, wide, x[0], mask, heads_kept=False)
  got, _ = run(cfg, params, x, key)
  np.testing.assert_allclose(got[0], expected, rtol=1e-4, atol=1e-5)
  # And so it is of attention's weights, but for one in a million.
  cfg = config(attention_dropout=1 - 1e-6)
  got, _ = run(cfg, params, x, key, mask=mask[None])
  np.testing.assert_allclose(got[0], expected, rtol=1e-4, atol=1e-5)
  # None without a key.
  got, _ = run(config(dropout=0.5, heads_dropout=0.5), params, x)
  expected = reference(config(), wide, x[0], mask)
  np.testing.assert_allclose(got[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_remat_changes_nothing(params, x):
  def gradients(cfg):
    def loss(params):
      hidden, _ = run(cfg, params, x, mask=frame_mask()[None])
      return jnp.sum(jnp.sin(3 * hidden))

    return jax.jit(jax.grad(loss))(params)

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    gradients(config(norm='post')),
    gradients(config(norm='post', remat=True)),
  )


@pytest.mark.slow
@pytest.mark.parametrize('init', ['normal', 'fan_in', 'uniform'])
def test_initial_weights(init):
  cfg = config(num_layers=1, width=64, init=init, init_scale=0.5)
  start = jax.random.key(0), jnp.zeros((1, 1, 64))
  fresh = jax.jit(Stack(cfg).init)(*start)['params']
  layer = nn.meta.unbox(fresh)['layer_0']
  kernels = {
    64: layer['mlp_0']['kernel'],
    256: layer['mlp_2']['kernel'],
  }
  for inputs, kernel in kernels.items():
    deviation, largest = {
      'normal': (0.5, np.inf),
      # Cut at two deviations of what was drawn.
      'fan_in': (
        math.sqrt(0.5 / inputs),
        2 * math.sqrt(0.5 / inputs) / 0.8796,
      ),
      'uniform': (0.5 / math.sqrt(3 * inputs), 0.5 / math.sqrt(inputs)),
    }[init]
    assert abs(float(np.std(kernel)) / deviation - 1) < 0.03
    assert np.abs(kernel).max() <= largest
  # Two heads of 32 are read by the projection.
  spread = float(np.std(layer['attn']['proj']['kernel']))
  assert spread == pytest.approx(float(np.std(kernels[64])), rel=0.05)
  assert np.any(layer['mlp_0']['bias']) == (init == 'uniform')


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    (dict(norm='Pre'), r"norm='Pre' is not in \('pre', 'post'\)"),
    (dict(gelu='erf'), r"gelu='erf' is not in \('exact'"),
    (dict(init='torch'), r"init='torch' is not in \('normal'"),
    (dict(num_heads=3), 'width=8 is not a multiple of num_heads=3'),
    (
      dict(fused_attention=True, attention_dropout=0.1),
      'set attention_dropout=0.1 to 0',
    ),
  ],
)
def test_bad_fields_are_named(fields, message):
  with pytest.raises(ValueError, match=message):
    config(**fields)


@pytest.mark.parametrize(
  ('x', 'kernel', 'count'),
  [
    ((2, 3, 4), (4, 5), 1),
    ((2, 3, 4), (4, 2, 5), 1),
    ((7, 4, 2), (4, 2, 3), 2),
  ],
)
def test_contract_is_tensordot_and_so_are_its_gradients(x, kernel, count):
  rng = np.random.default_rng(0)
  x, kernel = (jnp.asarray(rng.normal(size=s)) for s in (x, kernel))

  def loss(fn):
    return lambda *a: jnp.sum(jnp.sin(fn(*a, count)))

  ours = jax.value_and_grad(loss(contract), (0, 1))(x, kernel)
  theirs = jax.value_and_grad(loss(jnp.tensordot), (0, 1))(x, kernel)
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_gelu_is_exact_and_so_is_its_gradient():
  x = jnp.linspace(-12, 12, 4001)
  ours = jax.vmap(jax.value_and_grad(gelu))(x)
  theirs = jax.vmap(
    jax.value_and_grad(lambda x: jax.nn.gelu(x, approximate=False))
  )(x)
  for a, b in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=2e-6)
