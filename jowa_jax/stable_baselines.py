"""How stable-baselines3, which the extra `dream` installs, is imported."""

import importlib.util
import sys


def import_library(what: str) -> None:
  """Imports stable-baselines3, and torch, before anything imports TensorFlow.

  Where torch has Triton, this is loaded as the first optimizer is made, and
  crashes the process if TensorFlow is there already. The other way around there
  is no harm.

  Args:
    what: what needs it, for the message.

  Raises:
    ValueError: it is not installed, or TensorFlow came first.
  """
  if importlib.util.find_spec('stable_baselines3') is None:
    raise ValueError(
      f'{what} is one of stable-baselines3, which is not installed: '
      "pip install '.[dream]', or stable-baselines3"
    )
  waits = 'triton' not in sys.modules and importlib.util.find_spec('triton')
  if 'tensorflow' in sys.modules and waits:
    raise ValueError(
      'TensorFlow is loaded, and Triton, which torch needs, cannot be loaded '
      'after it: call jowa_jax.stable_baselines.import_library first'
    )
  importlib.import_module('torch._dynamo')
  importlib.import_module('stable_baselines3')
