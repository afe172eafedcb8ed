"""LPIPS, the perceptual distance of Zhang et al. 2018, on VGG16 features.

The weights are data that a user brings (`load_params`); they are never
trained. Parameters are a nested dict: `conv1_1` ... `conv5_3`, each with a
`kernel` [3, 3, in, out] and a `bias` [out], and `lin0` ... `lin4`, each [C].
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jowa_jax import weight_files
from jowa_jax.types import Params

# Of the tensors' names, in a state dict that holds other modules too.
PREFIX = 'lpips.'

# Output channels and number of convolutions of the five VGG16 stages; a 2x2
# max-pool stands between stages and a ReLU follows every convolution.
_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
# Where a stage's convolutions stand in torchvision's `vgg16().features`.
_TORCH_INDICES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
# Fits of the ImageNet mean and deviation to pixels in [-1, 1].
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
_EPS = 1e-10
_DROPOUT = 0.5
# Four max-pools halve an image before the last stage.
_MIN_SIDE = 16


def _conv_names(stage: int) -> list[str]:
  return [f'conv{stage + 1}_{i + 1}' for i in range(_STAGES[stage][1])]


def init_params(key: chex.PRNGKey) -> Params:
  """Random parameters of the right shapes, for tests and shape inference.

  Args:
    key: a PRNG key.

  Returns:
    The parameter tree of `load_params`, float32: 14,714,688 values in the
    convolutions (He normal, small biases) and 1,472 in the linear heads
    (uniform on [0, 1), as trained heads are non-negative).
  """
  params = {}
  width_in = 3
  for stage, (width, _) in enumerate(_STAGES):
    for name in _conv_names(stage):
      key, kernel_key, bias_key = jax.random.split(key, 3)
      std = (2 / (9 * width_in)) ** 0.5
      shape = (3, 3, width_in, width)
      params[name] = {
        'kernel': std * jax.random.normal(kernel_key, shape),
        'bias': 0.05 * jax.random.normal(bias_key, (width,)),
      }
      width_in = width
    key, lin_key = jax.random.split(key)
    params[f'lin{stage}'] = jax.random.uniform(lin_key, (width,))
  return params


def _max_pool(x: chex.Array) -> chex.Array:
  window = (1, 2, 2, 1)
  return jax.lax.reduce_window(
    x, -jnp.inf, jax.lax.max, window, window, 'VALID'
  )


def _features(params: Params, x: chex.Array) -> list[chex.Array]:
  """[B, H, W, 1] grey in [-1, 1] -> the last ReLU of each stage."""
  shift, scale = jnp.array(_SHIFT), jnp.array(_SCALE)
  # Subtracting three shifts from one channel repeats it to three.
  x = (x.astype(jnp.float32) - shift) / scale
  features = []
  for stage in range(len(_STAGES)):
    if stage:
      x = _max_pool(x)
    for name in _conv_names(stage):
      x = jax.lax.conv_general_dilated(
        x,
        params[name]['kernel'],
        window_strides=(1, 1),
        padding='SAME',
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
      )
      x = jax.nn.relu(x + params[name]['bias'])
    features.append(x)
  return features


def _unit(x: chex.Array) -> chex.Array:
  """Divides by the norm over channels."""
  square = jnp.sum(x**2, axis=-1, keepdims=True)
  # Where every channel is zero the root's gradient is infinite; kept out here,
  # no NaN has to be stopped later, and `jax_debug_nans` stays usable.
  positive = square > 0
  norm = jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)
  return x / (norm + _EPS)


def lpips_distance(
  params: Params,
  x: chex.Array,
  y: chex.Array,
  *,
  dropout_key: chex.PRNGKey | None = None,
) -> chex.Array:
  """The perceptual distance between pairs of grey images.

  Args:
    params: weights from `load_params`; no gradient flows to them.
    x: [B, H, W, 1] pixels in [-1, 1], H and W at least 16.
    y: the same shape. Each image passes through the network on its own, so an
      image that is not differentiated costs no backward pass.
    dropout_key: if given, half of the squared differences entering each
      linear head are dropped and the rest doubled, as the released program
      does in training. Without it the distance is deterministic.

  Returns:
    [B] float32, zero (to a rounding) for equal images.

  Raises:
    ValueError: the images are not two equal shapes [B, H, W, 1] of at least
      16 x 16 pixels.
  """
  if x.shape != y.shape or x.ndim != 4 or x.shape[-1] != 1:
    raise ValueError(
      'lpips_distance: expected two batches of one shape [B, H, W, 1], got '
      f'{x.shape} and {y.shape}'
    )
  if min(x.shape[1:3]) < _MIN_SIDE:
    raise ValueError(
      f'lpips_distance: images of {x.shape[1]} x {x.shape[2]} pixels are too '
      f'small for VGG16; each side needs at least {_MIN_SIDE}'
    )
  params = jax.lax.stop_gradient(params)
  pairs = zip(_features(params, x), _features(params, y), strict=True)
  distance = jnp.zeros(x.shape[0])
  for stage, (feature_x, feature_y) in enumerate(pairs):
    difference = (_unit(feature_x) - _unit(feature_y)) ** 2
    if dropout_key is not None:
      keep = jax.random.bernoulli(
        jax.random.fold_in(dropout_key, stage), 1 - _DROPOUT, difference.shape
      )
      difference = jnp.where(keep, difference / (1 - _DROPOUT), 0.0)
    # The mean over places comes first: the head is linear.
    distance += jnp.mean(difference, axis=(1, 2)) @ params[f'lin{stage}']
  return distance


def load_params(path: str | Path) -> Params:
  """Reads LPIPS weights from a file.

  Args:
    path: an `.npz` or `.safetensors`, or a `.pt` or `.pth` state dict, which
      needs torch, with what `from_state` reads.

  Returns:
    The parameter tree, float32.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: not a readable file of a known kind, torch is needed and
      missing, or the tensors do not fit; see `from_state`.
  """
  return from_state(weight_files.read_state(path), str(path))


def from_state(state: Mapping[str, np.ndarray], source: str) -> Params:
  """LPIPS weights of a state dict.

  Two layouts are read, with any of the prefixes `module.`, `_orig_mod.` and
  `lpips.`: the released one (`net.slice1.0.weight`, `lin0.model.1.weight`)
  and torchvision's VGG16 (`features.0.weight`) beside the same `lin*` names.
  In a state with `lpips.*` keys, such as the released `tokenizer.pt`, all
  other keys belong to other modules and are passed over.

  Args:
    state: arrays by name.
    source: where they are from, for messages.

  Returns:
    The parameter tree, float32.

  Raises:
    ValueError: tensors are missing, unexpected, given twice, misshapen or not
      finite numbers.
  """
  return jax.tree.map(jnp.asarray, _convert(_lpips_part(state), source))


def _lpips_part(
  state: Mapping[str, np.ndarray],
) -> dict[str, list[tuple[str, np.ndarray]]]:
  """Short name -> [(name in the file, value)], other modules left out."""
  inside, outside = {}, {}
  for key, value in state.items():
    short, part = weight_files.bare_name(key), outside
    while short.startswith(PREFIX):
      short = weight_files.bare_name(short.removeprefix(PREFIX))
      part = inside
    part.setdefault(short, []).append((key, value))
  # torchvision's classifier is the part of VGG16 that LPIPS does not use.
  return {
    short: found
    for short, found in (inside or outside).items()
    if not short.startswith('classifier.')
  }


def _expected() -> dict[tuple[str, ...], tuple[tuple[str, ...], tuple]]:
  """Path in our tree -> (accepted short names, shape in the file)."""
  expected = {}
  width_in = 3
  for stage, (width, _) in enumerate(_STAGES):
    for name, i in zip(_conv_names(stage), _TORCH_INDICES[stage], strict=True):
      for leaf, torch_leaf, shape in (
        ('kernel', 'weight', (width, width_in, 3, 3)),
        ('bias', 'bias', (width,)),
      ):
        names = (
          f'net.slice{stage + 1}.{i}.{torch_leaf}',
          f'features.{i}.{torch_leaf}',
        )
        expected[name, leaf] = (names, shape)
      width_in = width
    names = (f'lin{stage}.model.1.weight',)
    expected[(f'lin{stage}',)] = (names, (1, width, 1, 1))
  return expected


def _convert(
  found: dict[str, list[tuple[str, np.ndarray]]], source: str
) -> dict[str, Any]:
  """The parameter tree, or one error naming every tensor that is wrong."""
  found = dict(found)
  params, problems, known = {}, [], 0
  for where, (names, shape) in _expected().items():
    copies = [copy for name in names for copy in found.pop(name, ())]
    if not copies:
      problems.append(f'missing {" or ".join(names)}')
      continue
    known += 1
    if len(copies) > 1:
      problems.append(f'more than once: {", ".join(key for key, _ in copies)}')
      continue
    key, value = copies[0]
    fault = _fault(value, shape)
    if fault:
      problems.append(f'{key} {fault}')
      continue
    _insert(params, where, value.astype(np.float32))
  problems += _check_scaling(found)
  problems += [
    f'unexpected {key}' for copies in found.values() for key, _ in copies
  ]
  if not known:
    some = ', '.join(sorted(found)[:3]) or 'nothing'
    raise ValueError(
      f'{source}: holds no LPIPS weights (it has {some}, ...); expected keys '
      'such as lpips.net.slice1.0.weight and lpips.lin0.model.1.weight'
    )
  if problems:
    raise ValueError(f'{source}: not LPIPS weights: ' + '; '.join(problems))
  return params


def _fault(value: np.ndarray, shape: tuple[int, ...]) -> str | None:
  """What makes a value unfit as a tensor of this shape."""
  if value.dtype.kind not in 'fiu':
    return f'is of type {value.dtype}, expected numbers'
  if value.shape != shape:
    return f'has shape {value.shape}, expected {shape}'
  if not np.isfinite(value).all():
    return 'has values that are not finite'
  return None


def _insert(
  params: dict[str, Any], where: tuple[str, ...], value: np.ndarray
) -> None:
  if len(where) == 1:
    params[where[0]] = value.reshape(-1)
    return
  name, leaf = where
  if leaf == 'kernel':
    value = value.transpose(2, 3, 1, 0)
  params.setdefault(name, {})[leaf] = value


def _check_scaling(
  found: dict[str, list[tuple[str, np.ndarray]]],
) -> list[str]:
  """Takes the input scaling's buffers, optional, out of `found`."""
  problems = []
  for name, constant in (('shift', _SHIFT), ('scale', _SCALE)):
    for key, value in found.pop(f'scaling_layer.{name}', ()):
      fault = _fault(value, (1, 3, 1, 1))
      if not fault and not np.allclose(value.reshape(-1), constant, atol=1e-4):
        fault = f'is {value.reshape(-1)}, expected {constant}'
      if fault:
        problems.append(f'{key} {fault}')
  return problems
