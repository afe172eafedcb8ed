"""What tells weights and runs apart, wherever their files lie."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jowa_jax.methods.factory import make_method
from jowa_jax.methods.older_runs import recorded_sections
from jowa_jax.train.settings import complete

# What a run may be gone on with otherwise and still be itself: where files
# lie, what is logged, saved and measured on the way, and how its work is
# divided. All else of a config tells runs apart.
_NO_MATTER = {
  'mesh': ('axes', 'rules'),
  'data': ('directory', 'token_cache', 'prefetch'),
  'run': (
    *('log_every', 'save_every', 'keep_checkpoints', 'keep_every'),
    *('best_metric', 'best_mode', 'evaluate_every', 'evaluate_batches'),
    *('play_every', 'play_episodes', 'play_max_frames', 'accumulate'),
  ),
}


def weights_digest(params: Any) -> str:
  """A hash of arrays, in the order of their tree."""
  digest = hashlib.blake2b(digest_size=8)
  for leaf in jax.tree.leaves(params):
    digest.update(np.asarray(leaf).tobytes())
  return digest.hexdigest()


def run_digest(config: Mapping[str, Any]) -> str:
  """A hash of what stays the same at all of a training run's steps.

  That is all of its config but what `_NO_MATTER` names; stages may have been
  made longer since, and files moved. (Another learning rate that is accepted
  on the way makes another run of it.) It has two halves, with a '-' between.

  The second is of every field that is not at its default. So a field that
  comes later changes no digest where its default does what was done without
  it, and neither do configs that were saved before there was the field. (A
  default that changes would change digests: a test holds one.)

  The first is all that was recorded before there was a second. It knows less,
  such as nothing of `returns`, and is kept so that what was recorded then is
  found to be of the same run, see `eval.records.by_run`; evaluations that were
  begun then are gone on with, as their weights are compared and not their run.
  A field that comes to one of its sections is to be named in
  `methods.older_runs`.
  """
  config = json.loads(json.dumps(config))
  return f'{_hash(_first(config))}-{_hash(_second(config))}'


def _hash(kept: Mapping[str, Any]) -> str:
  text = json.dumps(kept, sort_keys=True)
  return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _second(config: dict[str, Any]) -> dict[str, Any]:
  """The fields that tell runs apart and are not at their defaults."""
  stages = {
    name: {key: value for key, value in stage.items() if key != 'steps'}
    if isinstance(stage, Mapping)
    else stage
    for name, stage in config.get('stages', {}).items()
  }
  config = {**config, 'stages': stages}
  for name, fields in _NO_MATTER.items():
    section = config.get(name, {})
    config[name] = {k: v for k, v in section.items() if k not in fields}
  # Of files, whether there is one.
  for path in ('init_from.checkpoints', *make_method(config).files):
    name, field = path.split('.')
    section = config.get(name, {})
    if section.get(field):
      config[name] = {**section, field: True}
  optimizers = {
    name: {key: {} for key, part in stage.items() if isinstance(part, Mapping)}
    for name, stage in stages.items()
    if isinstance(stage, Mapping)
  }
  defaults = complete({'method': config['method'], 'stages': optimizers})
  del defaults['method']
  return _changed(config, defaults)


def _changed(section: Mapping[str, Any], defaults: Mapping[str, Any]):
  """A section without its fields that are at their defaults."""
  kept = {}
  for name, value in section.items():
    if isinstance(value, Mapping):
      if inner := _changed(value, defaults.get(name, {})):
        kept[name] = inner
    elif name not in defaults or value != defaults[name]:
      kept[name] = value
  return kept


def _first(config: dict[str, Any]) -> dict[str, Any]:
  """The fields that were taken to tell runs apart before."""
  kept = recorded_sections(config)
  kept |= {'games': config['data']['games'], 'seed': config['run']['seed']}
  drawn = ('quality', 'transitions', 'runs', 'checkpoints')
  kept |= {name: config['data'].get(name) for name in drawn}
  begun = config.get('init_from', {})
  kept['init_from'] = {**begun, 'checkpoints': bool(begun.get('checkpoints'))}
  return kept
