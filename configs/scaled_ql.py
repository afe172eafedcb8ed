"""Scaled-QL baseline: Q-learning of many games from stacks of frames.

`scaled_ql.py:resnet101` is what the paper compares with, `:resnet50` and
`:resnet34` are its smaller encoders; `:quickstart` is trained on two cores,
`:smoke` in tests.
"""

from ml_collections import ConfigDict

from configs import common

# Blocks of each stage, whether they are bottlenecks, and the first one's width.
SIZES = {
  'resnet34': ((3, 4, 6, 3), False, 64),
  'resnet50': ((3, 4, 6, 3), True, 64),
  'resnet101': ((3, 4, 23, 3), True, 64),
  'quickstart': ((1, 1, 1), False, 16),
  'smoke': ((1, 1), False, 4),
}


def get_config(size: str = 'resnet101') -> ConfigDict:
  """The training config of one size.

  Raises:
    ValueError: there is no such size.
  """
  if size not in SIZES:
    raise ValueError(f'Unknown size {size!r}; there are {sorted(SIZES)}')
  smoke, quickstart = size == 'smoke', size == 'quickstart'
  config = common.trainer('scaled_ql', smoke)
  config.data.stride = 1
  config.data.balance_games = True
  config.encoder = _encoder(size)
  config.q_network = ConfigDict(
    dict(
      mlp_width={'smoke': 16, 'quickstart': 256}.get(size, 1024),
      mlp_layers=3,
      normalize_features=True,
      shared_head=False,  # one for all games, not one for each
      num_actions=18,
      num_atoms=51,  # 1 is a scalar, by squared error
      v_min=-20.0,
      v_max=20.0,
    )
  )
  config.losses = ConfigDict(
    dict(
      length=1,  # steps of a segment with a loss
      n=3,  # steps of a return
      gamma=0.99,
      cql_weight=0.05,
      double=False,  # the trained network chooses the target's action
      target_period={'smoke': 4, 'quickstart': 200}.get(size, 2000),
      freeze_encoder=False,
    )
  )
  # None in pretraining; that of fine-tuning is ours, as the paper says none.
  config.augmentation = ConfigDict(dict(crop=0, rotation=0.0))
  steps = {'smoke': 10, 'quickstart': 2500}.get(size, 1_750_000)
  if quickstart:
    common.of_quickstart(config, batch_size=64)
  rate = common.optimizer(1e-3 if smoke or quickstart else 2e-4, 0.0)
  rate.kind = 'adam'
  config.stages = common.stages(q=common.stage(steps, q=rate))
  return config.lock()


def _encoder(size: str) -> ConfigDict:
  blocks, bottleneck, width = SIZES[size]
  small = size in ('smoke', 'quickstart')
  return ConfigDict(
    dict(
      stage_sizes=blocks,
      # Of each stage's first block.
      stage_strides=(1, *(2,) * (len(blocks) - 1)),
      bottleneck=bottleneck,
      width=width,
      stack=4,  # frames
      norm_groups=4,
      pooling='embeddings',  # learned ones of places, or their 'mean'
      spatial_features=8,  # embeddings of every channel
      dtype='float32' if small else 'bfloat16',
    )
  )
