"""Runs that learn from their own dreams."""

import numpy as np
import pytest

from jowa_jax.configuration import ConfigError
from jowa_jax.train.run import Run
from tests.train import helpers
from tests.train.helpers import read_metrics


def config_of(data_dir, **changes):
  return helpers.tiny_config(
    data_dir,
    steps=(0, 4),
    imagination__policy='planning',
    imagination__start_step=2,
    imagination__horizon=1,
    **changes,
  )


@pytest.mark.slow
def test_an_interrupted_run_dreams_the_same(
  atari_data_dir, tmp_path, compilation_cache
):
  config, found = config_of(atari_data_dir), {}

  def stop(step):
    if step == 3:
      raise KeyboardInterrupt

  with helpers.quick_compilation(compilation_cache):
    for name in ('whole', 'stopped'):
      run = Run(config, tmp_path / name)
      if name == 'stopped':
        with pytest.raises(KeyboardInterrupt):
          run.train(progress=False, on_step=stop)
      found[name] = helpers.flat(run.train(progress=False))
  for path, value in found['whole'].items():
    np.testing.assert_array_equal(found['stopped'][path], value, err_msg=path)
  records = read_metrics(tmp_path / 'stopped')
  shares = [record['imagination/segments'] for record in records]
  # Of the half that goes on in dreams, all but what ends in padding.
  assert shares[:2] == [0, 0] and 0 < min(shares[2:]) <= max(shares[2:]) <= 1
  assert all(0 <= r['imagination/passes'] <= 4 for r in records)


def test_half_of_every_part_must_be_whole(atari_data_dir, tmp_path):
  config = config_of(atari_data_dir, run__batch_size=6, run__accumulate=2)
  with pytest.raises(
    ConfigError, match='run.batch_size=6 does not divide by 2'
  ):
    Run(config, tmp_path)
