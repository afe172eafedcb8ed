"""EDT baseline, the elastic decision transformer, on frames.

`edt.py:200m` is the paper's size and `:40m` that of its MGDT-40M;
`:quickstart` is trained on two cores, `:smoke` in tests.
"""

from ml_collections import ConfigDict

from configs import common
from configs.mgdt import SIZES


def get_config(size: str = '200m') -> ConfigDict:
  """The training config of one size.

  Raises:
    ValueError: there is no such size.
  """
  config = common.decision_transformer('edt', size, SIZES)
  # A last step only tells which frame came next.
  config.data.padding = 'right'
  # Returns are told apart from the lowest to the highest, in so many classes;
  # the expectile head's unit is so many points.
  config.backbone.return_min = -20.0
  config.backbone.return_max = 100.0
  config.backbone.return_bins = 60
  config.backbone.return_scale = 1000.0
  # Weights beside the action's cross-entropy, the authors'.
  config.losses = ConfigDict(
    dict(
      expectile=0.99,
      expectile_weight=0.5,
      return_weight=0.001,
      frame_weight=1.0,
    )
  )
  return config.lock()
