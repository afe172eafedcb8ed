"""A model of a few thousand random parameters, and batches for it.

Frames are 8 x 8 and four tokens; nothing but speed depends on that.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jowa_jax import games
from jowa_jax.methods.jowa import JowaConfig, make_jowa
from jowa_jax.methods.jowa_losses import JowaLosses
from jowa_jax.methods.mtbc import MtbcConfig
from jowa_jax.methods.tokenizer import TokenizerTraining
from jowa_jax.models.backbone import BackboneConfig
from jowa_jax.models.heads import HeadSizes
from jowa_jax.models.vqvae import VQVAEConfig
from jowa_jax.models.world_action import ReturnConfig
from jowa_jax.types import Segment
from tests.models.random_params import fill

VOCAB, TOKENS, SIDE, LENGTH = 13, 4, 8, 4
TOKENIZER = VQVAEConfig(
  channels=4,
  res_blocks=1,
  downsample=(4,),
  latent_channels=4,
  vocab_size=VOCAB,
  embedding_dim=4,
  resolution=SIDE,
)
BACKBONE = BackboneConfig(
  num_layers=1,
  width=16,
  num_heads=2,
  vocab_size=VOCAB,
  tokens_per_frame=TOKENS,
  max_blocks=LENGTH,
  dropout=0.0,
  attention_dropout=0.0,
)
HEADS = HeadSizes(num_heads=2, width=8, dropout=0.0)
JOWA = JowaConfig(
  tokenizer=TOKENIZER,
  backbone=BACKBONE,
  heads=HEADS,
  returns=ReturnConfig(num_atoms=5, v_min=-2.0, v_max=2.0, gamma=0.9),
  losses=JowaLosses(),
  tokenizer_training=TokenizerTraining(),
)
MTBC = MtbcConfig(
  tokenizer=TOKENIZER,
  backbone=BACKBONE,
  heads=HEADS,
  tokenizer_training=TokenizerTraining(),
)
MODEL = JOWA.model
STATISTICS = {'median_frames': np.full((60, SIDE, SIDE), 100, np.uint8)}
PONG, FREEWAY = games.task_id('Pong'), games.task_id('Freeway')


def jowa(**sections):
  """Returns JOWA with some other sections than those of `JOWA`."""
  return make_jowa(dataclasses.replace(JOWA, **sections))


def variables(method, seed: int = 0):
  """Random variables of a method; targets differ from what they copy."""
  shapes = jax.eval_shape(
    lambda key: method.init(key, STATISTICS), jax.random.key(0)
  )
  extras = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes.extras)
  if 'median_frames' in extras:
    extras = jax.tree.map(jnp.asarray, {**extras, **STATISTICS})
  return shapes.replace(
    params=fill(shapes.params, seed),
    targets=fill(shapes.targets, seed + 1),
    extras=extras,
  )


def segment(seed: int = 0, mask=None, **fields) -> Segment:
  """Two segments of random play, of Pong and of Freeway."""
  rng = np.random.default_rng(seed)
  shape = (2, LENGTH)
  values = {
    'observations': rng.integers(0, 256, (*shape, SIDE, SIDE), np.uint8),
    'actions': rng.choice((0, 2, 5), shape).astype(np.int32),
    'rewards': rng.integers(-1, 2, shape).astype(np.float32),
    'ends': np.zeros(shape, bool),
    'mask': np.ones(shape, bool) if mask is None else np.array(mask, bool),
    'task': np.array([PONG, FREEWAY], np.int32),
  }
  return Segment(**{**values, **fields})


def tokens(seed: int = 0) -> np.ndarray:
  """Random tokens for `segment`."""
  rng = np.random.default_rng(seed)
  return rng.integers(0, VOCAB, (2, LENGTH, TOKENS)).astype(np.int32)
