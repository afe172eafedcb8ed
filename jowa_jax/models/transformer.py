"""The shared backbone: token, position and task embeddings, and a causal GPT.

JOWA section 4.1.1 and Table 10. A block is `tokens_per_frame` observation
tokens followed by one action token.
"""

import dataclasses

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from jowa_jax.models import kv_cache
from jowa_jax.models.kv_cache import KVCache


@dataclasses.dataclass(frozen=True)
class BackboneConfig:
  """Sizes of the backbone.

  Attributes:
    num_layers: transformer layers.
    width: of the residual stream.
    num_heads: attention heads.
    vocab_size: observation tokens; the tokenizer's.
    tokens_per_frame: observation tokens in a block.
    max_blocks: blocks the position table covers.
    num_actions: rows of the action table.
    num_tasks: rows of the task tables.
    dropout: on embeddings and residual branches.
    attention_dropout: on attention weights.
    task_embedding: whether tokens are told the game.
    init_scale: standard deviation of initial weights and embeddings. The
      paper's suits its widths; a narrow model's branches start almost closed
      with it, and open at about 1 / sqrt(width).
    dtype: of the computation; parameters are float32.
  """

  num_layers: int
  width: int
  num_heads: int
  vocab_size: int = 2048
  tokens_per_frame: int = 36
  max_blocks: int = 8
  num_actions: int = 18
  num_tasks: int = 60
  dropout: float = 0.1
  attention_dropout: float = 0.1
  task_embedding: bool = True
  init_scale: float = 0.02
  dtype: str = 'float32'

  def __post_init__(self):
    if self.width % self.num_heads:
      raise ValueError(
        f'backbone.width={self.width} is not a multiple of '
        f'backbone.num_heads={self.num_heads}'
      )

  @property
  def block_size(self) -> int:
    return self.tokens_per_frame + 1

  @property
  def max_tokens(self) -> int:
    return self.max_blocks * self.block_size

  @property
  def head_dim(self) -> int:
    return self.width // self.num_heads


def _init(scale: float, *axes: str):
  """Normal(0, scale) with logical axis names for the sharding rules."""
  return nn.with_logical_partitioning(nn.initializers.normal(scale), axes)


def _zeros(*axes: str):
  return nn.with_logical_partitioning(nn.initializers.zeros, axes)


def layer_norm(name: str, dtype: str) -> nn.LayerNorm:
  return nn.LayerNorm(1e-5, dtype=dtype, use_fast_variance=False, name=name)


class Dense(nn.Module):
  """A linear layer over the last axes, with named axes.

  `features` may have several axes (attention heads), and `inputs` counts the
  trailing axes of x that are contracted.
  """

  config: BackboneConfig
  features: tuple[int, ...]
  axes: tuple[str, ...]
  inputs: int = 1

  @nn.compact
  def __call__(self, x):
    init = _init(self.config.init_scale, *self.axes)
    shape = x.shape[-self.inputs :] + self.features
    kernel = self.param('kernel', init, shape)
    bias = self.param('bias', _zeros(*self.axes[self.inputs :]), self.features)
    dtype = self.config.dtype
    x, kernel, bias = (a.astype(dtype) for a in (x, kernel, bias))
    return jnp.tensordot(x, kernel, axes=self.inputs) + bias


class Attention(nn.Module):
  """Causal multi-head attention, over a segment or over a cache."""

  config: BackboneConfig

  @nn.compact
  def __call__(self, x, mask, layer_cache, slot, deterministic):
    """Returns the output [B, N, D] and the layer's (keys, values).

    Args:
      x: [B, N, D].
      mask: [B or 1, N, S] bool, which of the S keys each query may read.
      layer_cache: (keys, values) [B, heads, S, head_dim], or None when the
        keys are those of x itself (S = N).
      slot: first slot of x in the cache.
      deterministic: no dropout.
    """
    cfg = self.config
    heads = (cfg.num_heads, cfg.head_dim)
    axes = ('embed', 'heads', 'head_dim')
    q, k, v = (
      Dense(cfg, heads, axes, name=name)(x)
      for name in ('query', 'key', 'value')
    )
    k, v = (jnp.swapaxes(a, 1, 2) for a in (k, v))
    if layer_cache is not None:
      k = kv_cache.write(layer_cache[0], k, slot)
      v = kv_cache.write(layer_cache[1], v, slot)
    logits = jnp.einsum('bnhd,bhsd->bhns', q, k) * cfg.head_dim**-0.5
    logits = jnp.where(mask[:, None], logits.astype(jnp.float32), -1e30)
    weights = nn.softmax(logits).astype(cfg.dtype)
    weights = nn.Dropout(cfg.attention_dropout)(weights, deterministic)
    y = jnp.einsum('bhns,bhsd->bnhd', weights, v)
    y = Dense(
      cfg, (cfg.width,), ('heads', 'head_dim', 'embed'), 2, name='proj'
    )(y)
    return y, (k, v)


class Layer(nn.Module):
  """Pre-norm attention and MLP with residual connections."""

  config: BackboneConfig

  @nn.compact
  def __call__(self, x, mask, layer_cache, slot, deterministic):
    cfg = self.config
    drop = nn.Dropout(cfg.dropout, deterministic=deterministic)
    y, layer_cache = Attention(cfg, name='attn')(
      layer_norm('ln1', cfg.dtype)(x),
      mask,
      layer_cache,
      slot,
      deterministic,
    )
    x = x + drop(y)
    y = layer_norm('ln2', cfg.dtype)(x)
    y = Dense(cfg, (4 * cfg.width,), ('embed', 'mlp'), name='mlp_0')(y)
    y = jax.nn.gelu(y, approximate=False)
    y = Dense(cfg, (cfg.width,), ('mlp', 'embed'), name='mlp_2')(y)
    return x + drop(y), layer_cache


class Backbone(nn.Module):
  """Tokens of interleaved frames and actions -> final hidden states."""

  config: BackboneConfig

  @nn.compact
  def __call__(
    self,
    ids: chex.Array,
    tasks: chex.Array,
    cache: KVCache | None = None,
    *,
    deterministic: bool = True,
  ) -> tuple[chex.Array, KVCache | None]:
    """Runs N tokens.

    Args:
      ids: [B, N] int32; observation tokens and, at the last place of each
        block, actions.
      tasks: [B] int32, the games' task ids.
      cache: what came before, if anything; the tokens follow it.
      deterministic: no dropout (otherwise the rng 'dropout' is used).

    Returns:
      Hidden states [B, N, D], and the cache with these tokens in it (None if
      none was given).
    """
    cfg = self.config
    slot = 0 if cache is None else cache.length
    slots = slot + jnp.arange(ids.shape[1])
    x = self._embed(ids, tasks, slots, None if cache is None else cache.start)
    x = nn.Dropout(cfg.dropout)(x.astype(cfg.dtype), deterministic)
    if cache is None:
      mask = (slots[:, None] >= slots)[None]
    else:
      keys = jnp.arange(cache.num_slots)
      mask = (slots[:, None] >= keys)[None] & (keys >= cache.start[:, None])[
        :, None
      ]
    new_keys, new_values = [], []
    for i in range(cfg.num_layers):
      layer_cache = cache and (cache.keys[i], cache.values[i])
      x, (k, v) = Layer(cfg, name=f'layer_{i}')(
        x, mask, layer_cache, slot, deterministic
      )
      new_keys.append(k)
      new_values.append(v)
    x = layer_norm('ln_f', cfg.dtype)(x)
    if cache is not None:
      cache = cache.replace(
        keys=tuple(new_keys),
        values=tuple(new_values),
        length=cache.length + ids.shape[1],
      )
    return x, cache

  def _embed(self, ids, tasks, slots, start):
    """Sums token, position and task embeddings, [B, N, D]."""
    cfg = self.config

    def table(name, rows, axis):
      init = _init(cfg.init_scale, axis, 'embed')
      return self.param(name, init, (rows, cfg.width))

    observations = table('observation_embedding', cfg.vocab_size, 'vocab')
    actions = table('action_embedding', cfg.num_actions, 'actions')
    positions = table('position_embedding', cfg.max_tokens, 'positions')
    # Slots hold the same kind of token in every row (see kv_cache).
    is_action = (slots % cfg.block_size == cfg.block_size - 1)[None, :, None]
    # An id is clipped to a table only where the other table is the one read.
    x = jnp.where(
      is_action,
      jnp.take(actions, ids, axis=0, mode='clip'),
      jnp.take(observations, ids, axis=0, mode='clip'),
    )
    rows = slots[None] if start is None else slots[None] - start[:, None]
    # Slots before a row's start hold padding: masked, so any position will do.
    x = x + jnp.take(positions, rows, axis=0, mode='clip')
    if cfg.task_embedding:
      task_actions = table('action_task_embedding', cfg.num_tasks, 'tasks')
      task_observations = table(
        'observation_task_embedding', cfg.num_tasks, 'tasks'
      )
      x = x + jnp.where(
        is_action,
        task_actions[tasks][:, None],
        task_observations[tasks][:, None],
      )
    return x


def empty_cache(
  config: BackboneConfig, start: chex.Array, num_blocks: int
) -> KVCache:
  """Returns an empty cache of `num_blocks` blocks.

  Args:
    config: of the backbone that will fill it.
    start: [B] int32, first slot of each row's context, whole blocks.
    num_blocks: capacity.
  """
  return kv_cache.init_cache(
    config.num_layers,
    config.num_heads,
    config.head_dim,
    num_blocks * config.block_size,
    start,
    config.dtype,
  )
