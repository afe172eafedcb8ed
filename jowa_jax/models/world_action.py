"""The world-action model: backbone, world heads and Q heads as functions.

Parameters live in a dict with the top-level names `BACKBONE`, `WORLD_HEADS`
and `Q_HEADS`, so that a loss, an optimizer or another method can take the
parts it needs.
"""

import dataclasses

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from jowa_jax.models.backbone import Backbone, BackboneConfig
from jowa_jax.models.heads import (
  EnsembleHeads,
  HeadSizes,
  WorldHeads,
  WorldLogits,
)
from jowa_jax.models.kv_cache import KVCache
from jowa_jax.types import Params

BACKBONE, WORLD_HEADS, Q_HEADS = 'backbone', 'world_heads', 'q_heads'


@dataclasses.dataclass(frozen=True)
class ReturnConfig:
  """How Q values are represented (JOWA section 4.1.3, Table 13).

  Attributes:
    num_atoms: atoms of C51's support; 1 is a scalar Q with squared error.
    v_min: first atom.
    v_max: last atom.
    gamma: discount.
  """

  num_atoms: int = 51
  v_min: float = -10.0
  v_max: float = 30.0
  gamma: float = 0.99

  def __post_init__(self):
    if self.num_atoms < 1 or self.v_min >= self.v_max:
      raise ValueError(
        'returns need num_atoms >= 1 and v_min < v_max, got '
        f'num_atoms={self.num_atoms}, v_min={self.v_min}, v_max={self.v_max}'
      )

  @property
  def atoms(self) -> chex.Array:
    return jnp.linspace(self.v_min, self.v_max, self.num_atoms)


@dataclasses.dataclass(frozen=True)
class WorldActionConfig:
  """Backbone, Q heads and the representation of returns."""

  backbone: BackboneConfig
  heads: HeadSizes = HeadSizes()
  returns: ReturnConfig = ReturnConfig()

  @property
  def q_heads(self) -> EnsembleHeads:
    outputs = self.backbone.num_actions * self.returns.num_atoms
    return EnsembleHeads(self.heads, outputs, self.backbone.dtype)


def init_backbone(config: BackboneConfig, key: chex.PRNGKey) -> Params:
  """Fresh backbone parameters, boxed with logical axis names."""
  block = jnp.zeros((1, config.block_size), jnp.int32)
  tasks = jnp.zeros((1,), jnp.int32)
  return Backbone(config).init(key, block, tasks)['params']


def init(config: WorldActionConfig, key: chex.PRNGKey) -> dict[str, Params]:
  """Fresh parameters, boxed with their logical axis names."""
  keys = jax.random.split(key, 3)
  hidden = jnp.zeros((1, config.backbone.block_size, config.backbone.width))
  return {
    BACKBONE: init_backbone(config.backbone, keys[0]),
    WORLD_HEADS: WorldHeads(config.backbone).init(keys[1], hidden)['params'],
    Q_HEADS: config.q_heads.init(keys[2], hidden)['params'],
  }


def interleave(tokens: chex.Array, actions: chex.Array) -> chex.Array:
  """Joins frames [B, T, K] and actions [B, T] to ids [B, T * (K + 1)]."""
  blocks = jnp.concatenate(
    [tokens.astype(jnp.int32), actions.astype(jnp.int32)[..., None]], axis=-1
  )
  return blocks.reshape(blocks.shape[0], -1)


def _rngs(dropout_key):
  return {} if dropout_key is None else {'dropout': dropout_key}


def hidden_states(
  config: BackboneConfig,
  params: Params,
  tokens: chex.Array,
  actions: chex.Array,
  tasks: chex.Array,
  dropout_key: chex.PRNGKey | None = None,
) -> chex.Array:
  """Runs whole segments; returns hidden states [B, T * (K + 1), D]."""
  hidden, _ = Backbone(config).apply(
    {'params': params},
    interleave(tokens, actions),
    tasks,
    deterministic=dropout_key is None,
    rngs=_rngs(dropout_key),
  )
  return hidden


def at_last_observation(
  config: BackboneConfig, hidden: chex.Array
) -> chex.Array:
  """Picks the hidden states the Q heads read, [B, T, D]."""
  blocks = hidden.reshape(
    hidden.shape[0], -1, config.block_size, hidden.shape[-1]
  )
  return blocks[:, :, config.tokens_per_frame - 1]


def world_logits(
  config: BackboneConfig, params: Params, hidden: chex.Array
) -> WorldLogits:
  """Applies the world heads to the hidden states of whole blocks."""
  return WorldHeads(config).apply({'params': params}, hidden)


def ensemble_logits(
  heads: EnsembleHeads,
  params: Params,
  hidden: chex.Array,
  dropout_key: chex.PRNGKey | None = None,
) -> chex.Array:
  """Applies stacked heads to [..., D]; returns [num_heads, ..., outputs]."""
  return heads.apply(
    {'params': params},
    hidden,
    deterministic=dropout_key is None,
    rngs=_rngs(dropout_key),
  )


def split_atoms(returns: ReturnConfig, logits: chex.Array) -> chex.Array:
  """Splits (action, atom) outputs: [..., A * atoms] -> [..., A, atoms]."""
  return logits.reshape(*logits.shape[:-1], -1, returns.num_atoms)


def mixed_returns(
  returns: ReturnConfig, logits: chex.Array, weights: chex.Array | None = None
) -> chex.Array:
  """Mixes the heads: probabilities [..., A, atoms], or scalars [..., A, 1].

  Args:
    returns: the representation.
    logits: of the Q heads, [num_q, ..., A * atoms].
    weights: [num_q], summing to 1; None weighs the heads equally.
  """
  values = split_atoms(returns, logits)
  if returns.num_atoms > 1:
    values = nn.softmax(values)
  if weights is None:
    return values.mean(axis=0)
  return jnp.tensordot(weights, values, axes=1)


def expected_returns(returns: ReturnConfig, mixed: chex.Array) -> chex.Array:
  """Q [..., A] of mixed returns [..., A, atoms]."""
  if returns.num_atoms == 1:
    return mixed[..., 0]
  return mixed @ returns.atoms


def q_values(
  config: WorldActionConfig, params: Params, hidden: chex.Array
) -> chex.Array:
  """Q [..., A] at hidden states [..., D], heads mixed equally."""
  logits = ensemble_logits(config.q_heads, params, hidden)
  return expected_returns(config.returns, mixed_returns(config.returns, logits))


def in_compute_dtype(config: WorldActionConfig, params: Params) -> Params:
  """The parameters with the weights in the type they compute in.

  They are cast at every use anyhow; what uses them many times casts them once,
  and reads half the bytes. Tables and norms compute in float32.

  Args:
    config: of the model.
    params: with the top-level names of `init`; others stay as they are.
  """

  def cast(path, leaf):
    *parents, name = (key.key for key in path)
    norm = name.startswith('norm') or parents and parents[-1].startswith('ln')
    weight = name.split('_')[-1] in ('kernel', 'bias')
    return leaf.astype(config.backbone.dtype) if weight and not norm else leaf

  model = (BACKBONE, WORLD_HEADS, Q_HEADS)
  return {
    name: jax.tree_util.tree_map_with_path(cast, part)
    if name in model
    else part
    for name, part in params.items()
  }


def prefill(
  config: BackboneConfig,
  params: Params,
  tokens: chex.Array,
  actions: chex.Array,
  count: chex.Array,
  tasks: chex.Array,
) -> tuple[chex.Array, KVCache]:
  """Runs right-aligned contexts up to the current frame.

  Args:
    config: of the backbone.
    params: of the backbone.
    tokens: [B, C, K] frames, the current one last.
    actions: [B, C] int32; the last is not read (it is yet to be chosen).
    count: [B] int32 in 1..C, how many of the last blocks are real.
    tasks: [B] int32.

  Returns:
    The hidden state at the current frame's last token, [B, D], and the cache.
  """
  start = (tokens.shape[1] - count) * config.block_size
  hidden, context = Backbone(config).apply(
    {'params': params}, interleave(tokens, actions)[:, :-1], tasks, start=start
  )
  length = (count * config.block_size - 1).astype(jnp.int32)
  return hidden[:, -1], KVCache(context=context, frames=(), length=length)
