"""Reads the recordings of decision transformers, sizes included."""

import json
import os
import pathlib

import numpy as np

from jowa_jax.models.mgdt import MgdtBackbone
from tests.parity import fixtures

DIRECTORY = pathlib.Path(
  os.environ.get('JOWA_PARITY_DT_DIR')
  or pathlib.Path(__file__).parent.parent / 'data' / 'parity_dt'
)
TOLERANCE = 2e-5


def load(name: str) -> tuple[dict[str, np.ndarray], dict]:
  """One recording and its sizes; a missing file is an error, never a skip."""
  data = fixtures.load(name, DIRECTORY)
  return data, json.loads(str(data['meta']))


def mgdt_config(meta, **changes) -> MgdtBackbone:
  sizes = dict(
    num_layers=meta['layers'],
    width=meta['width'],
    num_heads=meta['heads'],
    steps=meta['steps'],
    patch=meta['patch'],
    num_actions=meta['actions'],
    return_min=meta['return_min'],
    return_bins=meta['return_bins'],
    dropout=meta['dropout'],
  )
  return MgdtBackbone(**{**sizes, **changes})


_MGDT_MODULES = {
  'ret_emb': '~_embed_inputs/embed',
  'act_emb': '~_embed_inputs/embed_1',
  'rew_emb': '~_embed_inputs/embed_2',
  'image_emb': '~_embed_inputs/image_emb',
  'transformer.norm_f': '~/sequence/ln_f',
}
_MGDT_LAYER = {'proj': 'linear', 'fc1': 'linear', 'fc2': 'linear_1'}


def haiku_arrays(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The port's tensors (or gradients) as the notebook names and lays them."""
  found = {}

  def put(module, leaf, value):
    found[f'decision_transformer/{module}/{leaf}'] = value

  for name, value in state.items():
    module, _, leaf = name.rpartition('.')
    if not module:
      known = name.replace('positional_embedding', 'positional_embeddings')
      found[f'decision_transformer/{known}'] = value
      continue
    where = _MGDT_MODULES.get(module, module)
    if module.startswith('transformer.layers.'):
      _, _, number, *rest = module.split('.')
      rest[-1] = _MGDT_LAYER.get(rest[-1], rest[-1])
      where = f'~/sequence/h{number}_{"/".join(rest)}'
    if where.endswith('qkv'):
      for part, rows in zip(
        ('query', 'key', 'value'), np.split(value, 3), strict=True
      ):
        each = where.removesuffix('qkv') + part
        put(each, *(('b', rows) if leaf == 'bias' else ('w', rows.T)))
    elif module.endswith('_emb') and value.ndim == 2:
      put(where, 'embeddings', value)
    elif 'ln_' in where:
      put(where, 'scale' if leaf == 'weight' else 'offset', value)
    elif leaf == 'bias':
      put(where, 'b', value)
    elif value.ndim == 4:
      put(where, 'w', value.transpose(2, 3, 1, 0))
    else:
      put(where, 'w', value.T)
  return found
