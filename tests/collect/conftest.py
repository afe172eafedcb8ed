"""Recorded play of two games."""

import os
import types

import pytest

from jowa_jax.collect.collect import collect
from tests.collect.recorded import STEPS


@pytest.fixture(scope='session')
def collected(tmp_path_factory):
  """Two checkpoints of Carnival and of Assault, as data sets and recorded."""
  folder = tmp_path_factory.mktemp('recorded')
  stats = collect(
    folder / 'data',
    'Carnival,Assault',
    (1.0, 1.0),
    STEPS,
    progress=False,
    record=folder / 'play.npz',
  )
  assert sorted(os.listdir(folder)) == ['data', 'play.npz']
  return types.SimpleNamespace(
    data=folder / 'data', path=str(folder / 'play.npz'), stats=stats
  )
