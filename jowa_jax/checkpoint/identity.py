"""What tells weights and runs apart, wherever their files lie."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

# Fields that came later, and the values that change nothing: with these a run
# is what it was without the field.
_LATER = {
  'tokenizer': {'encoder_field': 'frame'},
  'losses': {'backup': 'max', 'hide_actions': 0.0},
}


def weights_digest(params: Any) -> str:
  """Returns a hash of arrays, in the order of their tree."""
  digest = hashlib.blake2b(digest_size=8)
  for leaf in jax.tree.leaves(params):
    digest.update(np.asarray(leaf).tobytes())
  return digest.hexdigest()


def run_digest(config: Mapping[str, Any]) -> str:
  """Returns a hash of what stays the same at all of a training run's steps.

  That is the method, its sizes, its games, what of them it saw, what it began
  from and its seed; stages may have been made longer since, and directories
  moved.
  """
  kept = {
    name: section
    for name, section in config.items()
    if name
    in (
      *('method', 'tokenizer', 'backbone', 'heads', 'losses'),
      *('adaptation', 'imagination'),
    )
  }
  for name, fields in _LATER.items():
    if name in kept:
      kept[name] = {
        key: value
        for key, value in kept[name].items()
        if key not in fields or value != fields[key]
      }
  kept |= {'games': config['data']['games'], 'seed': config['run']['seed']}
  drawn = ('quality', 'transitions', 'runs', 'checkpoints')
  kept |= {name: config['data'].get(name) for name in drawn}
  begun = dict(config.get('init_from', {}))
  kept['init_from'] = {**begun, 'checkpoints': bool(begun.get('checkpoints'))}
  text = json.dumps(kept, sort_keys=True)
  return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
