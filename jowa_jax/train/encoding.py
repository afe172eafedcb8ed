"""Frames to tokens with a frozen tokenizer, on all devices of a host."""

from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

from jowa_jax.methods.base import Method, Variables
from jowa_jax.train import sharding
from jowa_jax.train.identity import weights_digest

# Frames that a device encodes at a time.
_FRAMES_PER_DEVICE = 128


def frozen_encoder(
  method: Method, variables: Variables
) -> tuple[Callable[[np.ndarray], np.ndarray], str, int]:
  """What pre-encodes a data set's frames.

  The devices of this process share the frames; other processes encode others.

  Args:
    method: one with a `tokenizer`.
    variables: those of the tokenizer among them are used, wherever they are.

  Returns:
    A function from frames [N, 84, 84] uint8 to tokens [N, K]; the identity of
    the tokenizer, which has a hash of its parameters; and N.
  """
  params = multihost_utils.process_allgather(
    {name: variables.params[name] for name in method.tokenizer.params},
    tiled=True,
  )
  mesh = sharding.make_mesh({'data': -1}, jax.local_devices())
  read = jax.device_put(
    Variables(params=params, targets={}, extras={}), sharding.replicated(mesh)
  )
  place = sharding.batch_sharding(mesh)
  run = jax.jit(method.tokenizer.encode)

  def encode(frames: np.ndarray) -> np.ndarray:
    return jax.device_get(run(read, jax.device_put(frames, place)))

  frames_per_call = _FRAMES_PER_DEVICE * mesh.shape['data']
  return encode, weights_digest(params), frames_per_call
