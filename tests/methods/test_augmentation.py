"""Crops and rotations of frames, against hand-moved ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax.methods.augmentation import (
  AugmentationConfig,
  augmentation,
  move,
)
from jowa_jax.types import Segment

FRAMES = np.random.default_rng(0).integers(0, 256, (2, 5, 5)).astype(np.uint8)
STILL = np.zeros(2, np.int32)


def segments(rows=4, steps=3):
  frames = np.random.default_rng(1).integers(0, 256, (rows, 1, 84, 84))
  return Segment(
    observations=np.repeat(frames, steps, 1).astype(np.uint8),
    actions=np.zeros((rows, steps), np.int32),
    rewards=np.zeros((rows, steps), np.float32),
    ends=np.zeros((rows, steps), bool),
    mask=np.ones((rows, steps), bool),
    task=np.zeros(rows, np.int32),
  )


def test_nothing_moved_is_the_same():
  moved = jax.jit(move)(FRAMES, STILL, jnp.float32(0))
  assert moved.dtype == jnp.float32
  np.testing.assert_array_equal(moved, FRAMES)


def test_a_shift_repeats_the_edge():
  shift = np.array([1, -2], np.int32)
  moved = move(FRAMES, shift, jnp.float32(0))
  padded = np.pad(FRAMES, ((0, 0), (2, 2), (2, 2)), 'edge')
  np.testing.assert_array_equal(moved, padded[:, 3:8, 0:5])


def test_a_quarter_turn():
  """A positive angle turns what is shown clockwise."""
  moved = move(FRAMES, STILL, jnp.float32(np.pi / 2))
  expected = np.stack([np.rot90(frame, -1) for frame in FRAMES])
  np.testing.assert_allclose(moved, expected, atol=1e-2)


def test_between_pixels_values_are_interpolated():
  """By 45 degrees, the pixel above the centre comes from between four."""
  moved = move(FRAMES[:1], STILL, jnp.float32(np.pi / 4))[0]
  far = 0.5**0.5  # above the centre and left of it
  corners = FRAMES[0, 1:3, 1:3].astype(float)
  weights = np.array([far, 1 - far])
  np.testing.assert_allclose(
    moved[1, 2], weights @ corners @ weights, atol=1e-2
  )
  np.testing.assert_allclose(moved[2, 2], FRAMES[0, 2, 2], atol=1e-3)


def test_all_frames_of_a_segment_move_alike():
  config = AugmentationConfig(crop=4, rotation=5.0)
  batch = segments()
  augment = jax.jit(augmentation(config))
  moved, metrics = augment(None, batch, jax.random.key(0), 0)
  frames = np.asarray(moved.observations)
  assert frames.shape == batch.observations.shape and not metrics
  np.testing.assert_array_equal(frames[:, :1], frames[:, 1:2])
  # Every segment by an offset and an angle of its own; others stay as they are.
  assert (frames != batch.observations).any((1, 2, 3)).all()
  assert frames.min() >= 0 and frames.max() <= 255
  np.testing.assert_array_equal(moved.actions, batch.actions)


@pytest.mark.slow
def test_offsets_reach_both_ends():
  config = AugmentationConfig(crop=1)
  ramp = np.zeros((64, 1, 84, 84), np.uint8) + np.arange(84, dtype=np.uint8)
  batch = segments(64, 1).replace(observations=ramp)
  moved, _ = augmentation(config)(None, batch, jax.random.key(0), 0)
  steps = moved.observations[:, 0, 40, 40] - 40
  assert set(np.asarray(steps).tolist()) == {-1, 0, 1}


def test_none_without_a_size():
  assert augmentation(AugmentationConfig()) is None


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    (dict(crop=-1), 'crop=-1 is negative'),
    (dict(rotation=200.0), 'rotation=200.0 is not in'),
  ],
)
def test_bad_sizes(fields, message):
  with pytest.raises(ValueError, match=message):
    AugmentationConfig(**fields)
