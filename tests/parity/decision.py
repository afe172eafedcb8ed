"""Reads the recordings of decision transformers, sizes included."""

import json
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jowa_jax.methods.edt import EdtConfig, EdtLosses
from jowa_jax.models import edt
from jowa_jax.models.edt import EdtBackbone, Window
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


def edt_config(meta, **changes) -> EdtConfig:
  sizes = dict(
    num_layers=meta['layers'],
    width=meta['width'],
    num_heads=meta['heads'],
    steps=meta['steps'],
    patch=meta['patch'],
    num_actions=meta['actions'],
    return_min=float(meta['return_min']),
    return_max=float(meta['return_max']),
    return_bins=meta['return_bins'],
    return_scale=float(meta['return_scale']),
    dropout=meta['dropout'],
  )
  weights = meta['weights']
  return EdtConfig(
    backbone=EdtBackbone(**{**sizes, **changes}),
    losses=EdtLosses(
      expectile=weights['expectile'],
      frame_weight=weights['state'],
      expectile_weight=weights['exp'],
      return_weight=weights['ce'],
    ),
  )


_EDT_MODULES = {
  'embed_ln': 'backbone/embed_ln',
  'embed_rtg': 'backbone/returns',
  'embed_state': 'backbone/frames/pixels',
  'image_emb': 'backbone/frames/pixels',
  'predict_rtg': 'heads/returns',
  'predict_rtg2': 'heads/expectile',
  'predict_action.0': 'heads/actions',
  'predict_state': 'heads/frames',
}
_EDT_TABLES = {
  'embed_timestep.weight': 'backbone/times',
  'embed_action.weight': 'backbone/actions',
  'image_pos_enc': 'backbone/frames/places',
}
_EDT_LAYER = {
  'attention.q_net': 'attn/query',
  'attention.k_net': 'attn/key',
  'attention.v_net': 'attn/value',
  'attention.proj_net': 'attn/proj',
  'mlp.0': 'mlp_0',
  'mlp.2': 'mlp_2',
  'ln1': 'ln1',
  'ln2': 'ln2',
}


def _edt_name(name: str) -> str:
  if name in _EDT_TABLES:
    return _EDT_TABLES[name]
  module, _, leaf = name.rpartition('.')
  if module.startswith('transformer.'):
    _, number, rest = module.split('.', 2)
    where = f'backbone/layer_{number}/{_EDT_LAYER[rest]}'
  else:
    where = _EDT_MODULES[module]
  if leaf == 'weight':
    leaf = (
      'scale'
      if where.split('/')[-1] in ('embed_ln', 'ln1', 'ln2')
      else ('kernel')
    )
  return f'{where}/{leaf}'


def edt_params(
  config: EdtConfig, state: dict[str, np.ndarray], frame: int
) -> dict:
  """Our parameters, filled with the program's tensors, all of them used.

  Args:
    config: sizes.
    state: tensors by the program's names, or their gradients.
    frame: side of a frame, in pixels.
  """
  width, patch = config.backbone.width, config.backbone.patch
  found = {}
  for name, value in state.items():
    if name in _EDT_TABLES:
      value = value.reshape(-1, width)
    elif value.ndim > 1:
      value = value.reshape(len(value), -1).T
    found[_edt_name(name)] = value
  # Where a frame is one patch, no place in it is told.
  patches = (frame // patch) ** 2
  found.setdefault('backbone/frames/places', np.zeros((patches, width)))
  window = Window(
    frames=jnp.zeros((1, config.backbone.steps, frame, frame), jnp.uint8),
    returns=jnp.zeros((1, config.backbone.steps), jnp.int32),
    actions=jnp.zeros((1, config.backbone.steps), jnp.int32),
  )
  hidden = jnp.zeros((1, 1, patches + edt.TOLD, width))

  def shapes(key):
    backbone = edt.Backbone(config.backbone).init(key, window)['params']
    heads = edt.Heads(config.backbone, frame * frame).init(key, hidden)
    return nn.meta.unbox({'backbone': backbone, 'heads': heads['params']})

  template = jax.eval_shape(shapes, jax.random.key(0))

  def fill(path, leaf):
    name = '/'.join(key.key for key in path)
    return jnp.asarray(found.pop(name), jnp.float32).reshape(leaf.shape)

  filled = jax.tree_util.tree_map_with_path(fill, template)
  assert not found, sorted(found)
  return filled
