"""Small configs and states for the tests of training."""

import contextlib
import functools
import json
import os
import pathlib
import socket
import tarfile

import jax
import numpy as np
from flax import linen as nn
from jax.experimental.compilation_cache import compilation_cache

from configs import edt, ficc, jowa, mgdt, mtbc, scaled_ql
from jowa_jax.checkpoint.shapes import boxed_shapes
from jowa_jax.methods import factory
from jowa_jax.train import sharding, state
from jowa_jax.train.settings import parse_stages

OLDER = pathlib.Path(__file__).parents[1] / 'data' / 'checkpoints'
GAMES = ('Assault', 'Carnival')
CONFIGS = {
  'jowa': jowa,
  'mtbc': mtbc,
  'mgdt': mgdt,
  'edt': edt,
  'ficc': ficc,
  'scaled_ql': scaled_ql,
}
ROOT = pathlib.Path(__file__).parents[2]


@contextlib.contextmanager
def quick_compilation(cache: str):
  """Compiles with little optimisation, and each program once per `cache`."""
  options = {
    'jax_disable_most_optimizations': True,
    'jax_compilation_cache_dir': cache,
    'jax_persistent_cache_min_compile_time_secs': 0.0,
    'jax_persistent_cache_min_entry_size_bytes': -1,
  }
  before = {name: jax.config.values[name] for name in options}
  _configure(options)
  try:
    yield
  finally:
    _configure(before)


def script_env(devices: int = 1) -> dict[str, str]:
  """The environment of a script: quickly compiled, on so many CPU devices."""
  count = f'--xla_force_host_platform_device_count={devices}'
  return {
    **os.environ,
    'JAX_PLATFORMS': 'cpu',
    'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
    'XLA_FLAGS': f'{os.environ.get("XLA_FLAGS", "")} {count}',
    'PYTHONPATH': str(ROOT),
  }


def _configure(options):
  for name, value in options.items():
    jax.config.update(name, value)
  # The cache's directory is otherwise looked at once in a process.
  compilation_cache.reset_cache()


def change(config, **changes):
  """Sets fields by dotted name, dots written as two underscores."""
  for name, value in changes.items():
    *sections, field = name.split('__')
    section = config
    for key in sections:
      section = section[key]
    section[field] = value


def smoke_config(data_dir, method='jowa', **changes) -> dict:
  """Returns a `smoke` config on the data of the tests."""
  config = CONFIGS[method].get_config('smoke').copy_and_resolve_references()
  with config.unlocked():
    change(config, data__directory=str(data_dir), data__games=GAMES)
    change(config, run__batch_size=4, **changes)
  return config.to_dict()


def tiny_config(data_dir, method='jowa', steps=(3, 4), **changes) -> dict:
  """Returns a config that is smaller than `smoke`, with all options on.

  Four tokens a frame, two blocks a segment; codes are restarted and target
  heads are copied within the few steps of each of the two stages.
  """
  config = smoke_config(data_dir, method)
  change(
    config,
    tokenizer__downsample=(7, 6),
    tokenizer__latent_channels=8,
    tokenizer__res_blocks=0,
    backbone__tokens_per_frame=4,
    backbone__max_blocks=2,
    backbone__num_layers=1,
    tokenizer_training__frames_per_step=4,
    tokenizer_training__codebook_init_step=1,
    tokenizer_training__restart_period=2,
    tokenizer_training__restart_until=2,
    tokenizer_training__motion_weight=20.0,
    run__save_every=2,
    run__log_every=1,
    stages__stage1__steps=steps[0],
    stages__stage1__tokenizer__decay='linear',
    stages__stage1__tokenizer__final_fraction=0.2,
    stages__stage2__steps=steps[1],
  )
  if method == 'jowa':
    change(config, losses__target_period=2)
  change(config, **changes)
  return config


def comparable_config(data_dir, method='jowa', **changes) -> dict:
  """Returns a `tiny_config` whose runs agree whatever divides the work.

  No dropout, no codes drawn anew. Adam's first steps have the size of the
  learning rate whatever the gradient's, so that rounding would show in
  parameters: eps tames it.
  """
  config = tiny_config(
    data_dir,
    method,
    backbone__dropout=0.0,
    backbone__attention_dropout=0.0,
    heads__dropout=0.0,
    tokenizer_training__codebook_init_step=0,
    tokenizer_training__restart_period=0,
    tokenizer_training__restart_until=0,
    **changes,
  )
  for name in config['stages']['order']:
    stage = config['stages'][name]
    for part in stage['parts']:
      stage[part]['eps'] = 1e-3
  return config


def abstract_variables(config):
  """The shapes of a config's variables, boxed with axis names.

  Traced once for all configs of the same model.
  """
  return _shapes(config['method'], factory.method_config(config))


@functools.cache
def _shapes(method, config):
  return boxed_shapes(factory.METHODS[method].make(config))


def _fill(path, leaf, rng):
  """A likely value: the real initialisation takes long to compile."""
  name = str(getattr(path[-1], 'key', ''))
  if not np.issubdtype(leaf.dtype, np.floating):
    return np.zeros(leaf.shape, leaf.dtype)
  if name.endswith('scale'):
    return np.ones(leaf.shape, leaf.dtype)
  return rng.normal(0, 0.05, leaf.shape).astype(leaf.dtype)


def begin(config, stage_name, mesh=None, rules=None):
  """Returns (method, stage, state, its shardings, mesh) before a stage."""
  method = factory.make_method(config)
  (stage,) = (s for s in parse_stages(config['stages']) if s.name == stage_name)
  mesh = mesh or sharding.make_mesh({'data': -1})
  boxed = abstract_variables(config)
  shardings = sharding.tree_shardings(boxed, mesh, rules or {})
  rng = np.random.default_rng(0)
  values = jax.tree_util.tree_map_with_path(
    lambda path, leaf: _fill(path, leaf, rng), nn.meta.unbox(boxed)
  )
  variables = jax.device_put(values, shardings)
  start, places = state.begin_stage(
    method, stage, 0, variables, shardings, mesh
  )
  return method, stage, start, places, mesh


def bytes_per_device(tree) -> tuple[int, int]:
  """Returns the bytes of arrays on the first device, and over all of them."""
  arrays = jax.tree.leaves(tree)
  shards = [array.addressable_shards[0].data for array in arrays]
  return sum(x.nbytes for x in shards), sum(x.nbytes for x in arrays)


def flat(tree) -> dict[str, np.ndarray]:
  """Returns the arrays of a tree by path."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {jax.tree_util.keystr(path): np.array(x) for path, x in leaves}


def free_port() -> int:
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    return free.getsockname()[1]


def older_run(method, folder) -> pathlib.Path:
  """Extracts a run of before; returns its directory."""
  with tarfile.open(OLDER / f'{method}.tar.xz') as archive:
    # Python 3.11 knows no filters before 3.11.4; later ones warn without.
    safe = {'filter': 'data'} if hasattr(tarfile, 'data_filter') else {}
    archive.extractall(folder, **safe)
  return folder / method


@functools.cache
def _older_config(method) -> bytes:
  with tarfile.open(OLDER / f'{method}.tar.xz') as archive:
    return archive.extractfile(f'{method}/config.json').read()


def older_config(method) -> dict:
  """The config of that run."""
  return json.loads(_older_config(method))


def read_metrics(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]
