"""A plain ResNet of flax's own layers, to hold a training step against.

It has the blocks of an encoder, ends in a mean over places and a linear layer,
and learns to classify: what anybody would write first.
"""

import time
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jowa_jax import devices
from jowa_jax.bench import models
from jowa_jax.models.resnet import EXPANSION, ResNetConfig
from jowa_jax.types import FRAME_SHAPE

_CLASSES = 1000


class PlainResNet(nn.Module):
  """Images [N, H, W, C] -> logits [N, classes].

  Attributes:
    config: blocks, widths, groups and dtype of an encoder.
  """

  config: ResNetConfig

  @nn.compact
  def __call__(self, x: chex.Array) -> chex.Array:
    cfg, dtype = self.config, self.config.dtype

    def conv(x, features, kernel, stride=1):
      return nn.Conv(
        features, (kernel, kernel), stride, use_bias=False, dtype=dtype
      )(x)

    def norm(x):
      return nn.GroupNorm(cfg.norm_groups, dtype=dtype)(x)

    def block(x, features, stride):
      if cfg.bottleneck:
        y = nn.relu(norm(conv(x, features, 1)))
        y = nn.relu(norm(conv(y, features, 3, stride)))
        y = norm(conv(y, features * EXPANSION, 1))
      else:
        y = nn.relu(norm(conv(x, features, 3, stride)))
        y = norm(conv(y, features, 3))
      if x.shape != y.shape:
        x = norm(conv(x, y.shape[-1], 1, stride))
      return nn.relu(x + y)

    x = nn.relu(norm(conv(x.astype(dtype), cfg.width, 7, 2)))
    x = nn.max_pool(x, (3, 3), (2, 2), 'SAME')
    for i, (count, stride) in enumerate(
      zip(cfg.stage_sizes, cfg.stage_strides, strict=True)
    ):
      for j in range(count):
        x = block(x, cfg.width * 2**i, 1 if j else stride)
    return nn.Dense(_CLASSES, dtype=dtype)(x.mean((1, 2))).astype(jnp.float32)


def measure(
  config: ResNetConfig, batch_size: int, seconds: float
) -> dict[str, Any]:
  """How long a step of Adam on images takes, and what it computes.

  Args:
    config: of the encoder that it is as large as.
    batch_size: images of 84x84 pixels, as many channels as the encoder has.
    seconds: how long it is measured, at least.
  """
  network, tx = PlainResNet(config), optax.adam(2e-4)
  shape = (batch_size, *FRAME_SHAPE, config.stack)
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, shape, np.uint8)
  labels = rng.integers(0, _CLASSES, batch_size)

  def loss(params, images, labels):
    logits = network.apply(params, images.astype(jnp.float32) / 255)
    return optax.softmax_cross_entropy_with_integer_labels(
      logits, labels
    ).mean()

  def step(state, images, labels):
    params, moments = state
    value, gradients = jax.value_and_grad(loss)(params, images, labels)
    updates, moments = tx.update(gradients, moments, params)
    return (optax.apply_updates(params, updates), moments), value

  one = jax.ShapeDtypeStruct((1, *shape[1:]), jnp.float32)
  params = models.random_like(
    jax.eval_shape(network.init, jax.random.key(0), one)
  )
  state = params, tx.init(params)
  begun = time.perf_counter()
  compiled = (
    jax.jit(step, donate_argnums=0).lower(state, images, labels).compile()
  )
  compile_seconds = time.perf_counter() - begun

  def take():
    nonlocal state
    state, value = compiled(state, images, labels)
    return value

  return {
    'plain_seconds': models.seconds_per_call(take, seconds),
    'plain_flops': devices.cost(compiled)['flops'],
    'plain_params': sum(x.size for x in jax.tree.leaves(params)),
    'plain_compile_seconds': compile_seconds,
  }
