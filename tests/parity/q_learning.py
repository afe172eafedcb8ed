"""Reads the recordings of methods with Q-values, sizes included."""

import re

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from jowa_jax.models.q_network import QNetworkConfig
from jowa_jax.models.resnet import ResNetConfig
from tests.parity import fixtures

TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 2e-3
_PARTS = {
  'conv_init': 'stem_conv',
  'bn_init': 'stem_norm',
  'SpatialLearnedEmbeddings_0': 'embeddings',
  'conv_proj': 'shortcut_conv',
  'norm_proj': 'shortcut_norm',
}


def load(name: str) -> dict[str, np.ndarray]:
  """One recording; a missing file is an error, never a skip."""
  return fixtures.load(name, fixtures.Q_LEARNING)


def encoder_config(data) -> ResNetConfig:
  """The sizes of a recorded encoder."""
  weights = fixtures.under(data, 'state_dict/enc')
  return ResNetConfig(
    stage_sizes=tuple(data['stage_sizes'].tolist()),
    stage_strides=tuple(data['stage_strides'].tolist()),
    bottleneck=bool(data['bottleneck']),
    width=weights['conv_init/kernel'].shape[-1],
    stack=data['frames'].shape[-1],
    norm_groups=int(data['num_groups']),
    spatial_features=int(data['spatial_features']),
  )


def network_config(data) -> QNetworkConfig:
  """The sizes of what follows a recorded encoder."""
  weights = fixtures.under(data, 'state_dict')
  atoms, actions = data['support'], data['legal'].shape[1]
  return QNetworkConfig(
    mlp_width=weights['mlp_0/kernel'].shape[1],
    mlp_layers=sum(
      bool(re.fullmatch(r'mlp_\d+/bias', name)) for name in weights
    ),
    num_actions=actions,
    num_atoms=len(atoms),
    v_min=float(atoms[0]),
    v_max=float(atoms[-1]),
  )


def params(data, prefix: str) -> dict:
  """Our parameters (or gradients), filled with what is below `prefix/`."""
  blocks = [
    (stage, block)
    for stage, count in enumerate(data['stage_sizes'].tolist())
    for block in range(count)
  ]
  found = {}
  for name, value in fixtures.under(data, prefix).items():
    first, *rest = name.split('/')
    if first == 'enc':
      path = ['encoder', *(_part(part, blocks) for part in rest)]
    elif first.startswith('mlp_'):
      path = ['mlp', first.replace('mlp', 'layer'), *rest]
    else:
      path = ['heads', first.removeprefix('head_')]
    found[tuple(path)] = jnp.asarray(value)
  return traverse_util.unflatten_dict(found)


def _part(name: str, blocks: list[tuple[int, int]]) -> str:
  if match := re.fullmatch(r'(?:Bottleneck)?ResNetBlock_(\d+)', name):
    stage, block = blocks[int(match[1])]
    return f'stage_{stage}_block_{block}'
  name = name.replace('MyGroupNorm_', 'norm_').replace('Conv_', 'conv_')
  return _PARTS.get(name, name)


def assert_close(ours, theirs, name='') -> None:
  """Agreement relative to the largest magnitude, or to 1 where it is less."""
  scale = max(1.0, np.abs(theirs).max())
  fixtures.assert_close(ours, theirs, TOLERANCE * scale, name)


def assert_gradients_close(ours, theirs) -> None:
  """Agreement of every array relative to its largest magnitude.

  One that is tiny beside those of its module is compared relative to theirs.
  """
  assert jax.tree.structure(ours) == jax.tree.structure(theirs)
  for module, arrays in theirs.items():
    largest = max(np.abs(x).max() for x in jax.tree.leaves(arrays))

    def check(path, ours, theirs, largest=largest, module=module):
      scale = np.abs(theirs).max()
      scale = largest if scale < 1e-3 * largest else scale
      name = module + jax.tree_util.keystr(path)
      fixtures.assert_close(ours, theirs, GRADIENT_TOLERANCE * scale, name)

    jax.tree_util.tree_map_with_path(check, ours[module], arrays)
