"""What is measured on held-out batches, joined into one figure."""

from types import SimpleNamespace

import numpy as np
import pytest

from jowa_jax.methods.base import Ratio
from jowa_jax.train import sharding
from jowa_jax.train.held_out import HeldOut
from tests.methods import small


def test_means_of_batches_and_ratios_of_all_of_them():
  """A batch without rewards does not lower their recall."""
  batches = [small.segment() for _ in range(2)]
  none = np.zeros_like(batches[0].rewards)
  batches[0] = batches[0].replace(rewards=none)
  once = none.copy()
  once[0, 0] = 1
  batches[1] = batches[1].replace(rewards=once)

  def evaluate(variables, batch):
    hits = (batch.rewards != 0).sum()
    return {
      'sum': batch.rewards.sum(),
      'recall': Ratio(hits, hits),
      'nothing': Ratio(hits * 0, hits * 0),
    }

  held_out = HeldOut(
    SimpleNamespace(evaluate=evaluate),
    sharding.make_mesh({'data': -1}),
    SimpleNamespace(held_out_batches=lambda count: batches[:count]),
    2,
  )
  assert held_out.evaluate({}) == {
    'held_out/sum': pytest.approx(0.5),
    'held_out/recall': 1.0,
    'held_out/nothing': None,
  }
