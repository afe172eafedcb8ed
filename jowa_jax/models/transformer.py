"""Layers of a transformer, on vectors: attention, MLPs, norms and residuals.

`run_layers` is called by a module that has embedded its tokens, whose own
parameters those of the layers become. What the callers differ in is a
`TransformerConfig` and, where it is not causal, a mask.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jowa_jax.models import attention, kv_cache
from jowa_jax.models.dropout import Dropout
from jowa_jax.models.kv_cache import Revision, Span

NORMS, GELUS = ('pre', 'post'), ('exact', 'tanh')
INITS = ('normal', 'fan_in', 'uniform')
# Of what is left of a normal variable within two standard deviations.
CUT_DEVIATION = 0.87962566103423978


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
  """Sizes and kind of a stack of layers.

  Attributes:
    num_layers: attention and an MLP each.
    width: of the residual stream.
    num_heads: attention heads.
    norm: 'pre' norms what a branch reads, and the output of the stack; 'post'
      norms the sum of a branch and what it read.
    gelu: 'exact', by erf, or 'tanh', its approximation.
    dropout: on the outputs of both branches.
    attention_dropout: on attention weights.
    heads_dropout: on the heads' outputs, before they are projected.
    fused_attention: whether whole sequences are read by the device's fused
      kernel (cuDNN's on a GPU, in half precision). It knows no dropout:
      attention_dropout must be 0.
    query_block: queries that are answered at once in causal attention.
    remat: whether layers are computed again in the backward pass, for memory.
    init: of kernels: 'normal', of standard deviation `init_scale`; 'fan_in',
      normal cut at two standard deviations, of variance init_scale / inputs;
      'uniform', within +-init_scale / sqrt(inputs), biases too. Else biases
      are 0.
    init_scale: see `init`.
    dtype: of the computation; parameters are float32.
  """

  num_layers: int
  width: int
  num_heads: int
  norm: str = 'pre'
  gelu: str = 'exact'
  dropout: float = 0.1
  attention_dropout: float = 0.0
  heads_dropout: float = 0.0
  fused_attention: bool = False
  query_block: int = 64
  remat: bool = False
  init: str = 'normal'
  init_scale: float = 0.02
  dtype: str = 'float32'

  def __post_init__(self):
    for name, choices in (('norm', NORMS), ('gelu', GELUS), ('init', INITS)):
      if getattr(self, name) not in choices:
        raise ValueError(f'{name}={getattr(self, name)!r} is not in {choices}')
    if self.width % self.num_heads:
      raise ValueError(
        f'width={self.width} is not a multiple of num_heads={self.num_heads}'
      )
    if self.fused_attention and self.attention_dropout:
      raise ValueError(
        'fused_attention=True knows no dropout: set attention_dropout='
        f'{self.attention_dropout} to 0, or leave it out'
      )

  @property
  def head_dim(self) -> int:
    return self.width // self.num_heads


def normal(scale: float, *axes: str):
  """Normal(0, scale) with logical axis names for the sharding rules."""
  return nn.with_logical_partitioning(nn.initializers.normal(scale), axes)


def _initializers(config: TransformerConfig, inputs: int):
  """Those of a layer's kernel and bias."""
  if config.init == 'normal':
    return nn.initializers.normal(config.init_scale), nn.initializers.zeros
  if config.init == 'uniform':
    scale = config.init_scale / math.sqrt(inputs)

    def uniform(key, shape, dtype=jnp.float32):
      return jax.random.uniform(key, shape, dtype, -scale, scale)

    return uniform, uniform
  deviation = math.sqrt(config.init_scale / inputs) / CUT_DEVIATION
  cut = nn.initializers.truncated_normal(deviation)
  return cut, nn.initializers.zeros


def layer_norm(name: str, dtype: str) -> nn.LayerNorm:
  return nn.LayerNorm(1e-5, dtype=dtype, use_fast_variance=False, name=name)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def contract(x, kernel, count):
  """`jnp.tensordot(x, kernel, count)`.

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
  """`jax.nn.gelu(x, approximate=False)`, x times Phi(x).

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

  config: TransformerConfig
  features: tuple[int, ...]
  axes: tuple[str, ...]
  inputs: int = 1

  @nn.compact
  def __call__(self, x):
    inputs = x.shape[-self.inputs :]

    def param(name, init, axes, shape):
      return self.param(name, nn.with_logical_partitioning(init, axes), shape)

    inits = _initializers(self.config, math.prod(inputs))
    kernel = param('kernel', inits[0], self.axes, inputs + self.features)
    bias = param('bias', inits[1], self.axes[self.inputs :], self.features)
    dtype = self.config.dtype
    x, kernel, bias = (a.astype(dtype) for a in (x, kernel, bias))
    return contract(x, kernel, self.inputs) + bias


def _revise(old, places, new):
  """Writes the vectors of places to old ones, [B, heads, N, head_dim].

  Args:
    old: [B, heads, N, head_dim].
    places: see `Revision`.
    new: [1, heads, M, head_dim]; [B, heads, 1, head_dim] of a column.
  """
  if not places.ndim:
    return lax.dynamic_update_slice_in_dim(
      old, new.astype(old.dtype), places, 2
    )
  by_token = jnp.swapaxes(old, 1, 2)
  revised = kv_cache.put(by_token, places, jnp.swapaxes(new, 1, 2)[0])
  return jnp.swapaxes(revised, 1, 2)


class Attention(nn.Module):
  """Multi-head attention, over a sequence and what came before it."""

  config: TransformerConfig

  @nn.compact
  def __call__(self, x, valid, mask, past, again, deterministic):
    """The output [B, N, D] and the tokens' (keys, values).

    Args:
      x: [B, N, D]; [1, M, D] where some are run again, [B, 1, D] of a column.
      valid: [B or 1, N] bool, which of the N slots hold tokens; None for all.
      mask: [B or 1, N, N] bool, which slots a query may read; None for those
        up to its own.
      past: (keys, values, valid) of every span that all of x may read.
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
    drop = Dropout(cfg.attention_dropout)
    drop_heads = Dropout(cfg.heads_dropout)
    axes = ('heads', 'head_dim', 'embed')

    def proj(y):
      y = drop_heads(y, deterministic)
      return Dense(cfg, (cfg.width,), axes, 2, name='proj')(y)

    alone = not past and again is None
    if cfg.fused_attention and alone and valid is None:
      y = attention.fused(q, k, v, mask)
      return proj(y), (jnp.swapaxes(k, 1, 2), jnp.swapaxes(v, 1, 2))
    q = q * cfg.head_dim**-0.5
    q, k, v = (jnp.swapaxes(a, 1, 2) for a in (q, k, v))
    if alone and mask is None:
      words, rate = drop.words(deterministic), cfg.attention_dropout
      y = attention.causal(q, k, v, valid, words, rate, cfg.query_block)
      return proj(jnp.swapaxes(y, 1, 2)), (k, v)
    column = again is not None and not again[2].ndim
    if again is not None:
      old_k, old_v, places = again
      # What is read is what was written: a loop over columns copies nothing.
      k = _revise(old_k, places, k)
      v = _revise(old_v, places, v)
      if column:
        # `valid` says what is there.
        mask = jnp.bool_(True)
      else:
        # Queries of other tokens are answered too, and not read.
        q = _revise(jnp.zeros(k.shape, q.dtype), places, q)
    if mask is None:
      slots = jnp.arange(k.shape[2])
      mask = (slots[:, None] >= slots)[None]
    if valid is not None:
      mask = mask & valid[:, None]
    spans = [(keys, values, valid[:, None]) for keys, values, valid in past]
    spans.append((k, v, mask))
    y = attention.over_spans(q, spans, lambda w: drop(w, deterministic))
    y = jnp.swapaxes(y, 1, 2)
    if again is not None and not column:
      y = kv_cache.pick(y, places)[None]
    return proj(y), (k, v)


class Layer(nn.Module):
  """Attention and an MLP, each added to what it reads."""

  config: TransformerConfig

  @nn.compact
  def __call__(self, x, valid, mask, past, again, deterministic):
    """The output and the tokens' (keys, values), see `Attention`."""
    cfg = self.config
    drop = Dropout(cfg.dropout)
    before = cfg.norm == 'pre'
    norms = layer_norm('ln1', cfg.dtype), layer_norm('ln2', cfg.dtype)
    y, new = Attention(cfg, name='attn')(
      norms[0](x) if before else x, valid, mask, past, again, deterministic
    )
    x = x + drop(y, deterministic)
    x = x if before else norms[0](x)
    y = norms[1](x) if before else x
    y = Dense(cfg, (4 * cfg.width,), ('embed', 'mlp'), name='mlp_0')(y)
    y = gelu(y) if cfg.gelu == 'exact' else jax.nn.gelu(y, approximate=True)
    y = Dense(cfg, (cfg.width,), ('mlp', 'embed'), name='mlp_2')(y)
    x = x + drop(y, deterministic)
    return x if before else norms[1](x), new


def run_layers(
  config: TransformerConfig,
  x: chex.Array,
  *,
  valid: chex.Array | None = None,
  mask: chex.Array | None = None,
  spans: Sequence[Span] = (),
  revision: Revision | None = None,
  deterministic: bool = True,
) -> tuple[chex.Array, Span]:
  """Runs embedded tokens through the layers, within a compact module.

  Their parameters are `layer_0` and so on and, of 'pre' norms, `ln_f`.

  Args:
    config: of the layers.
    x: [B, N, D], in the type they compute in; [B, 1, D] of a column.
    valid: [B or 1, N] bool, which slots hold tokens; None for all.
    mask: [B or 1, N, N] bool, which of the N slots a query may read; None for
      those up to its own, which is computed in blocks.
    spans: keys and values of what came before, all of which every query may
      read, of as many sequences or of fewer, see `kv_cache`.
    revision: which tokens to run, and what the others are.
    deterministic: no dropout (otherwise the rng 'dropout' is used).

  Returns:
    Hidden states [B, N, D], or [M, D] of those run again, or [B, 1, D] of a
    column; and the keys and values of all B x N tokens.

  Raises:
    ValueError: `valid` or `mask` beside a column.
  """
  rows, tokens = x.shape[:2]
  column = revision is not None and revision.is_column
  if column:
    if valid is not None or mask is not None:
      raise ValueError('A column reads what is before it, of valid slots alone')
    tokens = revision.span.valid.shape[1]
    valid = (jnp.arange(tokens) <= revision.places)[None]
  elif revision is not None:
    x = kv_cache.pick(x, revision.places)[None]
  layer = nn.remat(Layer, static_argnums=(6,)) if config.remat else Layer
  keys, values, again = [], [], None
  for i in range(config.num_layers):
    past = [(span.keys[i], span.values[i], span.valid) for span in spans]
    if revision is not None:
      old = revision.span
      again = (old.keys[i], old.values[i], revision.places)
    x, (k, v) = layer(config, name=f'layer_{i}')(
      x, valid, mask, past, again, deterministic
    )
    keys.append(k)
    values.append(v)
  if config.norm == 'pre':
    x = layer_norm('ln_f', config.dtype)(x)
  held = jnp.bool_(True) if valid is None else valid
  held = jnp.broadcast_to(held, (rows, tokens))
  span = Span(keys=tuple(keys), values=tuple(values), valid=held)
  return x if revision is None or column else x[0], span
