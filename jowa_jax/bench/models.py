"""Models of the published sizes to time, and how they are timed."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jowa_jax.methods import tokenizer as tokenizer_lib
from jowa_jax.methods.base import Variables
from jowa_jax.models import world_action
from jowa_jax.models.heads import HeadSizes
from jowa_jax.models.transformer import BackboneConfig
from jowa_jax.models.vqvae import VQVAEConfig
from jowa_jax.models.world_action import WorldActionConfig
from jowa_jax.sizes import SIZES


def configs(size: str, dtype: str) -> tuple[VQVAEConfig, WorldActionConfig]:
  """Returns the published sizes.

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
  )
  heads = HeadSizes(num_heads=sizes['num_q'], width=sizes['q_width'])
  return tokenizer, WorldActionConfig(backbone=backbone, heads=heads)


def random_variables(
  tokenizer: VQVAEConfig, model: WorldActionConfig
) -> Variables:
  """Returns normal weights: compiling the real initialisation takes long."""

  def init(key):
    params = world_action.init(model, key)
    return {**params, 'tokenizer': tokenizer_lib.init(tokenizer, key)}

  shapes = nn.meta.unbox(jax.eval_shape(init, jax.random.key(0)))
  rng = np.random.default_rng(0)

  def fill(path, leaf):
    if jax.tree_util.keystr(path).endswith("scale']"):
      return jnp.ones(leaf.shape, leaf.dtype)
    values = rng.standard_normal(leaf.shape, np.float32) * 0.02
    return jnp.asarray(values)

  params = jax.tree_util.tree_map_with_path(fill, shapes)
  return Variables(params=params, targets={}, extras={})


def seconds_per_call(fn: Callable[[], Any], seconds: float) -> float:
  """Returns the mean time of a call, the first two aside."""
  for _ in range(2):
    jax.block_until_ready(fn())
  calls, start = 0, time.perf_counter()
  while not calls or time.perf_counter() - start < seconds:
    jax.block_until_ready(fn())
    calls += 1
  return (time.perf_counter() - start) / calls


def peak_bytes(compiled: jax.stages.Compiled) -> int:
  """Returns the device memory of a call: arguments, results and the rest."""
  memory = compiled.memory_analysis()
  return int(
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    + memory.temp_size_in_bytes
    - memory.alias_size_in_bytes
  )
