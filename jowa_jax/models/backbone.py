"""JOWA's backbone: token, position and task embeddings, and a causal GPT.

JOWA section 4.1.1 and Table 10. A block is `tokens_per_frame` observation
tokens followed by one action token.
"""

import dataclasses

import chex
import flax.linen as nn
import jax.numpy as jnp

from jowa_jax.models.dropout import Dropout
from jowa_jax.models.kv_cache import KVCache, Revision, Span
from jowa_jax.models.transformer import (
  TransformerConfig,
  normal,
  run_layers,
)


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
    self.trunk  # noqa: B018, checks its fields

  @property
  def block_size(self) -> int:
    return self.tokens_per_frame + 1

  @property
  def max_tokens(self) -> int:
    return self.max_blocks * self.block_size

  @property
  def trunk(self) -> TransformerConfig:
    return TransformerConfig(
      num_layers=self.num_layers,
      width=self.width,
      num_heads=self.num_heads,
      dropout=self.dropout,
      attention_dropout=self.attention_dropout,
      fused_attention=self.fused_attention,
      query_block=2 * self.block_size,
      remat=self.remat,
      init_scale=self.init_scale,
      dtype=self.dtype,
    )


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
  ) -> tuple[chex.Array, Span]:
    """Runs N tokens of every row, M of them all again, or one column.

    Args:
      ids: [B, N] int32; observation tokens and, at the last place of each
        block, actions. [B, 1] of a column.
      tasks: [B] int32, the games' task ids.
      cache: what came before, if anything, of as many sequences or of fewer,
        each continued by as many neighbouring rows.
      start: [B] int32, tokens before a row's first, whole blocks of padding;
        only without a cache.
      revision: which tokens to run, and what the others are.
      deterministic: no dropout (otherwise the rng 'dropout' is used).

    Returns:
      Hidden states [B, N, D], or [M, D] of those run again, or [B, 1, D] of a
      column; and the keys and values of all B x N tokens.

    Raises:
      ValueError: more tokens than the position table has places for; `start`
        beside a column.
    """
    cfg = self.config
    batch, tokens = ids.shape
    spans = () if cache is None else cache.spans
    positions = jnp.arange(tokens)[None]
    if revision is not None and revision.is_column:
      tokens = revision.span.valid.shape[1]
      positions = positions + revision.places
    slots = tokens + sum(span.valid.shape[1] for span in spans)
    if slots > cfg.max_tokens:
      raise ValueError(
        f'{slots} tokens, but the position table has {cfg.max_tokens}: shorten '
        'the context or the horizon'
      )
    if cache is not None:
      before = jnp.repeat(cache.length, batch // len(cache.length))
      positions = positions + before[:, None]
    elif start is not None:
      positions = positions - start[:, None]
    x = self._embed(ids, tasks, positions)
    x = Dropout(cfg.dropout)(x.astype(cfg.dtype), deterministic)
    # Without padding, every slot holds a token.
    valid = None if start is None else positions >= 0
    return run_layers(
      cfg.trunk,
      x,
      valid=valid,
      spans=spans,
      revision=revision,
      deterministic=deterministic,
    )

  def _embed(self, ids, tasks, positions):
    """Sums token, position and task embeddings, [B, N, D]."""
    cfg = self.config

    def table(name, rows, axis):
      init = normal(cfg.init_scale, axis, 'embed')
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
