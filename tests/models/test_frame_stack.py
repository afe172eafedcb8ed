"""Stacks of frames, by hand and against recorded ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax.models.frame_stack import stack_frames
from tests.parity import fixtures


def test_stacks_by_hand():
  """Frames of one pixel; the first two stand before the episode."""
  frames = jnp.array([90, 91, 3, 4, 5, 6], jnp.uint8)[:, None, None]
  mask = jnp.array([False, False, True, True, True, True])
  stacks = jax.jit(stack_frames, static_argnums=2)(frames, mask, 2)
  assert stacks.shape == (4, 1, 1, 3) and stacks.dtype == jnp.uint8
  assert stacks[:, 0, 0].tolist() == [
    [0, 0, 3],
    [0, 3, 4],
    [3, 4, 5],
    [4, 5, 6],
  ]
  alone = stack_frames(frames, mask, 0)
  assert alone[:, 0, 0].tolist() == [[0], [0], [3], [4], [5], [6]]
  for history in (-1, 6):
    with pytest.raises(ValueError, match=f'history={history} .* 6 frames'):
      stack_frames(frames, mask, history)


def test_recorded_stacks():
  """What is recorded outside of `valid` is noise."""
  data = fixtures.load('nstep', fixtures.Q_LEARNING)
  valid, history = data['valid'], data['stack'].shape[2] - 1
  before = ((0, 0), (history, 0))
  frames = np.pad(data['frames'], (*before, (0, 0), (0, 0)))
  stacks = stack_frames(frames, np.pad(valid, before), history)
  stacks = np.moveaxis(np.asarray(stacks), -1, 2)
  np.testing.assert_array_equal(stacks[valid], data['stack'][valid])
