"""Many devices do what one does, and layout is configuration."""

import math

import jax
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AbstractMesh, SingleDeviceSharding

from jowa_jax.train import sharding
from tests.train import helpers


@pytest.mark.parametrize('size', ['40m', '70m', '150m'])
@pytest.mark.parametrize('method', ['jowa', 'mtbc'])
@pytest.mark.parametrize('axes', [(8, 1, 1), (1, 8, 1), (2, 2, 2), (2, 1, 4)])
def test_published_sizes_shrink_as_the_mesh_says(size, method, axes):
  config = helpers.CONFIGS[method].get_config(size).to_dict()
  mesh = AbstractMesh(axes, ('data', 'fsdp', 'tensor'))
  boxed = helpers.abstract_variables(config)
  shardings = sharding.tree_shardings(boxed, mesh, config['mesh']['rules'])
  here = total = 0
  for leaf, place in zip(
    jax.tree.leaves(nn.meta.unbox(boxed)),
    jax.tree.leaves(shardings),
    strict=True,
  ):
    here += math.prod(place.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    total += math.prod(leaf.shape) * leaf.dtype.itemsize
  assert here == pytest.approx(total / (axes[1] * axes[2]), rel=0.05)


def test_mesh_axis_that_is_not_there_is_refused():
  mesh = sharding.make_mesh({'data': 1}, jax.devices()[:1])
  with pytest.raises(ValueError, match=r"rules.mlp .*'model'.*\['data'\]"):
    sharding.tree_shardings({}, mesh, {'mlp': ('model',)})


@pytest.mark.parametrize(
  'axes', [{'data': 3}, {'data': 2, 'model': -1}, {'data': -1, 'model': -1}]
)
def test_axes_that_do_not_multiply_are_refused(axes):
  with pytest.raises(ValueError, match='do not multiply to 1 device'):
    sharding.make_mesh(axes, jax.devices()[:1])


def test_free_axis_takes_what_is_left():
  mesh = sharding.make_mesh({'model': 1, 'data': -1}, jax.devices()[:1])
  assert dict(mesh.shape) == {'model': 1, 'data': 1}


@pytest.mark.parametrize(
  ('names', 'shape', 'expected', 'left'),
  [
    # A mesh axis splits one axis of an array, the first that it divides.
    (('embed', 'embed'), (4, 4), ('fsdp', 'tensor'), []),
    (('embed', 'mlp'), (4, 8), ('fsdp', 'tensor'), []),
    (('embed', 'mlp'), (8, 6), (('fsdp', 'tensor'), None), []),
    (('embed', 'mlp'), (2, 6), ('fsdp', None), ['tensor']),
    (('other', None), (4, 4), (None, None), []),
    (('embed',), (3,), (None,), ['fsdp', 'tensor']),
  ],
)
def test_arrays_are_split_by_preference(names, shape, expected, left):
  mesh = AbstractMesh((1, 2, 4), ('data', 'fsdp', 'tensor'))
  rules = {'embed': ('fsdp', 'tensor'), 'mlp': ('tensor',)}
  spec, found = sharding.partition(names, shape, mesh, rules)
  assert tuple(spec) == expected and found == left


def test_what_is_put_beside_variables_is_where_these_are():
  device = jax.devices()[0]
  mesh = sharding.make_mesh({'data': 1}, [device])
  split = jax.device_put(np.zeros(2), sharding.batch_sharding(mesh))
  alone = SingleDeviceSharding(device)
  for variables, place in (
    ({'a': split}, sharding.replicated(mesh)),
    ({'a': jax.device_put(np.zeros(2), device)}, alone),
    ({'a': np.zeros(2)}, alone),
    ({}, alone),
  ):
    (found,) = sharding.put_beside(variables, (np.ones(3),))
    assert found.sharding == place and found.committed
