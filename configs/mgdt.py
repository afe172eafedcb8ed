"""MGDT baseline, the multi-game decision transformer.

`mgdt.py:40m` and `:200m` are the paper's sizes, `:quickstart` is trained on two
cores, `:smoke` in tests.
"""

from ml_collections import ConfigDict

from configs import common

# Layers, width and heads of attention.
SIZES = {
  '40m': (6, 768, 12),
  '200m': (10, 1280, 20),
  'quickstart': (3, 128, 2),
  'smoke': (2, 32, 2),
}


def get_config(size: str = '200m') -> ConfigDict:
  """The training config of one size.

  Raises:
    ValueError: there is no such size.
  """
  config = common.decision_transformer('mgdt', size, SIZES)
  config.backbone.return_min = -20
  config.backbone.return_bins = 121  # returns told apart, from there on
  # The notebook's: every cross-entropy is averaged over its classes, too.
  config.losses = ConfigDict(dict(class_mean=True))
  return config.lock()
