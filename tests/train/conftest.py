"""What the tests of training share."""

import json
import types

import pytest

from jowa_jax.data.training import DataConfig, TrainingData
from jowa_jax.train.run import Run
from tests.train import helpers


@pytest.fixture(scope='session')
def real_batch(atari_data_dir):
  """Returns a function from segment length and batch size to real play."""

  def make(length, batch_size=4):
    config = DataConfig(str(atari_data_dir), helpers.GAMES)
    data = TrainingData(config, length, batch_size, seed=0)
    return next(data.batches(0, 1, put=lambda batch: batch))

  return make


@pytest.fixture(scope='session')
def finished(atari_data_dir, tmp_path_factory, compilation_cache):
  """A run of three and four steps that nothing interrupted."""
  workdir = tmp_path_factory.mktemp('finished') / 'run'
  config = helpers.tiny_config(atari_data_dir)
  steps = []
  with helpers.quick_compilation(compilation_cache):
    variables = Run(config, workdir).train(progress=False, on_step=steps.append)
  return types.SimpleNamespace(
    config=config,
    workdir=workdir,
    variables=helpers.flat(variables),
    steps=steps,
    records=read_metrics(workdir),
  )


def read_metrics(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]
