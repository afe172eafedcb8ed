"""Scaled-QL against recordings: of programs, and of the papers' formulas."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from jowa_jax.models import q_network
from jowa_jax.models.resnet import Encoder
from tests.parity import q_learning

NETWORKS = ('scaledql_basic', 'scaledql_bottleneck')


@pytest.fixture(scope='module', params=NETWORKS)
def recording(request):
  return q_learning.load(request.param)


def network(data):
  return q_learning.encoder_config(data), q_learning.network_config(data)


def test_every_parameter_is_filled(recording):
  encoder, config = network(recording)
  games = len(recording['legal'])
  template = jax.eval_shape(
    lambda key: nn.meta.unbox(q_network.init(encoder, config, games, key)),
    jax.random.key(0),
  )
  filled = q_learning.params(recording, 'state_dict')
  assert jax.tree.structure(filled) == jax.tree.structure(template)
  shapes = jax.tree.map(lambda x: x.shape, (filled, template))
  assert shapes[0] == shapes[1]


def test_outputs(recording):
  encoder, config = network(recording)
  outputs = jax.jit(q_network.apply, static_argnums=(0, 1))(
    encoder,
    config,
    q_learning.params(recording, 'state_dict'),
    recording['frames'],
    recording['task'],
  )
  for name, value in outputs._asdict().items():
    q_learning.assert_close(value, recording[f'out/{name}'], name)
  np.testing.assert_allclose(config.atoms, recording['support'], rtol=1e-6)


def test_the_encoder_with_strides_of_its_own():
  data = q_learning.load('encoder_strides_1211')
  params = q_learning.params(data, 'state_dict')
  embedding = Encoder(q_learning.encoder_config(data)).apply(
    {'params': params['encoder']}, data['frames']
  )
  q_learning.assert_close(embedding, data['out/embedding'])
