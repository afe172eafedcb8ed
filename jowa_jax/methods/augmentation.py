"""Random crops and rotations of frames, on the device.

The paper augments the frames of decision transformers and says no sizes
(appendix E); these are ours. All frames of a segment are moved alike.
"""

import dataclasses
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from jowa_jax.methods.base import Metrics, Variables
from jowa_jax.types import Segment

Augment = Callable[
  [Variables, Segment, chex.PRNGKey, chex.Array], tuple[Segment, Metrics]
]


@dataclasses.dataclass(frozen=True)
class AugmentationConfig:
  """How far frames are moved while their loss is learned from.

  Attributes:
    crop: pixels that a frame is shifted by at most, up or down and to either
      side; edges are repeated.
    rotation: degrees that it is turned by at most, about its centre, either
      way.
  """

  crop: int = 0
  rotation: float = 0.0

  def __post_init__(self):
    if self.crop < 0:
      raise ValueError(f'crop={self.crop} is negative')
    if not 0 <= self.rotation <= 180:
      raise ValueError(f'rotation={self.rotation} is not in [0, 180]')


def augmentation(config: AugmentationConfig) -> Augment | None:
  """What `Objective.augment` is to be, None where nothing is moved.

  Frames become float32, in the same units: nothing is rounded.
  """
  if not config.crop and not config.rotation:
    return None

  def augment(variables, segments, key, step):
    del variables, step
    keys = jax.random.split(key)
    rows = len(segments.task)
    shifts = jax.random.randint(
      keys[0], (rows, 2), -config.crop, config.crop + 1
    )
    degrees = config.rotation
    angles = jax.random.uniform(
      keys[1], (rows,), minval=-degrees, maxval=degrees
    )
    moved = jax.vmap(move)(segments.observations, shifts, jnp.deg2rad(angles))
    return segments.replace(observations=moved), {}

  return augment


def move(
  frames: chex.Array, shift: chex.Array, angle: chex.Array
) -> chex.Array:
  """Frames shifted, then turned about their centre, [T, H, W] float32.

  What comes in from outside repeats the edge; between pixels, values are
  interpolated linearly in both directions.

  Args:
    frames: [T, H, W].
    shift: [2] int32, rows and columns from a pixel to the one it shows.
    angle: [] radians.
  """
  chex.assert_rank([frames, shift, angle], [3, 1, 0])
  height, width = frames.shape[1:]
  rows = jnp.arange(height, dtype=jnp.float32)[:, None] - (height - 1) / 2
  columns = jnp.arange(width, dtype=jnp.float32) - (width - 1) / 2
  sine, cosine = jnp.sin(angle), jnp.cos(angle)
  y = cosine * rows - sine * columns + (height - 1) / 2
  x = sine * rows + cosine * columns + (width - 1) / 2
  top, left = jnp.floor(y), jnp.floor(x)
  flat = frames.astype(jnp.float32).reshape(len(frames), -1)

  def pixels(y, x):
    # The frame that is turned has edges of its own, repeated, too.
    y = jnp.clip(jnp.clip(y, 0, height - 1) + shift[0], 0, height - 1)
    x = jnp.clip(jnp.clip(x, 0, width - 1) + shift[1], 0, width - 1)
    return flat[:, y * width + x]  # [T, H, W]

  moved = jnp.zeros(frames.shape, jnp.float32)
  for down in (0, 1):
    for right in (0, 1):
      weight = (y - top if down else 1 - (y - top)) * (
        x - left if right else 1 - (x - left)
      )
      corner = pixels(
        top.astype(jnp.int32) + down, left.astype(jnp.int32) + right
      )
      moved += weight * corner
  return moved
