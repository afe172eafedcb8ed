"""Parameters of given shapes, without the cost of compiling initialisers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn


def like(init, seed: int = 0, std: float = 0.3):
  """Returns random parameters of the shapes that `init(key)` makes.

  Scales are 1 and convolutions keep the variance of their inputs; all else is
  normal and large enough for every layer to matter.
  """
  return fill(jax.eval_shape(init, jax.random.key(0)), seed, std)


def fill(shapes, seed: int = 0, std: float = 0.3):
  """Returns random parameters of the shapes of a tree."""
  rng = np.random.default_rng(seed)

  def leaf(path, shape):
    name = path[-1].key
    if name.endswith('scale'):
      return jnp.ones(shape.shape)
    deviation = std
    if name == 'kernel' and len(shape.shape) == 4:
      deviation = math.prod(shape.shape[:-1]) ** -0.5
    return jnp.asarray(rng.normal(0, deviation, shape.shape), jnp.float32)

  return jax.tree_util.tree_map_with_path(leaf, nn.meta.unbox(shapes))
