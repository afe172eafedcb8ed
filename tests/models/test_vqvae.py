"""The tokenizer's shapes, quantisation, initial values and precision."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jowa_jax.models import patches
from jowa_jax.models.vqvae import VQVAE, VQVAEConfig, normalize_frames, pixels

CONFIG = VQVAEConfig(
  channels=8,
  res_blocks=1,
  downsample=(2,),
  resolution=8,
  latent_channels=6,
  vocab_size=10,
  embedding_dim=4,
)


def init(config):
  frame = jnp.zeros((1, config.resolution, config.resolution), jnp.uint8)
  return nn.meta.unbox(jax.jit(VQVAE(config).init)(jax.random.key(0), frame))


@pytest.fixture(scope='module')
def variables():
  return init(CONFIG)


@pytest.fixture(scope='module')
def frames():
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (2, 3, 8, 8), np.uint8)


def method(config, name):
  return jax.jit(
    lambda variables, x: VQVAE(config).apply(variables, x, method=name)
  )


def test_sizes_of_the_grid():
  assert VQVAEConfig().grid == 6 and VQVAEConfig().tokens_per_frame == 36
  odd = VQVAEConfig(downsample=(3, 2, 2), resolution=24)
  assert odd.grid == 2 and odd.tokens_per_frame == 4


def test_encode_and_decode_keep_leading_axes(variables, frames):
  tokens = method(CONFIG, 'encode')(variables, frames)
  assert tokens.shape == (2, 3, 16) and tokens.dtype == jnp.int32
  assert (tokens >= 0).all() and (tokens < 10).all()
  decoded = method(CONFIG, 'decode')(variables, tokens)
  assert decoded.shape == frames.shape and decoded.dtype == jnp.uint8
  # Leading axes are a batch: one frame alone gives the same.
  alone = method(CONFIG, 'encode')(variables, frames[1, 2])
  np.testing.assert_array_equal(alone, tokens[1, 2])
  alone = method(CONFIG, 'decode')(variables, tokens[1, 2])
  difference = np.asarray(alone, int) - np.asarray(decoded[1, 2], int)
  assert np.abs(difference).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
  'config',
  [VQVAEConfig(), VQVAEConfig(downsample=(2, 2, 3), resolution=24)],
  ids=['published', 'three levels'],
)
def test_shapes_of_other_sizes(config):
  side, tokens = config.resolution, config.tokens_per_frame
  frames = jnp.zeros((2, side, side), jnp.uint8)

  def run(key):
    model = VQVAE(config)
    variables = model.init(key, frames)
    return (
      model.apply(variables, frames, method='latents'),
      model.apply(variables, frames, method='encode'),
      model.apply(variables, frames),
    )

  latents, encoded, reconstruction = jax.eval_shape(run, jax.random.key(0))
  assert latents.shape == (2, tokens, config.embedding_dim)
  assert encoded.shape == (2, tokens)
  assert reconstruction.shape == frames.shape


def test_quantize_takes_the_nearest_row(variables):
  rng = np.random.default_rng(1)
  codebook = rng.normal(size=(10, 4)).astype(np.float32)
  latents = rng.normal(size=(3, 5, 4)).astype(np.float32)
  bound = {'params': {**variables['params'], 'codebook': codebook}}
  got = method(CONFIG, 'quantize')(bound, latents)
  distances = ((latents[:, :, None] - codebook) ** 2).sum(-1)
  np.testing.assert_array_equal(got, distances.argmin(-1))
  embedded = method(CONFIG, 'embed')(bound, got)
  np.testing.assert_array_equal(embedded, codebook[np.asarray(got)])


def test_pixels_inverts_normalize_frames():
  every = np.arange(256, dtype=np.uint8)
  x = normalize_frames(every)
  assert x.dtype == jnp.float32 and x[0] == -1 and x[-1] == 1
  np.testing.assert_array_equal(pixels(x), every)
  np.testing.assert_array_equal(pixels(jnp.array([-3.0, 3.0])), [0, 255])


def test_initial_values(variables):
  params = variables['params']
  codebook = np.asarray(params['codebook'])
  assert np.abs(codebook).max() <= 1 / 10
  assert np.abs(codebook).max() > 0.08 and codebook.min() < -0.05
  flat = jax.tree_util.tree_leaves_with_path(params)
  convs = 0
  for path, leaf in flat:
    names, leaf = [key.key for key in path], np.asarray(leaf)
    if names[-1] not in ('kernel', 'bias') or 'norm' in names[-2]:
      continue
    if names[0] in ('pre_quant_conv', 'post_quant_conv'):
      fan_in = 6 if names[0] == 'pre_quant_conv' else 4
      assert 0 < np.abs(leaf).max() <= fan_in**-0.5
      assert np.any(leaf < 0) and np.any(leaf > 0)
    elif names[-1] == 'bias':
      assert not leaf.any()
    else:
      # Orthogonal with gain sqrt(2) on the smaller side of the matrix.
      matrix = leaf.reshape(-1, leaf.shape[-1])
      if matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.T
      gram = matrix.T @ matrix
      np.testing.assert_allclose(gram, 2 * np.eye(len(gram)), atol=1e-4)
      convs += 1
  assert convs == 38


@pytest.mark.slow
def test_bfloat16_keeps_float32_parameters_and_outputs(variables, frames):
  config = dataclasses.replace(CONFIG, dtype='bfloat16')
  shapes = jax.eval_shape(lambda: init(config))
  assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {
    jnp.dtype('float32')
  }
  latents = method(config, 'latents')(variables, frames[0])
  exact = method(CONFIG, 'latents')(variables, frames[0])
  assert latents.dtype == jnp.float32
  difference = np.abs(latents - exact)
  assert 0 < difference.max() < 0.1 * np.abs(exact).max()
  out = method(config, 'reconstruct')(variables, latents)
  assert out.dtype == jnp.float32 and np.isfinite(out).all()


PATCHWISE = dataclasses.replace(CONFIG, encoder_field='patch')


@pytest.mark.slow
def test_dense_layers_read_each_patch_on_its_own(frames):
  variables = init(PATCHWISE)
  latents = method(PATCHWISE, 'latents')
  before = frames[0]
  after = before.copy()
  after[0, 2:4, 6:8] ^= 255  # the patch in row 1 and column 3 of four
  changed = np.asarray(latents(variables, before) != latents(variables, after))
  assert np.argwhere(changed.any(-1)).tolist() == [[0, 7]]
  # A patch is the same wherever it stands.
  tiled = np.tile(before[:1, :2, :2], (1, 4, 4))
  found = np.asarray(latents(variables, tiled))
  np.testing.assert_allclose(found, found[:, :1].repeat(16, 1), rtol=1e-5)


@pytest.mark.slow
def test_dense_layers_draw_each_patch_where_it_stands(frames):
  # Without blocks on the grid, a pixel depends on its own patch's code alone.
  config = dataclasses.replace(PATCHWISE, res_blocks=0)
  variables = init(config)
  draw = method(config, 'reconstruct')
  codes = np.zeros((1, 16, config.embedding_dim), np.float32)
  moved = codes.copy()
  moved[0, 7] = 1.0
  changed = np.asarray(draw(variables, codes) != draw(variables, moved))[0]
  expected = np.zeros_like(changed)
  expected[2:4, 6:8] = True
  np.testing.assert_array_equal(changed, expected)
  assert (np.asarray(draw(variables, codes)).reshape(-1).std()) > 0
  # With them, neighbours' codes are seen.
  draw, variables = method(PATCHWISE, 'reconstruct'), init(PATCHWISE)
  changed = np.asarray(draw(variables, codes) != draw(variables, moved))[0]
  assert changed[2:4, 6:8].any() and changed[4:6, 4:6].any()


def test_patches_are_cut_and_joined(frames):
  x = frames[0][..., None]
  cut = patches.cut(x, 4)
  np.testing.assert_array_equal(cut[7, :, :, 0], x[0, 2:4, 6:8, 0])
  np.testing.assert_array_equal(patches.join(cut, 4), x)


def test_an_unknown_field_of_the_encoder():
  with pytest.raises(ValueError, match="encoder_field='frames' is not in"):
    VQVAEConfig(encoder_field='frames')
