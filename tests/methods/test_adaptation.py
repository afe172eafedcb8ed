"""Heads and adapters alone are trained; nothing changes before they are."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jowa_jax.methods import adaptation
from jowa_jax.methods.adaptation import AdaptationConfig, adapt, merge
from jowa_jax.methods.base import Variables
from jowa_jax.methods.mtbc import make_mtbc
from jowa_jax.models import flops
from jowa_jax.train.optimizer import OptimizerConfig
from jowa_jax.train.state import Stage, stage_flops
from jowa_jax.types import TimeStep
from tests.methods import small

LORA = AdaptationConfig(mode='lora', rank=2, alpha=4.0)


def _make(name):
  return make_mtbc(small.MTBC) if name == 'mtbc' else small.jowa()


def _adapted(name, config=LORA):
  return adapt(_make(name), config, small.BACKBONE)


def _shapes(method):
  """The variables' shapes, boxed."""
  return jax.eval_shape(
    lambda key: method.init(key, small.STATISTICS), jax.random.key(0)
  )


def test_merging_adds_the_scaled_product():
  """Hu et al., 2021, section 4.1, by hand: alpha / rank is 2."""
  kernel = np.arange(6.0).reshape(2, 3, 1)
  attn = {'query': {'kernel': jnp.asarray(kernel), 'bias': jnp.ones((3, 1))}}
  a = jnp.array([[1.0, 2.0], [0.0, -1.0]])  # [in, rank]
  b = jnp.array([[1.0, 0.0, 2.0], [0.0, 3.0, 1.0]])[..., None]
  variables = Variables(
    params={
      'backbone': {'layer_0': {'attn': attn}},
      'lora': {'layer_0': {'attn': {'query': {'a': a, 'b': b}}}},
      'q_heads': {'bias': jnp.ones(2)},
    },
    targets={},
    extras={},
  )
  merged = merge(LORA, variables)
  assert set(merged.params) == {'backbone', 'q_heads'}
  found = merged.params['backbone']['layer_0']['attn']['query']
  product = np.array([[1.0, 6.0, 4.0], [0.0, -3.0, -1.0]])
  np.testing.assert_array_equal(
    found['kernel'][..., 0], kernel[..., 0] + 2 * product
  )
  np.testing.assert_array_equal(found['bias'], attn['query']['bias'])


@pytest.mark.slow
def test_fresh_adapters_have_the_kernels_axes_and_b_is_zero():
  boxed = _shapes(_make('jowa')).params['backbone']
  ones = jax.tree.map(lambda x: jnp.ones(x.shape), boxed)
  config = AdaptationConfig('lora', rank=2, targets=('value', 'proj'))
  adapters = adaptation.init_adapters(config, ones, jax.random.key(1))
  assert set(adapters) == {'layer_0'} and set(adapters['layer_0']) == {'attn'}
  attn = adapters['layer_0']['attn']
  assert set(attn) == {'value', 'proj'}
  expected = {
    # Width 16, two heads of 8.
    'value': (
      (16, 2),
      ('embed', 'rank'),
      (2, 2, 8),
      ('rank', 'heads', 'head_dim'),
    ),
    'proj': (
      (2, 8, 2),
      ('heads', 'head_dim', 'rank'),
      (2, 16),
      ('rank', 'embed'),
    ),
  }
  for name, (a_shape, a_names, b_shape, b_names) in expected.items():
    a, b = attn[name]['a'], attn[name]['b']
    assert isinstance(a, nn.LogicallyPartitioned)
    assert (a.value.shape, a.names) == (a_shape, a_names)
    assert (b.value.shape, b.names) == (b_shape, b_names)
    assert not np.any(b.value)
    # Normal, of variance 1 / inputs.
    assert 0.1 < float(np.std(a.value)) < 0.5
  assert np.any(
    attn['value']['a'].value != attn['proj']['a'].value.reshape(16, 2)
  )


@pytest.fixture(
  scope='module',
  params=['jowa', pytest.param('mtbc', marks=pytest.mark.slow)],
)
def pair(request):
  """A method, it with adapters, and variables of both: pretrained, B zero."""
  plain, adapted = _make(request.param), _adapted(request.param)
  variables = small.variables(plain)
  fresh = small.variables(adapted).params['lora']
  lora = jax.tree_util.tree_map_with_path(
    lambda path, x: 0 * x if path[-1].key == 'b' else x, fresh
  )
  with_lora = variables.replace(params={**variables.params, 'lora': lora})
  return types.SimpleNamespace(
    name=request.param,
    plain=plain,
    adapted=adapted,
    variables=variables,
    with_lora=with_lora,
    trained=variables.replace(params={**variables.params, 'lora': fresh}),
  )


@pytest.mark.slow
def test_an_adapted_agent_begins_as_the_pretrained_one(pair):
  batch = small.segment()
  plain = jax.jit(pair.plain.evaluate)(pair.variables, batch)
  run = jax.jit(pair.adapted.evaluate)
  jax.tree.map(np.testing.assert_array_equal, run(pair.with_lora, batch), plain)
  # And would not stay it.
  metric = 'q/td' if pair.name == 'jowa' else 'policy/cross_entropy'
  assert run(pair.trained, batch)[metric] != plain[metric]


@pytest.mark.slow
def test_an_adapted_policy_acts_as_the_merged_one(pair):
  tasks = jnp.array([small.PONG, small.FREEWAY])
  frames = np.random.default_rng(0).integers(0, 256, (2, 8, 8), np.uint8)
  timestep = TimeStep(frames=jnp.asarray(frames), first=jnp.ones(2, bool))

  def info(method, variables):
    policy = method.policy(epsilon=0.0)
    keys = jax.random.split(jax.random.key(0), 2)
    actions, _, info = policy.act(variables, policy.init(tasks), timestep, keys)
    return actions, info

  adapted = info(pair.adapted, pair.trained)
  merged = info(pair.plain, merge(LORA, pair.trained))
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5),
    adapted,
    merged,
  )
  before = info(pair.adapted, pair.with_lora)
  jax.tree.map(
    np.testing.assert_array_equal, before, info(pair.plain, pair.variables)
  )


def test_dreams_are_those_of_the_merged_weights():
  def apply(variables, *args):
    return variables, args

  method = _make('jowa')
  joint = method.objectives['world_action']._replace(augment=apply, rows=2)
  method = method._replace(objectives={'world_action': joint})
  joint = adapt(method, LORA, small.BACKBONE).objectives['world_action']
  variables = small.variables(_adapted('jowa'))
  seen, args = joint.augment(variables, 'batch', 'key', 3)
  assert args == ('batch', 'key', 3) and joint.rows == 2
  jax.tree.map(np.testing.assert_array_equal, seen, merge(LORA, variables))


def test_parts_name_what_is_trained():
  method = _make('jowa')
  methods = [
    adapt(method, config, small.BACKBONE)
    for config in (AdaptationConfig(), AdaptationConfig('heads'), LORA)
  ]
  full, heads, lora = (method.objectives for method in methods)
  assert heads['tokenizer'] == lora['tokenizer'] == full['tokenizer']
  assert heads['world_action'].params == ('world_heads', 'q_heads')
  assert lora['world_action'].params == ('lora', 'world_heads', 'q_heads')
  assert _adapted('mtbc').objectives['policy'].params == (
    'lora',
    'policy_heads',
  )
  trunk = flops.backbone(small.BACKBONE)
  for name in ('world', 'world_action'):
    stage = Stage('s', 1, {name: OptimizerConfig()})
    all_of_it, of_heads, of_lora = (
      stage_flops(method, stage) for method in methods
    )
    assert of_heads == pytest.approx(all_of_it - 2 * trunk)
    # Without the gradients of the two layers of the MLP, one layer of width 16
    # on four blocks of five tokens.
    saved = 2 * 20 * 8 * 16**2
    assert of_lora == pytest.approx(all_of_it - saved)


def test_full_adaptation_is_the_method_itself():
  method = _make('jowa')
  assert adapt(method, AdaptationConfig(), small.BACKBONE) is method


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    (dict(mode='lorra'), "mode='lorra'.*heads.*lora"),
    (dict(rank=0), 'rank=0'),
    (dict(alpha=0.0), 'alpha=0.0'),
    (dict(targets=()), 'targets'),
    (dict(targets=('query', 'mlp_0')), 'mlp_0.*proj'),
  ],
)
def test_bad_settings_are_named(fields, message):
  with pytest.raises(ValueError, match=message):
    AdaptationConfig(**fields)


def test_a_method_without_a_backbone_cannot_be_adapted():
  method = _make('jowa')
  tokenizer = method.objectives['tokenizer']
  method = method._replace(objectives={'tokenizer': tokenizer})
  with pytest.raises(ValueError, match="needs a method.*'tokenizer'"):
    adapt(method, LORA, small.BACKBONE)
