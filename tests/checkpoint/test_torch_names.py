"""The released names and layouts, and what happens when they do not fit."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from configs import jowa
from jowa_jax.checkpoint import torch_names
from jowa_jax.methods.factory import make_method

# Names and shapes of the released layout, by hand: Linear (out, in), Conv2d
# (out, in, height, width). Sizes are those of the `smoke` config.
RELEASED = {
  ('backbone', 'layer_1', 'attn', 'query', 'kernel'): (
    'transformer.blocks.1.attn.query.weight',
    (32, 32),
  ),
  ('backbone', 'layer_0', 'attn', 'proj', 'bias'): (
    'transformer.blocks.0.attn.proj.bias',
    (32,),
  ),
  ('backbone', 'layer_0', 'mlp_2', 'kernel'): (
    'transformer.blocks.0.mlp.2.weight',
    (32, 128),
  ),
  ('backbone', 'ln_f', 'scale'): ('transformer.ln_f.weight', (32,)),
  ('backbone', 'observation_embedding'): (
    'embedder.embedding_tables.1.weight',
    (32, 32),
  ),
  ('backbone', 'position_embedding'): ('pos_emb.weight', (296, 32)),
  ('world_heads', 'rewards', 'dense_2', 'kernel'): (
    'head_rewards.head_module.2.weight',
    (3, 32),
  ),
  ('q_heads', 'dense_0_kernel'): ('head_q.head_module.params.0', (1, 32, 32)),
  ('target_q_heads', 'dense_2_bias'): (
    'head_q_target.head_module.params.9',
    (1, 918),
  ),
  ('tokenizer', 'codebook'): ('embedding.weight', (32, 16)),
  ('tokenizer', 'encoder', 'conv_in', 'kernel'): (
    'encoder.conv_in.weight',
    (8, 1, 3, 3),
  ),
}


@pytest.fixture(scope='module')
def template():
  """Shapes of the smoke model's parameters, target heads included."""
  method = make_method(jowa.get_config('smoke').to_dict())
  variables = nn.meta.unbox(
    jax.eval_shape(
      lambda key: method.init(
        key, {'median_frames': np.zeros((60, 84, 84), np.uint8)}
      ),
      jax.random.key(0),
    )
  )
  return {**variables.params, 'target_q_heads': variables.targets['q_heads']}


def _paths(template):
  leaves, _ = jax.tree_util.tree_flatten_with_path(template)
  return {tuple(key.key for key in path): leaf for path, leaf in leaves}


def _release(path, value):
  """Writes one of our arrays as the released program stores it."""
  if path[0] in ('q_heads', 'target_q_heads'):
    swap = path[-1].endswith('_kernel')
    return np.swapaxes(value, 1, 2) if swap else value
  if path[-1] != 'kernel':
    return value.reshape(-1) if path[-1] == 'bias' else value
  if value.ndim == 4:
    return np.transpose(value, (3, 2, 0, 1))
  inputs = 2 if path[-2] == 'proj' and path[0] == 'backbone' else 1
  fan_in = int(np.prod(value.shape[:inputs]))
  return value.reshape(fan_in, -1).T


@pytest.fixture(scope='module')
def ours(template):
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), template
  )


@pytest.fixture(scope='module')
def released(ours):
  return {
    torch_names.released_name(path): _release(path, value)
    for path, value in _paths(ours).items()
  }


def test_names_and_shapes_are_the_released_ones(template):
  shapes = torch_names.released_shapes(template)
  assert len(shapes) == len(_paths(template))
  for path, (name, shape) in RELEASED.items():
    assert torch_names.released_name(path) == name
    assert shapes[name] == shape


def test_round_trip_of_every_array(template, ours, released):
  filled = torch_names.from_released(released, template)
  assert jax.tree.structure(filled) == jax.tree.structure(ours)
  for path, value in _paths(filled).items():
    np.testing.assert_array_equal(value, _paths(ours)[path], err_msg=str(path))
  back = torch_names.to_released(ours)
  assert back.keys() == released.keys()
  for name, value in released.items():
    np.testing.assert_array_equal(back[name], value, err_msg=name)


def test_all_that_does_not_fit_is_listed(template, released):
  gone = ('pos_emb.weight', 'encoder.conv_in.weight')
  tensors = {k: v for k, v in released.items() if k not in gone}
  tensors['head_q.beta'] = np.zeros(1, np.float32)
  # As many values, but not the shape.
  tensors['encoder.conv_in.bias'] = np.zeros((2, 4), np.float32)
  query = 'transformer.blocks.0.attn.query.weight'
  tensors[query] = np.zeros((32, 31), np.float32)
  lines = [
    *(f'missing {name}' for name in gone),
    'unexpected head_q.beta',
    'encoder.conv_in.bias has shape (2, 4), expected (8,)',
    f'{query} has shape (32, 31), expected (32, 32)',
  ]
  assert sorted(torch_names.mismatches(tensors, template)) == sorted(lines)
  with pytest.raises(ValueError) as raised:
    torch_names.from_released(tensors, template)
  assert all(line in str(raised.value) for line in lines)
