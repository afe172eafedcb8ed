"""Frames are encoded as the tokenizer does, whatever their number."""

import jax
import numpy as np

from jowa_jax.methods import tokenizer as tokenizer_lib
from jowa_jax.methods.base import Variables
from jowa_jax.methods.tokenizer import TokenizerTraining
from jowa_jax.models.vqvae import VQVAEConfig
from jowa_jax.train import encoding
from tests.models.random_params import fill

CONFIG = VQVAEConfig(
  channels=16,
  res_blocks=1,
  downsample=(7, 2),
  latent_channels=4,
  vocab_size=16,
  embedding_dim=4,
  encoder_field='patch',
)


class _Method:
  """As much of a method as encodes."""

  tokenizer = tokenizer_lib.tokenizer(CONFIG, TokenizerTraining())


def test_a_frozen_tokenizer_encodes_and_is_named_by_its_weights():
  shapes = jax.eval_shape(
    lambda key: tokenizer_lib.init(CONFIG, key), jax.random.key(0)
  )
  frames = np.random.default_rng(0).integers(0, 256, (128, 84, 84), np.uint8)
  names = []
  for seed in (0, 1):
    params = fill(shapes, seed)
    variables = Variables(params={'tokenizer': params}, targets={}, extras={})
    run, identity, size = encoding.frozen_encoder(_Method(), variables)
    assert size == 128
    tokens = run(frames)
    assert len(np.unique(tokens)) > 2
    expected = jax.jit(lambda x, p: tokenizer_lib.encode(CONFIG, p, x))
    np.testing.assert_array_equal(tokens, expected(frames, params))
    names.append(identity)
  assert names[0] != names[1]
