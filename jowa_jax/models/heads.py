"""Prediction heads on the backbone's final hidden states.

JOWA section 4.1.1, Tables 11 and 12. In each block the observation head reads
every place but the last observation token, the Q (or policy) heads read the
last observation token, and the reward and termination heads the action token.
"""

import dataclasses

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from jowa_jax.models.backbone import BackboneConfig
from jowa_jax.models.dropout import Dropout
from jowa_jax.models.transformer import Dense

NUM_REWARD_CLASSES = 3  # sign of the reward, plus one


@dataclasses.dataclass(frozen=True)
class HeadSizes:
  """Sizes of the Q heads, or of the policy heads of behaviour cloning.

  Attributes:
    num_heads: parallel MLPs.
    width: of both hidden layers.
    dropout: after the first linear layer only.
  """

  num_heads: int = 1
  width: int = 768
  dropout: float = 0.01


@chex.dataclass(frozen=True)
class WorldLogits:
  """What the world part predicts for a segment."""

  observations: chex.Array  # [B, T, K, V]: tokens 2..K, then the next frame's 1
  rewards: chex.Array  # [B, T, 3]
  ends: chex.Array  # [B, T, 2]


class MLPHead(nn.Module):
  """Linear, ReLU, linear."""

  config: BackboneConfig
  num_outputs: int
  axis: str

  @nn.compact
  def __call__(self, x):
    cfg = self.config.trunk
    x = Dense(cfg, (cfg.width,), ('embed', 'mlp'), name='dense_0')(x)
    x = nn.relu(x)
    return Dense(cfg, (self.num_outputs,), ('mlp', self.axis), name='dense_2')(
      x
    )


class WorldHeads(nn.Module):
  """Next token, sign of the reward, termination."""

  config: BackboneConfig

  def setup(self):
    cfg = self.config
    self.observations = MLPHead(cfg, cfg.vocab_size, 'vocab')
    self.rewards = MLPHead(cfg, NUM_REWARD_CLASSES, 'classes')
    self.ends = MLPHead(cfg, 2, 'classes')

  def __call__(self, hidden: chex.Array) -> WorldLogits:
    """Reads the hidden states [B, T * block, D] of whole blocks."""
    last, block = self.config.tokens_per_frame - 1, self.config.block_size
    h = hidden.reshape(hidden.shape[0], -1, block, hidden.shape[-1])
    action = h[:, :, -1]
    reads = jnp.concatenate([h[:, :, :last], h[:, :, -1:]], axis=2)
    return WorldLogits(
      observations=self.observations(reads),
      rewards=self.rewards(action),
      ends=self.ends(action),
    )

  def next_token(self, hidden: chex.Array) -> chex.Array:
    """Logits [..., V] of the token after the one at `hidden` [..., D]."""
    return self.observations(hidden)

  def reward(self, hidden: chex.Array) -> chex.Array:
    """Logits [..., 3] of the reward's sign, at an action token."""
    return self.rewards(hidden)

  def end(self, hidden: chex.Array) -> chex.Array:
    """Logits [..., 2] of the episode's end, at an action token."""
    return self.ends(hidden)


class EnsembleHeads(nn.Module):
  """Parallel MLPs with layer norm and Mish, stacked on a leading axis."""

  sizes: HeadSizes
  num_outputs: int
  dtype: str = 'float32'

  @nn.compact
  def __call__(
    self, hidden: chex.Array, deterministic: bool = True
  ) -> chex.Array:
    """Logits [num_heads, ..., num_outputs] float32.

    Args:
      hidden: [..., D] at the last observation token of a frame.
      deterministic: no dropout (otherwise the rng 'dropout' is used).
    """
    width, num_heads = self.sizes.width, self.sizes.num_heads
    x = jnp.broadcast_to(hidden.astype(self.dtype), (num_heads, *hidden.shape))
    x = self._linear('dense_0', x, width)
    x = Dropout(self.sizes.dropout)(x, deterministic)
    x = jax.nn.mish(self._norm('norm_0', x))
    x = self._linear('dense_1', x, width)
    x = jax.nn.mish(self._norm('norm_1', x))
    x = self._linear('dense_2', x, self.num_outputs, 'atoms')
    return x.astype(jnp.float32)

  def _linear(self, name, x, features, axis='mlp'):
    fan_in = x.shape[-1]
    bound = fan_in**-0.5

    def uniform(key, shape):
      return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

    def param(suffix, axes, shape):
      init = nn.with_logical_partitioning(uniform, ('ensemble', *axes))
      value = self.param(f'{name}_{suffix}', init, (x.shape[0], *shape))
      return value.astype(x.dtype)

    kernel = param('kernel', ('embed', axis), (fan_in, features))
    bias = param('bias', (axis,), (features,))
    y = jnp.einsum('q...i,qio->q...o', x, kernel)
    return y + bias.reshape(-1, *(1,) * (x.ndim - 2), features)

  def _norm(self, name, x):
    width = x.shape[-1]

    def param(suffix, init):
      init = nn.with_logical_partitioning(init, ('ensemble', 'mlp'))
      value = self.param(f'{name}_{suffix}', init, (x.shape[0], width))
      return value.reshape(-1, *(1,) * (x.ndim - 2), width)

    y = jax.nn.standardize(x.astype(jnp.float32), epsilon=1e-5)
    y = y * param('scale', nn.initializers.ones)
    return (y + param('bias', nn.initializers.zeros)).astype(x.dtype)
