"""TensorFlow, TFDS and RLDS, imported in the one way that works here.

TensorFlow never sees an accelerator: JAX owns them. `import rlds` imports
`reverb` for a function that nothing here calls (its pattern datasets), and
the dm-reverb wheel does not load beside current TensorFlow. An empty module
takes its place, unless a dm-reverb that works is installed.
"""

import importlib
import os
import sys
import types

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import tensorflow as tf  # noqa: E402
import tensorflow_datasets as tfds  # noqa: E402

tf.config.set_visible_devices([], 'GPU')


def _placeholder_reverb() -> types.ModuleType:
  """A module with the names that rlds's annotations look up."""
  reverb = types.ModuleType('reverb')
  writer = types.ModuleType('reverb.structured_writer')
  for name in ('Config', 'ReferenceStep', 'Pattern', 'Condition'):
    setattr(writer, name, object)
  reverb.structured_writer = writer
  return reverb


try:
  importlib.import_module('reverb')
# A wheel made for another TensorFlow fails in its dynamic library.
except (ImportError, tf.errors.NotFoundError):
  sys.modules['reverb'] = _placeholder_reverb()

import rlds  # noqa: E402

__all__ = ['rlds', 'tf', 'tfds']
