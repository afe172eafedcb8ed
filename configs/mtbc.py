"""MTBC baseline: `mtbc.py:40m`, `:70m`, `:150m` backbones, and `:smoke`."""

from ml_collections import ConfigDict

from configs import common


def get_config(size: str = '150m') -> ConfigDict:
  """The training config on the backbone of one size of JOWA."""
  config = common.base(size, 'mtbc')
  # Of a batch, whose past actions are random; not the paper's.
  config.losses = ConfigDict(dict(hide_actions=0.0))
  steps = (10, 10) if size == 'smoke' else (250_000, 1_500_000)
  config.stages = common.stages(
    stage1=common.stage(
      steps[0],
      tokenizer=common.optimizer(1e-4, 0.0),
      policy=common.optimizer(1e-4, 0.01),
    ),
    stage2=common.stage(steps[1], policy=common.optimizer(5e-5, 0.01)),
  )
  return config.lock()
