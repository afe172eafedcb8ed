import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax.models import resnet
from jowa_jax.models.resnet import Encoder, ResNetConfig, SpatialEmbeddings

TINY = ResNetConfig(
  stage_sizes=(1, 1), stage_strides=(1, 2), width=4, spatial_features=2
)
STACKS = np.random.default_rng(0).integers(0, 256, (2, 84, 84, 4), np.uint8)


def test_spatial_embeddings_weigh_places_by_channel():
  x = jnp.arange(8.0).reshape(1, 2, 2, 2)  # channel 0: 0 2 4 6, 1: 1 3 5 7
  kernel = np.zeros((2, 2, 2, 3), np.float32)
  kernel[0, 0, 0, 0] = 10  # of channel 0, feature 0: its first place, 0
  kernel[1, 1, 0, 1] = 10  # feature 1: its last place, 6
  kernel[:, :, 1, 2] = 1  # of channel 1, feature 2: all places, 16
  y = SpatialEmbeddings(3).apply({'params': {'kernel': kernel}}, x)
  np.testing.assert_allclose(y, [[0, 60, 0, 0, 0, 16]])


@pytest.mark.parametrize('bottleneck', [False, True])
@pytest.mark.parametrize('pooling', resnet.POOLINGS)
def test_an_embedding_is_as_long_as_its_config_says(bottleneck, pooling):
  config = ResNetConfig(
    **{**vars(TINY), 'bottleneck': bottleneck, 'pooling': pooling}
  )
  shape = jax.eval_shape(
    lambda key: Encoder(config).init_with_output(key, STACKS)[0],
    jax.random.key(0),
  ).shape
  assert shape == (2, config.outputs)
  channels = 8 * (4 if bottleneck else 1)
  assert config.outputs == channels * (1 if pooling == 'mean' else 2)


def test_it_computes_in_bfloat16_and_keeps_float32():
  config = ResNetConfig(**{**vars(TINY), 'dtype': 'bfloat16'})
  y, params = jax.eval_shape(
    lambda key: Encoder(config).init_with_output(key, STACKS),
    jax.random.key(0),
  )
  assert y.dtype == jnp.bfloat16
  assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype('float32')}


def test_blocks_of_a_bottleneck_begin_as_shortcuts():
  init = jax.jit(Encoder(TINY).init)
  params = init(jax.random.key(0), STACKS)['params']
  block = params['stage_0_block_0']
  assert not np.asarray(block['norm_2']['scale']).any()
  for name in ('norm_0', 'norm_1', 'shortcut_norm'):
    np.testing.assert_array_equal(block[name]['scale'], 1)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('sizes', 'strides', 'bottleneck', 'expected'),
  [
    ((3, 4, 6, 3), (1, 2, 2, 2), False, 0.62),
    ((3, 4, 6, 3), (1, 2, 2, 2), True, 0.69),
    ((3, 4, 23, 3), (1, 2, 2, 2), True, 1.37),
    ((3, 4, 23, 3), (1, 2, 1, 1), True, 5.23),
  ],
)
def test_products_of_published_sizes(sizes, strides, bottleneck, expected):
  config = ResNetConfig(sizes, strides, bottleneck)
  assert round(resnet.encoder_flops(config) / 2e9, 2) == expected


@pytest.mark.parametrize(
  'wrong',
  [
    {'pooling': 'max'},
    {'stage_sizes': (3, 4)},
    {'stage_strides': (1, 0, 2, 2)},
    {'width': 6},
    {'stack': 0},
  ],
)
def test_sizes_that_cannot_be(wrong):
  with pytest.raises(ValueError, match=next(iter(wrong))):
    ResNetConfig(**wrong)
