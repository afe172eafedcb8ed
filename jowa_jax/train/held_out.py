"""How good the model is on segments that it is not trained on."""

import jax
from jax.sharding import Mesh

from jowa_jax.data.training import TrainingData
from jowa_jax.methods.base import Method, Variables
from jowa_jax.train import sharding


class HeldOut:
  """Held-out batches, which stay where they are computed on."""

  def __init__(
    self, method: Method, mesh: Mesh, data: TrainingData, count: int
  ):
    """Reads and places `count` batches; they never change."""
    place = sharding.replicated(mesh)
    self._batches = [
      jax.device_put(batch, place) for batch in data.held_out_batches(count)
    ]
    self._evaluate = jax.jit(method.evaluate)

  def evaluate(self, variables: Variables) -> dict[str, float]:
    """Returns mean metrics of the batches, as 'held_out/' and their name."""
    records = jax.device_get(
      [self._evaluate(variables, batch) for batch in self._batches]
    )
    return {
      f'held_out/{name}': float(sum(r[name] for r in records) / len(records))
      for name in (records[0] if records else ())
    }
