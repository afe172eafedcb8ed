"""Frames are encoded as the tokenizer does, and no patch of them twice."""

import jax
import numpy as np

from jowa_jax.methods import tokenizer as tokenizer_lib
from jowa_jax.methods.base import Encoder, Variables
from jowa_jax.models.vqvae import VQVAE, VQVAEConfig
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

  def __init__(self):
    self.calls = []

    def encode(variables, frames):
      jax.debug.callback(lambda x: self.calls.append(len(x)), frames)
      return tokenizer_lib.encode(CONFIG, variables.params['tokenizer'], frames)

    self.encoder = Encoder(('tokenizer',), encode, CONFIG.patches)


def _variables(frames):
  params = fill(
    jax.eval_shape(
      lambda key: tokenizer_lib.init(CONFIG, key), jax.random.key(0)
    ),
    0,
  )
  # Codes among what there is to encode, so that patches differ in tokens.
  latents = VQVAE(CONFIG).apply({'params': params}, frames, method='latents')
  rows = np.asarray(latents[:, : CONFIG.vocab_size // len(frames)])
  # Not twice the same: rounding would choose between them.
  rows = np.unique(rows.reshape(-1, CONFIG.embedding_dim).round(2), axis=0)
  codebook = np.full((CONFIG.vocab_size, CONFIG.embedding_dim), 100.0)
  codebook[: len(rows)] = rows
  params = {**params, 'codebook': codebook.astype(np.float32)}
  return Variables(params={'tokenizer': params}, targets={}, extras={})


def test_patches_are_encoded_once_and_as_in_their_frames():
  rng = np.random.default_rng(0)
  # A few patches in ever other arrangements, and a frame of new ones.
  tiles = np.kron(rng.integers(0, 256, (12, 2, 2)), np.ones((7, 7)))
  which = rng.integers(12, size=(40, 6, 6))
  which[0] = np.arange(36).reshape(6, 6) % 12
  frames = tiles[which].astype(np.uint8).swapaxes(2, 3)
  frames = frames.reshape(40, 84, 84)
  new = rng.integers(0, 256, (1, 84, 84), np.uint8)
  variables = _variables(np.concatenate([frames[:1], new]))
  method = _Method()
  run, identity, size = encoding.frozen_encoder(method, variables)
  assert identity.endswith('-patches') and size == 128
  method.encoder = method.encoder._replace(patches=0)
  # The same parameters, but another tokenizer.
  _, whole, _ = encoding.frozen_encoder(method, variables)
  assert whole == identity.removesuffix('-patches')
  alone = jax.jit(
    lambda x: tokenizer_lib.encode(CONFIG, variables.params['tokenizer'], x)
  )
  for part in (frames[:20], frames[20:], np.concatenate([frames[:5], new])):
    tokens = run(part)
    assert len(np.unique(tokens)) > 2
    np.testing.assert_array_equal(tokens, alone(part))
  jax.effects_barrier()
  # Once for the twelve, and once for what is new.
  assert method.calls == [16, 16]
