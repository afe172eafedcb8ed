"""What the tests of training share."""

import pytest

from jowa_jax.data.feed.training import DataConfig, TrainingData
from jowa_jax.methods.base import BatchSpec
from tests.train import helpers


@pytest.fixture(scope='session')
def real_batch(atari_data_dir):
  """Returns a function from segment length and batch size to real play."""

  def make(length, batch_size=4):
    config = DataConfig(str(atari_data_dir), helpers.GAMES)
    data = TrainingData(config, BatchSpec(length), batch_size, seed=0)
    return next(data.batches(0, 1, put=lambda batch: batch))

  return make
