"""Reads the recordings of FICC's pretraining program, sizes included."""

import re

import jax
import numpy as np
from flax import linen as nn

from jowa_jax.models import ficc
from jowa_jax.models.ficc import FiccNetwork, Networks
from tests.parity import fixtures

RECORDINGS = ('ficc_main', 'ficc_single_scope', 'ficc_bottleneck')
# Parameters that the program has and never uses.
_UNUSED = re.compile(r'(encoder\.(conv|bn)|lag\.(conv_a|bn))\.|num_batches')
_MODULES = {
  'encoder.downsample_net': 'encoder',
  'encoder': 'encoder',
  'lag': 'inverse',
  'dynamic': 'dynamics',
  'delta_dynamic': 'change_dynamics',
  'recon_dynamic': 'drawn_state',
  'decoder': 'decoder',
  'decoder_delta': 'change_decoder',
  'projection': 'projector',
  'projection_head': 'predictor',
}
# The names of the nine groups that are clipped, ours by the program's.
GROUPS = {k: v for k, v in _MODULES.items() if '.' not in k}
_ENCODER = {
  'conv1': 'conv',
  'bn1': 'norm',
  'resblocks1.0': 'fine',
  'downsample_block': 'down',
  'conv2': 'down/shortcut',
  'resblocks2.0': 'middle',
  'resblocks3.0': 'coarse',
}
_INVERSE = {
  'quantizer.embedding': 'codes',
  'conv': 'before',
  'conv_s': 'after',
  'conv_out': 'narrow',
  'fc': 'dense',
  'bn_o': 'norm',
}
_LEAVES = {'running_mean': 'mean', 'running_var': 'var', 'bias': 'bias'}


def network(data) -> FiccNetwork:
  """The sizes of a recording."""
  state = fixtures.under(data, 'state_dict')
  codes, size = state['lag.quantizer.embedding.weight'].shape
  return FiccNetwork(
    channels=int(data['channel']),
    num_blocks=int(data['num_blocks']),
    bottleneck=bool(data['bottleneck']),
    num_codes=codes,
    code_size=size,
    projection_width=len(state['projection.0.weight']),
    projection_outputs=len(state['projection.6.weight']),
    predictor_width=len(state['projection_head.0.weight']),
  )


def _inside(module: str, rest: str) -> str:
  """Our name of a layer, within its module, of the program's."""
  names = {'encoder': _ENCODER, 'inverse': _INVERSE}.get(module, {})
  for theirs in sorted(names, key=len, reverse=True):
    if rest == theirs or rest.startswith(f'{theirs}.'):
      rest = names[theirs] + rest.removeprefix(theirs).replace('.', '/')
      break
  if module == 'encoder':
    rest = re.sub(r'resblocks\.(\d)\.', r'last_\1/', rest)
  elif module != 'drawn_state':
    rest = rest.replace('resblocks.0.', 'block/')
  if module in ('dynamics', 'change_dynamics'):
    return re.sub('^bn$', 'norm', _block(rest))
  if module in ('decoder', 'change_decoder'):
    rest = re.sub(r'^decoder\.(\d)', r'trunk_\1', rest)
    rest = re.sub(r'^final_layer', 'ends_0', rest)
    rest = re.sub(r'^output_layer\.(\d)', r'ends_\1', rest)
    rest = re.sub(r'^ends_(\d)\.3', r'outputs_\1', rest)
    return rest.replace('.0', '/conv').replace('.1', '/norm')
  if module in ('projector', 'predictor'):
    place = int(rest)
    return f'{"norms" if place % 3 else "dense"}_{place // 3}'
  return _block(rest)


def _block(rest: str) -> str:
  def number(found):
    kind = {'conv': 'convs', 'bn': 'norms'}[found[1]]
    return f'{kind}_{int(found[2]) - 1}'

  if rest in ('conv', 'norm', 'bn'):
    return rest
  return re.sub(r'(?:(?<=/)|^)(conv|bn)(\d)$', number, rest)


def _name(theirs: str) -> str:
  layer, _, leaf = theirs.rpartition('.')
  prefix = max(
    (name for name in _MODULES if layer == name or layer.startswith(f'{name}.'))
    or '',
    key=len,
  )
  module = _MODULES[prefix]
  inside = _inside(module, layer.removeprefix(prefix).removeprefix('.'))
  if inside == 'codes':
    return f'{module}/codes'
  norm = re.search(r'norms?(_\d)?$', inside)
  leaf = _LEAVES.get(leaf, 'scale' if norm else 'kernel')
  return f'{module}/{inside}/{leaf}'


def _laid_out(name: str, value: np.ndarray, channels: int) -> np.ndarray:
  """A tensor of the program as ours are laid out."""
  if value.ndim == 4 and re.search(r'decoder/(trunk|ends)', name):
    # Transposed: theirs is (in, out, 3, 3), and turned about.
    return value.transpose(2, 3, 0, 1)[::-1, ::-1]
  if value.ndim == 4:
    return value.transpose(2, 3, 1, 0)
  if value.ndim == 2 and name.endswith('kernel'):
    inputs = {'inverse/dense/kernel': -1, 'projector/dense_0/kernel': channels}
    if name in inputs:
      # Theirs flattens channels first.
      value = value.reshape(len(value), -1, ficc.GRID**2).swapaxes(1, 2)
    return value.reshape(len(value), -1).T
  return value


def _template(config: FiccNetwork):
  params = jax.eval_shape(
    lambda key: nn.meta.unbox(ficc.init(Networks(config), key)),
    jax.random.key(0),
  )
  return {name: each for name, each in params.items() if name != ficc.Q_HEAD}


def params(config: FiccNetwork, state: dict[str, np.ndarray]) -> dict:
  """Our parameters filled with the program's tensors, all of them used.

  Args:
    config: sizes.
    state: tensors by the program's names. Gradients and running statistics
      alone, too: what they lack is left out.
  """
  found = {}
  for theirs, value in state.items():
    if not _UNUSED.match(theirs):
      name = _name(theirs)
      assert name not in found, (theirs, name)
      found[name] = _laid_out(name, value, config.channels)
  filled = {}

  def fill(path, leaf):
    name = '/'.join(key.key for key in path).removeprefix('statistics/')
    value = found.pop(name, None)
    if value is not None:
      assert value.shape == leaf.shape, (name, value.shape, leaf.shape)
      filled[tuple(key.key for key in path)] = value
    return value

  template = _template(config)
  jax.tree_util.tree_map_with_path(fill, template)
  assert not found, sorted(found)
  tree = {}
  for path, value in filled.items():
    place = tree
    for key in path[:-1]:
      place = place.setdefault(key, {})
    place[path[-1]] = value
  if len(filled) == len(jax.tree.leaves(template)):
    assert jax.tree.structure(tree) == jax.tree.structure(template)
  return tree


def assert_agree(ours, theirs, name: str = '') -> None:
  """An array as close as the README of the recordings asks for."""
  theirs = np.asarray(theirs)
  scale = max(1.0, np.abs(theirs).max())
  fixtures.assert_close(ours, theirs, 1e-4 * scale, name)


def assert_gradients_agree(ours, theirs) -> None:
  """Gradients of one module, by the README's rule.

  An array whose gradients are zero up to rounding is compared by the largest
  of its module.
  """
  largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(theirs))

  def check(path, a, b):
    scale = np.abs(b).max()
    scale = largest if scale < 1e-3 * largest else scale
    fixtures.assert_close(a, b, 2e-3 * scale, jax.tree_util.keystr(path))

  jax.tree_util.tree_map_with_path(check, ours, theirs)
