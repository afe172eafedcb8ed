"""Models of the published sizes to time, and how they are timed."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jowa_jax.checkpoint.shapes import boxed_shapes
from jowa_jax.methods.base import Method, Variables
from jowa_jax.models.backbone import BackboneConfig
from jowa_jax.models.heads import HeadSizes
from jowa_jax.models.vqvae import VQVAEConfig
from jowa_jax.models.world_action import WorldActionConfig
from jowa_jax.published_sizes import SIZES


def configs(
  size: str, dtype: str, **changes: Any
) -> tuple[VQVAEConfig, WorldActionConfig]:
  """The published sizes.

  Args:
    size: a name in `SIZES`.
    dtype: of the computation.
    **changes: of the backbone's other fields.

  Raises:
    ValueError: no such size.
  """
  if size not in SIZES:
    raise ValueError(f'Unknown size {size!r}; there are {sorted(SIZES)}')
  sizes = SIZES[size]
  tokenizer = VQVAEConfig(dtype=dtype)
  if size == 'smoke':
    small = dict(channels=8, res_blocks=1, latent_channels=16)
    small |= dict(vocab_size=32, embedding_dim=16)
    tokenizer = dataclasses.replace(tokenizer, **small)
  backbone = BackboneConfig(
    num_layers=sizes['layers'],
    width=sizes['width'],
    num_heads=sizes['heads'],
    vocab_size=tokenizer.vocab_size,
    dtype=dtype,
    **changes,
  )
  heads = HeadSizes(num_heads=sizes['num_q'], width=sizes['q_width'])
  return tokenizer, WorldActionConfig(backbone=backbone, heads=heads)


def random_variables_of(method: Method) -> Variables:
  """All variables of a method, see `random_like`."""
  return random_like(boxed_shapes(method))


def random_like(boxed: Any) -> Any:
  """Normal weights: compiling the real initialisation takes long."""
  shapes = nn.meta.unbox(boxed)
  rng = np.random.default_rng(0)

  def fill(path, leaf):
    if jax.tree_util.keystr(path).endswith("scale']"):
      return jnp.ones(leaf.shape, leaf.dtype)
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
      return jnp.zeros(leaf.shape, leaf.dtype)
    values = rng.standard_normal(leaf.shape, np.float32) * 0.02
    return jnp.asarray(values)

  return jax.tree_util.tree_map_with_path(fill, shapes)


def seconds_per_call(fn: Callable[[], Any], seconds: float) -> float:
  """The mean time of a call, the first two aside."""
  for _ in range(2):
    jax.block_until_ready(fn())
  calls, start = 0, time.perf_counter()
  while not calls or time.perf_counter() - start < seconds:
    jax.block_until_ready(fn())
    calls += 1
  return (time.perf_counter() - start) / calls


def peak_bytes(compiled: jax.stages.Compiled) -> int:
  """The device memory of a call: arguments, results and the rest."""
  memory = compiled.memory_analysis()
  return int(
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    + memory.temp_size_in_bytes
    - memory.alias_size_in_bytes
  )


def table(
  heads: Sequence[str],
  columns: Sequence[tuple[str, str, int]],
  records: Sequence[Mapping[str, Any]],
) -> str:
  """Records as lines of text under a head.

  Args:
    heads: what the columns are called.
    columns: field, format and width of each.
    records: a field that is missing or None shows as a dash.
  """
  lines = [
    ' '.join(
      head.rjust(width)
      for head, (_, _, width) in zip(heads, columns, strict=True)
    )
  ]
  for record in records:
    values = [(record.get(name), form, width) for name, form, width in columns]
    lines.append(
      ' '.join(
        ('-' if value is None else form.format(value)).rjust(width)
        for value, form, width in values
      )
    )
  return '\n'.join(lines)
