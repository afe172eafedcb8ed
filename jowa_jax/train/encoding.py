"""Frames to tokens with a frozen tokenizer, on all devices."""

import hashlib
from collections.abc import Callable

import jax
import numpy as np

from jowa_jax.methods.base import Method, Variables
from jowa_jax.train import sharding

# Frames that a device encodes at a time.
_FRAMES_PER_DEVICE = 128


def frozen_encoder(
  method: Method, variables: Variables, mesh: jax.sharding.Mesh
) -> tuple[Callable[[np.ndarray], np.ndarray], str, int]:
  """Returns what pre-encodes a data set's frames.

  Args:
    method: one with an `encoder`.
    variables: those of the tokenizer among them are used.
    mesh: its data axis divides the frames.

  Returns:
    A function from frames [N, 84, 84] uint8 to tokens [N, K]; the identity of
    the tokenizer, a hash of its parameters; and N.
  """
  place = sharding.batch_sharding(mesh)
  run = jax.jit(method.encoder.encode)

  def encode(frames: np.ndarray) -> np.ndarray:
    return jax.device_get(run(variables, jax.device_put(frames, place)))

  digest = hashlib.blake2b(digest_size=8)
  read = {name: variables.params[name] for name in method.encoder.params}
  for leaf in jax.tree.leaves(jax.device_get(read)):
    digest.update(leaf.tobytes())
  return encode, digest.hexdigest(), _FRAMES_PER_DEVICE * mesh.shape['data']
