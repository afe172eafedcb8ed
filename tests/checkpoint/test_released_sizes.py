"""Names, shapes and sizes of the published models."""

import math

import numpy as np
import pytest

from configs import jowa
from jowa_jax.checkpoint import torch_names
from jowa_jax.checkpoint.released_sizes import size_name, with_heads, with_sizes
from jowa_jax.checkpoint.shapes import variable_shapes
from jowa_jax.methods.factory import make_method
from tests.cases import quick
from tests.checkpoint import released_states as states


def config(size='150m'):
  return jowa.get_config(size).copy_and_resolve_references().to_dict()


def empty(shapes):
  """Returns arrays that take no memory."""
  zero = np.zeros((), np.float32)
  return {name: np.broadcast_to(zero, shape) for name, shape in shapes.items()}


def count(shapes):
  return sum(math.prod(shape) for shape in shapes.values())


@pytest.mark.parametrize('size', quick(states.PUBLISHED, '40m'))
def test_names_and_shapes_are_those_released(size):
  variables = variable_shapes(make_method(config(size)))
  params = {**variables.params, 'target_q_heads': variables.targets['q_heads']}
  tokenizer = {'tokenizer': params.pop('tokenizer')}
  expected = states.model_shapes(**states.PUBLISHED[size])
  assert torch_names.released_shapes(params) == expected
  target = {k: v for k, v in expected.items() if 'target' in k}
  assert count(target) == states.Q_PARAMETERS[size]
  assert count(expected) - count(target) == states.PARAMETERS[size]
  expected = states.tokenizer_shapes()
  assert torch_names.released_shapes(tokenizer) == expected
  assert count(expected) == states.TOKENIZER_PARAMETERS


def test_some_shapes_of_the_largest():
  model = states.model_shapes(**states.PUBLISHED['150m'])
  assert model['transformer.blocks.11.mlp.0.weight'] == (3072, 768)
  assert model['head_observations.head_module.2.weight'] == (2048, 768)
  assert model['head_q.head_module.params.0'] == (3, 1792, 768)
  assert model['head_q_target.head_module.params.8'] == (3, 918, 1792)
  tokenizer = states.tokenizer_shapes()
  assert tokenizer['encoder.down.0.downsample.conv.weight'] == (64, 64, 8, 8)
  assert tokenizer['pre_quant_conv.weight'] == (512, 512, 1, 1)


@pytest.mark.parametrize('size', states.PUBLISHED)
def test_published_sizes_are_recognised(size):
  other = '40m' if size == '150m' else '150m'
  found = with_sizes(
    config(other),
    empty(states.tokenizer_shapes()),
    empty(states.model_shapes(**states.PUBLISHED[size])),
  )
  assert with_heads(found) == config(size)
  assert size_name(found) == size


def test_sizes_of_ones_own_are_recognised():
  tokenizer = states.tokenizer_shapes(6, 3, 10, 40, 14)
  model = states.model_shapes(
    3, 24, 2, 20, vocab=40, outputs=18 * 7, tasks=False
  )
  model['pos_emb.weight'] = (6 * 37, 24)
  base = config()
  found = with_heads(with_sizes(base, empty(tokenizer), empty(model)), 4)
  assert base == config()
  assert size_name(found) is None
  expected = config()
  expected['tokenizer'] |= dict(
    channels=6, res_blocks=3, latent_channels=10, vocab_size=40
  )
  expected['tokenizer']['embedding_dim'] = 14
  expected['backbone'] |= dict(
    num_layers=3, width=24, num_heads=4, vocab_size=40, max_blocks=6
  )
  expected['backbone']['task_embedding'] = False
  expected['heads'] |= dict(num_heads=2, width=20)
  expected['returns']['num_atoms'] = 7
  assert found == expected


def test_other_factors_between_levels_are_recognised():
  tokenizer = states.tokenizer_shapes(**states.SMALL_TOKENIZER)
  tokenizer['encoder.down.1.downsample.conv.weight'] = (8, 8, 4, 4)
  model = states.model_shapes(**states.SMALL_MODEL)
  found = with_sizes(config(), empty(tokenizer), empty(model))
  assert found['tokenizer']['downsample'] == (7, 3)
  assert found['backbone']['tokens_per_frame'] == 16
  tokenizer['encoder.down.0.downsample.conv.weight'] = (8, 8, 6, 6)
  with pytest.raises(ValueError, match=r'\(5, 3\) times.*not divide their 84'):
    with_sizes(config(), empty(tokenizer), empty(model))


@pytest.mark.slow
def test_one_tensor_that_does_not_fit_changes_no_size():
  """It is named later; were a size read from it, all others would be."""
  tokenizer = empty(states.tokenizer_shapes(**states.SMALL_TOKENIZER))
  model = empty(states.model_shapes(**states.SMALL_MODEL))
  expected = with_sizes(config(), tokenizer, model)
  for state in (tokenizer, model):
    for name, kept in list(state.items()):
      if name == 'embedding.weight':
        continue
      del state[name]
      if name != 'pos_emb.weight':
        assert with_sizes(config(), tokenizer, model) == expected, name
      if name != 'pos_emb.weight' and '.downsample.' not in name:
        state[name] = np.zeros((5, 5), np.float32)
        assert with_sizes(config(), tokenizer, model) == expected, name
      state[name] = kept


def test_heads_of_attention_are_asked_for():
  found = with_sizes(
    config(),
    empty(states.tokenizer_shapes(**states.SMALL_TOKENIZER)),
    empty(states.model_shapes(**states.SMALL_MODEL)),
  )
  with pytest.raises(ValueError, match='2 layers of width 16.*--num_heads'):
    with_heads(found)
  for heads in (0, 3):
    with pytest.raises(ValueError, match=f'--num_heads={heads} does not'):
      with_heads(found, heads)


def test_a_tokenizer_of_another_agent_is_refused():
  tokenizer = empty(states.tokenizer_shapes(**states.SMALL_TOKENIZER))
  model = states.model_shapes(**{**states.SMALL_MODEL, 'vocab': 64})
  with pytest.raises(ValueError, match='32 tokens .*the model 64.*not of one'):
    with_sizes(config(), tokenizer, empty(model))
