"""Scaled-QL's network: an encoder, a perceptron, and a head for every game.

Kumar et al., 2022, section 4.2. What the heads read is normalised, so that a
value can grow with the heads' weights alone.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from jowa_jax.models import flops
from jowa_jax.models.resnet import Encoder, ResNetConfig
from jowa_jax.types import FRAME_SHAPE, Params

ENCODER, MLP, HEADS = 'encoder', 'mlp', 'heads'
NAMES = (ENCODER, MLP, HEADS)
# Added to a squared norm: a feature vector of zeros stays one.
_EPS = 1e-12


@dataclasses.dataclass(frozen=True)
class QNetworkConfig:
  """Sizes of what follows the encoder.

  Attributes:
    mlp_width: of the layers between the encoder and the heads.
    mlp_layers: how many there are.
    normalize_features: whether what the heads read is divided by its norm.
    shared_head: whether all games have one head, and not each its own.
    num_actions: outputs of a head.
    num_atoms: of each action's distribution of returns; 1 for a scalar value,
      which is learned by squared error.
    v_min: the lowest atom.
    v_max: the highest one.
  """

  mlp_width: int = 1024
  mlp_layers: int = 3
  normalize_features: bool = True
  shared_head: bool = False
  num_actions: int = 18
  num_atoms: int = 51
  v_min: float = -20.0
  v_max: float = 20.0

  def __post_init__(self):
    for name in ('mlp_width', 'mlp_layers', 'num_actions', 'num_atoms'):
      if getattr(self, name) < 1:
        raise ValueError(f'{name}={getattr(self, name)} is not positive')
    if self.num_atoms > 1 and self.v_min >= self.v_max:
      raise ValueError(
        f'v_min={self.v_min} is not below v_max={self.v_max}: the atoms lie '
        'between them'
      )

  @property
  def scalar(self) -> bool:
    """Whether a head's outputs are values, not distributions."""
    return self.num_atoms == 1

  @property
  def atoms(self) -> jax.Array:
    """The support, [num_atoms]."""
    return jnp.linspace(self.v_min, self.v_max, self.num_atoms)


class Outputs(NamedTuple):
  """What the network says of N stacks; float32 from the features on."""

  embedding: chex.Array  # [N, E], of the encoder
  hidden: chex.Array  # [N, D], of the perceptron
  features: chex.Array  # [N, D], what the heads read
  logits: chex.Array  # [N, A, M], of the game's own head
  q: chex.Array  # [N, A], expected returns


class Mlp(nn.Module):
  """Embeddings [N, E] -> [N, D], a ReLU after every layer."""

  config: QNetworkConfig
  dtype: str

  @nn.compact
  def __call__(self, x: chex.Array) -> chex.Array:
    for i in range(self.config.mlp_layers):
      # In turn: of two in a row that are split alike, on meshes of several axes
      # the gradients are wrong (XLA's partitioner, as of jaxlib 0.10).
      names = ('mlp', 'embed') if i % 2 else ('embed', 'mlp')
      x = nn.Dense(
        self.config.mlp_width,
        dtype=self.dtype,
        kernel_init=nn.with_logical_partitioning(
          nn.initializers.xavier_uniform(), names
        ),
        name=f'layer_{i}',
      )(x)
      x = nn.relu(x)
    return x


class Heads(nn.Module):
  """One linear layer for every game, or one for all.

  All are computed and one is taken: beside the encoder that is little, and a
  gather would copy a head's weights for every state.

  Attributes:
    config: sizes.
    games: G, how many have a head of their own.
    dtype: of the computation.
  """

  config: QNetworkConfig
  games: int
  dtype: str

  @nn.compact
  def __call__(self, x: chex.Array, rows: chex.Array) -> chex.Array:
    cfg = self.config
    own = not cfg.shared_head
    count = self.games if own else 1
    outputs = cfg.num_actions * cfg.num_atoms
    first = 'tasks' if own else None
    kernel = self.param(
      'kernel',
      nn.with_logical_partitioning(
        nn.initializers.xavier_uniform(batch_axis=0),
        # As the last layer before it is split by its outputs.
        (first, 'mlp' if cfg.mlp_layers % 2 else 'embed', 'atoms'),
      ),
      (count, cfg.mlp_width, outputs),
    )
    bias = self.param(
      'bias',
      nn.with_logical_partitioning(nn.initializers.zeros, (first, 'atoms')),
      (count, outputs),
    )
    x, kernel, bias = (y.astype(self.dtype) for y in (x, kernel, bias))
    every = jnp.einsum('nd,gdo->ngo', x, kernel) + bias
    rows = rows if own else jnp.zeros_like(rows)
    y = jnp.take_along_axis(every, rows[:, None, None], axis=1, mode='fill')
    return y.reshape(len(x), cfg.num_actions, cfg.num_atoms)


def init(
  encoder: ResNetConfig, config: QNetworkConfig, games: int, key: chex.PRNGKey
) -> dict[str, Params]:
  """Fresh parameters by the names in `NAMES`, boxed with logical axes.

  Args:
    encoder: its sizes.
    config: sizes of what follows it.
    games: how many have a head.
    key: of the initialisation.
  """
  keys = jax.random.split(key, len(NAMES))
  stacks = jnp.zeros((1, *FRAME_SHAPE, encoder.stack), jnp.uint8)
  embedding = jnp.zeros((1, encoder.outputs))
  features, row = jnp.zeros((1, config.mlp_width)), jnp.zeros(1, jnp.int32)
  dtype = encoder.dtype
  return {
    ENCODER: Encoder(encoder).init(keys[0], stacks)['params'],
    MLP: Mlp(config, dtype).init(keys[1], embedding)['params'],
    HEADS: Heads(config, games, dtype).init(keys[2], features, row)['params'],
  }


def apply(
  encoder: ResNetConfig,
  config: QNetworkConfig,
  params: Mapping[str, Any],
  stacks: chex.Array,
  rows: chex.Array,
) -> Outputs:
  """What the network says of stacks of frames.

  Args:
    encoder: its sizes.
    config: sizes of what follows it.
    params: by the names in `NAMES`.
    stacks: [N, H, W, stack] pixels to 255, the oldest first.
    rows: [N] int32, the heads of their games; not a number beyond the last.
  """
  chex.assert_rank([stacks, rows], [4, 1])
  embedding = Encoder(encoder).apply({'params': params[ENCODER]}, stacks)
  hidden = Mlp(config, encoder.dtype).apply({'params': params[MLP]}, embedding)
  features = hidden.astype(jnp.float32)
  if config.normalize_features:
    squares = jnp.sum(features**2, axis=-1, keepdims=True)
    features = features / jnp.sqrt(squares + _EPS)
  games = len(params[HEADS]['bias'])
  logits = Heads(config, games, encoder.dtype).apply(
    {'params': params[HEADS]}, features, rows
  )
  logits = logits.astype(jnp.float32)
  if config.scalar:
    q = logits[..., 0]
  else:
    q = jax.nn.softmax(logits) @ config.atoms
  return Outputs(embedding, hidden, features, logits, q)


def count_flops(
  config: QNetworkConfig, embedding: int, games: int
) -> dict[str, float]:
  """Those of a state after the encoder, by the names in `NAMES`.

  Args:
    config: sizes.
    embedding: E, size of what the encoder makes.
    games: how many have a head.
  """
  width, outputs = config.mlp_width, config.num_actions * config.num_atoms
  layers = flops.linear(config.mlp_layers - 1, width, width)
  heads = 1 if config.shared_head else games
  return {
    MLP: flops.linear(1, embedding, width) + layers,
    HEADS: flops.linear(heads, width, outputs),
  }
