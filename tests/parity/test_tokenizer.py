"""The tokenizer against the authors' program."""

import jax
import numpy as np
import pytest

from jowa_jax.methods import tokenizer as tokenizer_lib
from tests.parity import fixtures


@pytest.fixture(scope='module')
def fixture():
  data = fixtures.load('tokenizer')
  weights = fixtures.under(data, 'state_dict')
  config = fixtures.tokenizer_config(weights)
  params = fixtures.tokenizer_params(config, weights)
  frames = data['observations_uint8']
  return data, config, params, frames.reshape(-1, *frames.shape[-2:])


def test_outputs(fixture):
  data, config, params, _ = fixture
  fixtures.check_tokenizer_outputs(data, config, params)


def test_losses_and_gradients(fixture):
  data, config, params, frames = fixture

  def loss(params):
    terms, _ = tokenizer_lib.tokenizer_losses(config, params, frames)
    return sum(terms.values()), terms

  grads, terms = jax.jit(jax.grad(loss, has_aux=True))(params)
  fixtures.assert_close(
    terms['reconstruction'], data['loss/reconstruction_loss']
  )
  fixtures.assert_close(terms['commitment'], data['loss/commitment_loss'])
  expected = fixtures.tokenizer_params(config, fixtures.under(data, 'grad'))
  fixtures.assert_gradients_close(grads, expected)


def test_decode_inverts_encode_to_the_nearest_pixel(fixture):
  data, config, params, frames = fixture
  tokens = tokenizer_lib.encode(config, params, frames)
  decoded = tokenizer_lib.decode(config, params, tokens)
  raw = data['reconstruction_raw'].reshape(decoded.shape)
  expected = (np.clip(raw, -1, 1) + 1) * 127.5
  assert np.abs(np.asarray(decoded, np.float32) - expected).max() < 0.52
