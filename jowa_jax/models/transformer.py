"""The shared backbone: token, position and task embeddings, and a causal GPT.

JOWA section 4.1.1 and Table 10. A block is `tokens_per_frame` observation
tokens followed by one action token.
"""

import dataclasses
import functools
import math

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jowa_jax.models import attention, kv_cache
from jowa_jax.models.dropout import Dropout
from jowa_jax.models.kv_cache import KVCache, Part, Revision


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
    attention_dropout: on attention weights; the paper's 0.1.
    fused_attention: whether whole segments are read by the device's fused
      kernel (cuDNN's on a GPU, in half precision). It knows no dropout, so it
      departs from the paper: attention_dropout must be 0.
    remat: whether layers are computed again in the backward pass, for memory.
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
  fused_attention: bool = False
  remat: bool = False
  task_embedding: bool = True
  init_scale: float = 0.02
  dtype: str = 'float32'

  def __post_init__(self):
    if self.width % self.num_heads:
      raise ValueError(
        f'backbone.width={self.width} is not a multiple of '
        f'backbone.num_heads={self.num_heads}'
      )
    if self.fused_attention and self.attention_dropout:
      raise ValueError(
        'backbone.fused_attention=True knows no dropout: set '
        f'backbone.attention_dropout={self.attention_dropout} to 0, or leave '
        'it out'
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


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def contract(x, kernel, count):
  """Returns `jnp.tensordot(x, kernel, count)`.

  Its own rule gives the kernel's gradient as a product of both operands as
  they lie in memory. JAX's rule gives the transpose of it, for which XLA
  writes a transposed copy of every input on CPUs, a quarter of a step.
  """
  return jnp.tensordot(x, kernel, count)


def _contract_fwd(x, kernel, count):
  return contract(x, kernel, count), (x, kernel)


def _contract_bwd(count, saved, dy):
  x, kernel = saved
  back = tuple(range(count, kernel.ndim))
  dx = jnp.tensordot(dy, kernel, (tuple(range(x.ndim - count, dy.ndim)), back))
  # Matrices: XLA would transpose what is contracted over several axes.
  inputs = math.prod(kernel.shape[:count])
  rows, dy = x.reshape(-1, inputs), dy.reshape(-1, kernel.size // inputs)
  dkernel = lax.dot_general(rows, dy, (((0,), (0,)), ((), ())))
  return dx, dkernel.reshape(kernel.shape)


contract.defvjp(_contract_fwd, _contract_bwd)


@jax.custom_vjp
def gelu(x):
  """Returns `jax.nn.gelu(x, approximate=False)`, x times Phi(x).

  By erf, as the authors' program, and keeping x alone for the backward pass:
  JAX's is by erfc, which takes two ways to compute it and a choice, and keeps
  five arrays as large as x, the largest of a layer.
  """
  return x * _normal_cdf(x)


def _normal_cdf(x):
  return 0.5 + 0.5 * lax.erf(x * math.sqrt(0.5))


def _gelu_bwd(x, dy):
  density = jnp.exp(-0.5 * x * x) * (2 * math.pi) ** -0.5
  return (dy * (_normal_cdf(x) + x * density),)


gelu.defvjp(lambda x: (gelu(x), x), _gelu_bwd)


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
    return contract(x, kernel, self.inputs) + bias


def _revise(old, places, new):
  """Writes the vectors [1, heads, M, head_dim] of places to old ones."""
  by_token = jnp.swapaxes(old, 1, 2)
  revised = kv_cache.put(by_token, places, jnp.swapaxes(new, 1, 2)[0])
  return jnp.swapaxes(revised, 1, 2)


class Attention(nn.Module):
  """Causal multi-head attention, over a segment and what came before it."""

  config: BackboneConfig

  @nn.compact
  def __call__(self, x, valid, past, again, deterministic):
    """Returns the output [B, N, D] and the tokens' (keys, values).

    Args:
      x: [B, N, D]; [1, M, D] where some are run again.
      valid: [B or 1, N] bool, which of the N slots hold tokens; None for all.
      past: (keys, values, valid) of every part that all of x may read.
      again: (keys, values, places) as they were, or None; see `Revision`.
      deterministic: no dropout.
    """
    cfg = self.config
    heads = (cfg.num_heads, cfg.head_dim)
    axes = ('embed', 'heads', 'head_dim')
    q, k, v = (
      Dense(cfg, heads, axes, name=name)(x)
      for name in ('query', 'key', 'value')
    )
    proj = Dense(
      cfg, (cfg.width,), ('heads', 'head_dim', 'embed'), 2, name='proj'
    )
    alone = not past and again is None
    if cfg.fused_attention and alone and valid is None:
      y = attention.fused(q, k, v)
      return proj(y), (jnp.swapaxes(k, 1, 2), jnp.swapaxes(v, 1, 2))
    q = q * cfg.head_dim**-0.5
    q, k, v = (jnp.swapaxes(a, 1, 2) for a in (q, k, v))
    drop = Dropout(cfg.attention_dropout)
    if alone:
      words, rate = drop.words(deterministic), cfg.attention_dropout
      y = attention.causal(q, k, v, valid, words, rate, 2 * cfg.block_size)
      return proj(jnp.swapaxes(y, 1, 2)), (k, v)
    if again is not None:
      old_k, old_v, places = again
      k = _revise(old_k, places, k)
      v = _revise(old_v, places, v)
      # Queries of other tokens are answered too, and not read.
      q = _revise(jnp.zeros(k.shape, q.dtype), places, q)
    slots = jnp.arange(k.shape[2])
    mask = (slots[:, None] >= slots)[None]
    if valid is not None:
      mask = mask & valid[:, None]
    parts = [(keys, values, valid[:, None]) for keys, values, valid in past]
    parts.append((k, v, mask))
    y = attention.over_parts(q, parts, lambda w: drop(w, deterministic))
    y = jnp.swapaxes(y, 1, 2)
    if again is not None:
      y = kv_cache.pick(y, places)[None]
    return proj(y), (k, v)


class Layer(nn.Module):
  """Pre-norm attention and MLP with residual connections."""

  config: BackboneConfig

  @nn.compact
  def __call__(self, x, valid, past, again, deterministic):
    cfg = self.config
    drop = Dropout(cfg.dropout)
    y, new = Attention(cfg, name='attn')(
      layer_norm('ln1', cfg.dtype)(x), valid, past, again, deterministic
    )
    x = x + drop(y, deterministic)
    y = layer_norm('ln2', cfg.dtype)(x)
    y = Dense(cfg, (4 * cfg.width,), ('embed', 'mlp'), name='mlp_0')(y)
    y = gelu(y)
    y = Dense(cfg, (cfg.width,), ('mlp', 'embed'), name='mlp_2')(y)
    return x + drop(y, deterministic), new


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
    start: chex.Array | None = None,
    revision: Revision | None = None,
    deterministic: bool = True,
  ) -> tuple[chex.Array, Part]:
    """Runs N tokens of every row, or M of them all again.

    Args:
      ids: [B, N] int32; observation tokens and, at the last place of each
        block, actions.
      tasks: [B] int32, the games' task ids.
      cache: what came before, if anything, of as many sequences or of fewer,
        each continued by as many neighbouring rows.
      start: [B] int32, tokens before a row's first, whole blocks of padding;
        only without a cache.
      revision: which tokens to run again, and what the others are.
      deterministic: no dropout (otherwise the rng 'dropout' is used).

    Returns:
      Hidden states [B, N, D], or [M, D] of those run again; and the keys and
      values of all B x N tokens.

    Raises:
      ValueError: more tokens than the position table has places for.
    """
    cfg = self.config
    batch, tokens = ids.shape
    parts = () if cache is None else cache.parts
    slots = tokens + sum(part.valid.shape[1] for part in parts)
    if slots > cfg.max_tokens:
      raise ValueError(
        f'{slots} tokens, but the position table has {cfg.max_tokens}: shorten '
        'the context or the horizon'
      )
    positions = jnp.arange(tokens)[None]
    if cache is not None:
      before = jnp.repeat(cache.length, batch // len(cache.length))
      positions = positions + before[:, None]
    elif start is not None:
      positions = positions - start[:, None]
    x = self._embed(ids, tasks, positions)
    x = Dropout(cfg.dropout)(x.astype(cfg.dtype), deterministic)
    again = None
    if revision is not None:
      x = kv_cache.pick(x, revision.places)[None]
    valid = positions >= 0
    # Without padding, every slot holds a token.
    held = None if start is None else valid
    layer = nn.remat(Layer, static_argnums=(5,)) if cfg.remat else Layer
    keys, values = [], []
    for i in range(cfg.num_layers):
      past = [(part.keys[i], part.values[i], part.valid) for part in parts]
      if revision is not None:
        old = revision.part
        again = (old.keys[i], old.values[i], revision.places)
      x, (k, v) = layer(cfg, name=f'layer_{i}')(
        x, held, past, again, deterministic
      )
      keys.append(k)
      values.append(v)
    x = layer_norm('ln_f', cfg.dtype)(x)
    valid = jnp.broadcast_to(valid, ids.shape)
    part = Part(keys=tuple(keys), values=tuple(values), valid=valid)
    return x if revision is None else x[0], part

  def _embed(self, ids, tasks, positions):
    """Sums token, position and task embeddings, [B, N, D]."""
    cfg = self.config

    def table(name, rows, axis):
      init = _init(cfg.init_scale, axis, 'embed')
      return self.param(name, init, (rows, cfg.width))

    observations = table('observation_embedding', cfg.vocab_size, 'vocab')
    actions = table('action_embedding', cfg.num_actions, 'actions')
    places = table('position_embedding', cfg.max_tokens, 'positions')
    is_action = (positions % cfg.block_size == cfg.block_size - 1)[..., None]
    # An id is clipped to a table only where the other table is the one read.
    x = jnp.where(
      is_action,
      jnp.take(actions, ids, axis=0, mode='clip'),
      jnp.take(observations, ids, axis=0, mode='clip'),
    )
    # Padding is masked, so any position will do for it.
    x = x + jnp.take(places, positions, axis=0, mode='clip')
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
