"""The published sizes have exactly the published numbers of parameters."""

import math

import jax
import pytest
from flax import linen as nn

from configs import edt, ficc, jowa, mgdt, mtbc
from jowa_jax.methods.factory import make_method

TOKENIZER = 4_047_489
# VGG16's convolutions and the linear heads of LPIPS, frozen.
PERCEPTUAL = 14_714_688 + 1_472


def shapes(config):
  """Shapes of the method's variables; nothing is computed."""
  method = make_method(config)
  return nn.meta.unbox(
    jax.eval_shape(lambda key: method.init(key, {}), jax.random.key(0))
  )


def size(tree) -> int:
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def transformer_size(backbone) -> int:
  """Layers and the final norm, without the embedding tables."""
  return size(
    {k: v for k, v in backbone.items() if not k.endswith('_embedding')}
  )


@pytest.mark.parametrize(
  ('name', 'transformer', 'q_heads', 'without_target', 'millions'),
  [
    ('40m', 12_610_560, 1_693_590, 17_416_091, 38),
    ('70m', 42_528_768, 2_782_102, 50_567_579, 72),
    ('150m', 85_056_000, 18_732_738, 109_045_447, 147),
  ],
)
def test_jowa(name, transformer, q_heads, without_target, millions):
  variables = shapes(jowa.get_config(name))
  params = dict(variables.params)
  assert size(params.pop('tokenizer')) == TOKENIZER
  assert transformer_size(params['backbone']) == transformer
  assert size(params['q_heads']) == q_heads
  assert size(variables.targets) == q_heads
  assert size(params) == without_target
  total = without_target + q_heads + TOKENIZER + PERCEPTUAL
  assert round(total / 1e6) == millions


def test_mtbc_120m_has_three_heads():
  variables = shapes(mtbc.get_config('150m'))
  params = variables.params
  assert set(params) == {'tokenizer', 'backbone', 'policy_heads'}
  assert not variables.targets
  assert transformer_size(params['backbone']) == 85_056_000
  assert (
    len(
      {leaf.shape[0] for leaf in jax.tree.leaves(params['policy_heads'])} | {3}
    )
    == 1
  )
  assert round((size(params) + PERCEPTUAL) / 1e6, 1) == 119.6


@pytest.mark.parametrize(
  ('name', 'bins', 'blocks', 'total'),
  [
    ('40m', 120, 42_527_232, 43_045_774),
    ('40m', 121, 42_527_232, 43_047_311),
    # The released weights, and the paper's range of returns.
    ('200m', 120, 196_774_400, 197_638_542),
    ('200m', 121, 196_774_400, 197_641_103),
  ],
)
def test_mgdt(name, bins, blocks, total):
  config = mgdt.get_config(name).unlock()
  assert config.backbone.return_bins == 121
  config.backbone.return_bins = bins
  params = shapes(config).params
  layers = [v for k, v in params['backbone'].items() if k.startswith('layer_')]
  assert size(layers) == blocks
  assert size(params) == total


def test_edt():
  params = shapes(edt.get_config('200m')).params
  layers = [v for k, v in params['backbone'].items() if k.startswith('layer_')]
  assert size(layers) == 196_774_400
  assert size(params['heads']['frames']) == 9_165_744
  assert size(params) == 206_372_863


def test_ficc():
  params = shapes(ficc.get_config('85m')).params
  # What is learned; counts and running statistics are not.
  learned = {
    name: size(params.pop(name))
    for name in list(params)
    if name not in ('statistics', 'action_codes', 'action_map')
  }
  assert sum(learned.values()) == 85_727_564
  assert learned['q_head'] == 12_268_950
  assert size(params['action_map']) == 60 * 18 * 5


def test_parameters_are_float32_whatever_the_computation():
  config = jowa.get_config('40m')
  assert config.backbone.dtype == config.tokenizer.dtype == 'bfloat16'
  params = shapes(config).params
  assert {str(leaf.dtype) for leaf in jax.tree.leaves(params)} == {'float32'}
