"""How good the model is on segments that it is not trained on."""

import jax
from jax.sharding import Mesh

from jowa_jax.data.feed.feed import Feed
from jowa_jax.methods.base import Method, Ratio, Variables
from jowa_jax.train import sharding
from jowa_jax.types import Segment


class HeldOut:
  """Held-out batches, which stay where they are computed on."""

  def __init__(self, method: Method, mesh: Mesh, data: Feed, count: int):
    """Reads and places `count` batches; they never change.

    Every process reads them whole and keeps the rows of its devices. A batch
    that the mesh does not divide, of fewer segments than others, is replicated.
    """
    self._batches = [
      self._place(batch, mesh) for batch in data.held_out_batches(count)
    ]
    self._evaluate = jax.jit(
      method.evaluate, out_shardings=sharding.replicated(mesh)
    )

  @staticmethod
  def _place(batch: Segment, mesh: Mesh) -> Segment:
    divides = len(batch.task) % sharding.batch_shares(mesh) == 0
    place = (sharding.batch_sharding if divides else sharding.replicated)(mesh)
    return jax.device_put(batch, place)

  def evaluate(self, variables: Variables) -> dict[str, float | None]:
    """Mean metrics of the batches, as 'held_out/' and their name.

    A ratio is that of all batches together; None where there is nothing in any:
    a share of nothing is not 0.
    """
    records = jax.device_get(
      [self._evaluate(variables, batch) for batch in self._batches]
    )
    return {
      f'held_out/{name}': _mean([record[name] for record in records])
      for name in (records[0] if records else ())
    }


def _mean(values: list) -> float | None:
  if isinstance(values[0], Ratio):
    part, whole = (float(sum(column)) for column in zip(*values, strict=True))
    return part / whole if whole else None
  return float(sum(values) / len(values))
