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
# The same where only patches that were never seen before are encoded.
_NEW_FRAMES_PER_DEVICE = 16
# Patches to remember, some 300 bytes each.
_REMEMBERED = 500_000


def frozen_encoder(
  method: Method, variables: Variables
) -> tuple[Callable[[np.ndarray], np.ndarray], str, int]:
  """Returns what pre-encodes a data set's frames.

  The devices of this process share the frames; other processes encode others.

  Args:
    method: one with an `encoder`.
    variables: those of the tokenizer among them are used, wherever they are.

  Returns:
    A function from frames [N, 84, 84] uint8 to tokens [N, K]; the identity of
    the tokenizer, which has a hash of its parameters; and N.
  """
  params = multihost_utils.process_allgather(
    {name: variables.params[name] for name in method.encoder.params},
    tiled=True,
  )
  mesh = sharding.make_mesh({'data': -1}, jax.local_devices())
  read = jax.device_put(
    Variables(params=params, targets={}, extras={}), sharding.replicated(mesh)
  )
  place = sharding.batch_sharding(mesh)
  run = jax.jit(method.encoder.encode)

  def encode(frames: np.ndarray) -> np.ndarray:
    return jax.device_get(run(read, jax.device_put(frames, place)))

  devices, identity = mesh.shape['data'], weights_digest(params)
  if method.encoder.patches:
    # The same weights make other tokens of whole frames.
    identity += '-patches'
    new = _NEW_FRAMES_PER_DEVICE * devices
    encode = _PatchMemory(encode, method.encoder.patches, new)
  return encode, identity, _FRAMES_PER_DEVICE * devices


class _PatchMemory:
  """Encodes every patch once, where a token is made of its patch alone.

  Most of a game's patches are seen again and again. Those that are new are put
  side by side, as frames, and encoded together.
  """

  def __init__(self, encode, grid: int, size: int):
    """Remembers nothing yet.

    Args:
      encode: frames [size, H, W] uint8 -> tokens [size, K].
      grid: height and width of the token grid.
      size: frames per call of it.
    """
    self._encode, self._grid, self._size = encode, grid, size
    self._tokens: dict[bytes, int] = {}

  def __call__(self, frames: np.ndarray) -> np.ndarray:
    """Returns the tokens [N, K] int32 of frames [N, H, W] uint8."""
    count, side, _ = frames.shape
    grid, edge = self._grid, side // self._grid
    patches = frames.reshape(count, grid, edge, grid, edge).swapaxes(2, 3)
    keys = patches.reshape(-1, edge * edge).view(f'V{edge * edge}')
    keys = keys.reshape(-1).tolist()
    if len(self._tokens) > _REMEMBERED:
      self._tokens.clear()
    new = [key for key in dict.fromkeys(keys) if key not in self._tokens]
    per_call = self._size * grid * grid
    for start in range(0, len(new), per_call):
      some = new[start : start + per_call]
      pixels = np.zeros((per_call, edge, edge), np.uint8)
      pixels[: len(some)] = np.frombuffer(b''.join(some), np.uint8).reshape(
        -1, edge, edge
      )
      tiles = pixels.reshape(self._size, grid, grid, edge, edge).swapaxes(2, 3)
      tokens = self._encode(tiles.reshape(self._size, side, side))
      self._tokens.update(zip(some, tokens.reshape(-1).tolist(), strict=False))
    tokens = np.fromiter(map(self._tokens.__getitem__, keys), np.int32)
    return tokens.reshape(count, grid * grid)
