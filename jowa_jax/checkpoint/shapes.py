"""The shapes that a checkpoint of a method is restored into."""

import jax
from flax import linen as nn

from jowa_jax.data.feed import statistics
from jowa_jax.methods.base import Method, Variables


def boxed_shapes(method: Method) -> Variables:
  """A method's variables as shapes, boxed with their logical axis names."""
  return jax.eval_shape(
    method.init,
    jax.eval_shape(lambda: jax.random.key(0)),
    statistics.shapes(method.spec.statistics),
  )


def variable_shapes(method: Method) -> Variables:
  """A method's variables as shapes, without initialising them."""
  return nn.meta.unbox(boxed_shapes(method))
