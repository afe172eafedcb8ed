"""The shapes that a checkpoint of a method is restored into."""

import jax
from flax import linen as nn

from jowa_jax.data.feed import statistics
from jowa_jax.methods.base import Method, Variables


def variable_shapes(method: Method) -> Variables:
  """A method's variables as shapes, without initialising them."""
  return jax.eval_shape(
    lambda key, values: nn.meta.unbox(method.init(key, values)),
    jax.eval_shape(lambda: jax.random.key(0)),
    statistics.shapes(method.spec.statistics),
  )
