"""FICC's layers, by hand, and the sizes of the facts."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jowa_jax.models import ficc, ficc_blocks, ficc_flops
from jowa_jax.models.ficc import FiccNetwork, Networks
from jowa_jax.models.ficc_blocks import STATISTICS, StepNorm, TwiceAsLarge


def size(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.slow
@pytest.mark.parametrize(
  ('network', 'video', 'head'),
  [
    (FiccNetwork(), 3_153_782, 1_652_118),
    (FiccNetwork(channels=640, bottleneck=True), 73_458_614, 12_268_950),
  ],
)
def test_sizes(network, video, head):
  params = jax.eval_shape(
    lambda key: nn.meta.unbox(ficc.init(Networks(network), key)),
    jax.random.key(0),
  )
  assert set(params) == {*ficc.VIDEO, ficc.Q_HEAD, STATISTICS}
  assert size([params[name] for name in ficc.VIDEO]) == video
  assert size(params[ficc.Q_HEAD]) == head


def test_every_step_is_normalised_by_itself():
  x = jnp.array([[[1.0], [3.0]], [[10.0], [50.0]]])  # [T, B, 1]
  norm = StepNorm(momentum=0.5, affine=False)
  start = norm.init(jax.random.key(0), x, True)
  found, changed = norm.apply(start, x, True, mutable=[STATISTICS])
  np.testing.assert_allclose(
    found[..., 0], [[-1, 1], [-1, 1]], atol=1e-4, rtol=0
  )
  # Means 2 and 30; unbiased variances 2 and 800, on from 0 and 1.
  running = changed[STATISTICS]
  np.testing.assert_allclose(running['mean'], [(0 + 2) / 4 + 30 / 2])
  np.testing.assert_allclose(running['var'], [(1 + 2) / 4 + 800 / 2])
  played = norm.apply(changed, x, False)
  expected = (50 - 15.5) / np.sqrt(400.75 + 1e-5)
  np.testing.assert_allclose(played[1, 1, 0], expected, rtol=1e-6)


def test_means_count_the_zeros_around_a_frame():
  x = jnp.ones((1, 1, 3, 3, 1))
  np.testing.assert_allclose(
    ficc_blocks.halved(x)[0, 0, :, :, 0], np.full((2, 2), 4 / 9)
  )


def test_codes_are_the_nearest_and_let_gradients_through():
  codebook = jnp.array([[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
  latents = jnp.array([[0.9, 0.8], [0.2, 0.4]])
  codes, rows = ficc_blocks.quantised(codebook, latents)
  # The lowest number of equals.
  np.testing.assert_array_equal(codes, [1, 0])
  np.testing.assert_array_equal(rows, [[1, 1], [0, 0]])

  def loss(latents, codebook):
    _, rows = ficc_blocks.quantised(codebook, latents)
    weights = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    return (weights * ficc_blocks.straight_through(latents, rows)).sum()

  to_latents, to_codes = jax.grad(loss, (0, 1))(latents, codebook)
  np.testing.assert_array_equal(to_latents, [[1, 2], [3, 4]])
  np.testing.assert_array_equal(to_codes, np.zeros((3, 2)))
  np.testing.assert_allclose(loss(latents, codebook), 3.0, rtol=1e-6)


@pytest.mark.parametrize(
  ('field', 'sizes'),
  [
    ('channels=9', dict(channels=9)),
    ('channels=12', dict(channels=12, bottleneck=True)),
    ('num_codes=0', dict(num_codes=0)),
    ('decoder_channels=-1', dict(decoder_channels=-1)),
  ],
)
def test_sizes_that_cannot_be(field, sizes):
  with pytest.raises(ValueError, match=field):
    FiccNetwork(**sizes)


@pytest.mark.slow
@pytest.mark.parametrize('bottleneck', [False, True])
def test_operations_by_formula_are_those_of_the_program(bottleneck):
  config = FiccNetwork(bottleneck=bottleneck)
  networks, steps = Networks(config), 2
  params = jax.eval_shape(
    lambda key: nn.meta.unbox(ficc.init(networks, key)), jax.random.key(0)
  )
  start = jax.ShapeDtypeStruct((1, 84, 84, 4), jnp.float32)
  stacks = jax.ShapeDtypeStruct((steps, *start.shape), jnp.float32)

  def watch(params, stacks, start):
    return ficc.run(networks, params, 'watch', stacks, start, False)

  # On a CPU, wider kernels with zeros take the place of transposed ones.
  traced = jax.jit(watch).trace(params, stacks, start)
  program = traced.lower(lowering_platforms=('cuda',)).cost_analysis()
  formula = sum(ficc_flops.watching(config, steps).values())
  # The program leaves out what meets the zeros around a frame.
  assert 0.95 < program['flops'] / formula < 1.05


@pytest.mark.slow
def test_doubling_is_a_transposed_convolution():
  keys = jax.random.split(jax.random.key(0), 3)
  x = jax.random.normal(keys[0], (2, 3, 5, 6, 4))
  plain = nn.ConvTranspose(7, (3, 3), (2, 2), ((1, 2), (1, 2)))
  params = plain.init(keys[1], x)
  weights = jax.random.normal(keys[2], (2, 3, 10, 12, 7))

  def loss(layer):
    return lambda params, x: (layer.apply(params, x) * weights).sum()

  ours = TwiceAsLarge(7)
  chex.assert_trees_all_equal_shapes(
    nn.meta.unbox(ours.init(keys[1], x)), params
  )
  chex.assert_trees_all_close(
    jax.grad(loss(ours), (0, 1))(params, x),
    jax.grad(loss(plain), (0, 1))(params, x),
    rtol=1e-5,
    atol=1e-5,
  )
  chex.assert_trees_all_close(
    ours.apply(params, x), plain.apply(params, x), atol=1e-5
  )
