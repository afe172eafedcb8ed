"""LPIPS against plain numpy, its weights by name, and its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax import weight_files
from jowa_jax.models import lpips
from tests.models.lpips_state import LAYERS, released_state

_distance = jax.jit(lpips.lpips_distance)


@pytest.fixture(scope='module')
def params():
  return lpips.init_params(jax.random.key(0))


@pytest.fixture(scope='module')
def images():
  rng = np.random.default_rng(1)
  x = rng.uniform(-1, 1, (2, 32, 24, 1)).astype(np.float32)
  y = np.clip(x + rng.normal(0, 0.3, x.shape), -1, 1).astype(np.float32)
  return x, y


def _conv(x, kernel, bias):
  """3x3 convolution as nine shifted matrix products."""
  height, width = x.shape[1:3]
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  out = np.zeros(x.shape[:3] + (kernel.shape[-1],)) + bias
  for i in range(3):
    for j in range(3):
      out += padded[:, i : i + height, j : j + width] @ kernel[i, j]
  return out


def _numpy_features(params, x):
  x = np.repeat(x.astype(np.float64), 3, axis=-1)
  x = (x - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450]
  features = []
  for layer in LAYERS:
    if layer == 'tap':
      features.append(x)
    elif layer == 'pool':
      b, h, w, c = x.shape
      # The last row or column of an odd side is left out.
      x = x[:, : h // 2 * 2, : w // 2 * 2]
      x = x.reshape(b, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))
    else:
      conv = params[layer.split(':')[0]]
      x = np.maximum(_conv(x, conv['kernel'], conv['bias']), 0)
  return features


def _numpy_lpips(params, x, y):
  """The definition, place by place, in float64."""
  params = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
  total = np.zeros(len(x))
  features = zip(
    _numpy_features(params, x), _numpy_features(params, y), strict=True
  )
  for layer, (fx, fy) in enumerate(features):
    fx = fx / (np.linalg.norm(fx, axis=-1, keepdims=True) + 1e-10)
    fy = fy / (np.linalg.norm(fy, axis=-1, keepdims=True) + 1e-10)
    total += ((fx - fy) ** 2 @ params[f'lin{layer}']).mean(axis=(1, 2))
  return total


def _torchvision_state(params):
  state = {}
  for key, value in released_state(params).items():
    if key.startswith('net.'):
      key = 'features.' + key.split('.', 2)[2]
    state[key] = value
  return state


def test_parameter_counts(params):
  convs = {k: v for k, v in params.items() if k.startswith('conv')}
  heads = {k: v for k, v in params.items() if k.startswith('lin')}
  assert len(convs) + len(heads) == len(params)
  assert sum(a.size for a in jax.tree.leaves(convs)) == 14_714_688
  assert sum(a.size for a in jax.tree.leaves(heads)) == 1_472


def test_matches_numpy(params, images):
  x, y = images
  got = _distance(params, x, y)
  assert got.shape == (2,) and got.dtype == jnp.float32
  expected = _numpy_lpips(params, x, y)
  assert expected.min() > 0.1
  np.testing.assert_allclose(got, expected, rtol=2e-5)


@pytest.mark.slow
def test_is_symmetric_and_zero_for_equal_images(params, images):
  x, y = images
  there = _distance(params, x, y)
  np.testing.assert_allclose(there, _distance(params, y, x), rtol=1e-6)
  # Compiled, the two images' features may differ by a rounding.
  assert _distance(params, x, x).max() < 1e-12


@pytest.mark.slow
def test_gradient_reaches_images_and_no_parameter(params, images):
  x, y = images

  def total(params, y):
    return lpips.lpips_distance(params, x, y).sum()

  params_grad, y_grad = jax.jit(jax.grad(total, argnums=(0, 1)))(params, y)
  assert not any(np.any(g) for g in jax.tree.leaves(params_grad))
  # The slope along the gradient, by finite differences of the reference.
  direction = np.asarray(y_grad) / np.linalg.norm(y_grad)
  step = 1e-4 * direction.astype(np.float64)
  slope = (
    _numpy_lpips(params, x, y + step).sum()
    - _numpy_lpips(params, x, y - step).sum()
  ) / 2e-4
  np.testing.assert_allclose(np.linalg.norm(y_grad), slope, rtol=1e-3)


@pytest.mark.slow
def test_gradient_of_normalising_is_finite_where_all_channels_are_zero():
  x = jnp.array([[0.0, 0.0], [3.0, 4.0]])
  np.testing.assert_allclose(lpips._unit(x), [[0, 0], [0.6, 0.8]], rtol=1e-6)
  assert np.isfinite(jax.jacobian(lpips._unit)(x)).all()


@pytest.mark.slow
def test_dropout_is_random_reproducible_and_unbiased(params):
  rng = np.random.default_rng(3)
  x, y = rng.uniform(-1, 1, (2, 1, 16, 16, 1)).astype(np.float32)

  @jax.jit
  def draw(params, keys):
    return jax.vmap(
      lambda key: lpips.lpips_distance(params, x, y, dropout_key=key)[0]
    )(keys)

  keys = jax.random.split(jax.random.key(0), 256)
  dropped = draw(params, keys)
  np.testing.assert_array_equal(draw(params, keys), dropped)
  spread = float(jnp.std(dropped))
  plain = float(_distance(params, x, y)[0])
  assert spread > 1e-3 * plain
  # The mean of 256 draws lies within four of its standard errors.
  assert abs(float(dropped.mean()) - plain) < 4 * spread / 16


@pytest.mark.parametrize(
  'x_shape, y_shape, word',
  [
    ((1, 32, 32, 1), (2, 32, 32, 1), 'one shape'),
    ((1, 32, 32, 3), (1, 32, 32, 3), 'one shape'),
    ((32, 32, 1), (32, 32, 1), 'one shape'),
    ((1, 32, 15, 1), (1, 32, 15, 1), '32 x 15'),
  ],
)
def test_bad_shapes_are_errors(params, x_shape, y_shape, word):
  with pytest.raises(ValueError, match=word):
    lpips.lpips_distance(params, np.zeros(x_shape), np.zeros(y_shape))


@pytest.mark.slow
@pytest.mark.parametrize(
  'layout, suffix',
  [
    ('released', '.safetensors'),
    ('tokenizer', '.npz'),
    ('tokenizer', '.pt'),
    ('torchvision', '.npz'),
  ],
)
def test_every_layout_loads(params, tmp_path, layout, suffix):
  if suffix == '.pt':
    pytest.importorskip('torch')
  if layout == 'torchvision':
    state = _torchvision_state(params)
    state['classifier.0.bias'] = np.zeros(4096)
  else:
    state = released_state(params)
    state['scaling_layer.shift'] = np.array(
      [-0.030, -0.088, -0.188], np.float32
    ).reshape(1, 3, 1, 1)
    state['scaling_layer.scale'] = np.array(
      [0.458, 0.448, 0.450], np.float32
    ).reshape(1, 3, 1, 1)
  if layout == 'tokenizer':
    state = {f'_orig_mod.module.lpips.{k}': v for k, v in state.items()}
    state['_orig_mod.module.encoder.conv_in.bias'] = np.zeros(64)
  path = tmp_path / f'weights{suffix}'
  weight_files.write_state(path, state)
  loaded = lpips.load_params(path)
  path.unlink()  # 59 MB
  assert jax.tree.structure(loaded) == jax.tree.structure(params)
  jax.tree.map(np.testing.assert_array_equal, loaded, params)


def test_every_wrong_tensor_is_named_at_once():
  good = np.zeros(64, np.float32)
  state = {
    'net.slice1.0.bias': good,
    'features.0.bias': good,
    'net.slice1.2.bias': good[:63],
    'net.slice1.0.weight': np.zeros((3, 3, 3, 64), np.float32),
    'lin0.model.1.weight': np.full((1, 64, 1, 1), np.nan),
    'net.slice2.5.bias': np.array(['text'] * 128),
    'scaling_layer.shift': np.zeros((1, 3, 1, 1)),
    'lin5.model.1.weight': good,
  }
  state = {f'lpips.{k}': v for k, v in state.items()}
  state['decoder.conv_out.bias'] = good
  with pytest.raises(ValueError) as caught:
    lpips.from_state(state, 'wrong.npz')
  message = str(caught.value)
  for part in (
    'wrong.npz',
    'more than once: lpips.net.slice1.0.bias, lpips.features.0.bias',
    'lpips.net.slice1.2.bias has shape (63,), expected (64,)',
    'lpips.net.slice1.0.weight has shape (3, 3, 3, 64), expected (64, 3, 3, 3)',
    'lpips.lin0.model.1.weight has values that are not finite',
    'lpips.net.slice2.5.bias is of type <U4',
    'lpips.scaling_layer.shift is [0. 0. 0.]',
    'unexpected lpips.lin5.model.1.weight',
    'missing net.slice5.28.weight or features.28.weight',
    'missing lin4.model.1.weight',
  ):
    assert part in message
  assert 'decoder' not in message
  # 31 tensors make an LPIPS; five of them are in the file.
  assert message.count('missing') == 31 - 5


def test_files_without_them_are_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='none.npz: no such file'):
    lpips.load_params(tmp_path / 'none.npz')
  np.savez(tmp_path / 'other.npz', **{'encoder.conv_in.bias': np.zeros(64)})
  with pytest.raises(ValueError, match='other.npz: holds no LPIPS weights'):
    lpips.load_params(tmp_path / 'other.npz')
