"""Frames as patches, and what their tokens may read."""

import numpy as np
import pytest

from jowa_jax.models.frame_tokens import patches, step_mask


def test_patches_are_rows_of_squares():
  frame = np.arange(24, dtype=np.uint8).reshape(4, 6)
  found = patches(frame[None], 2)
  assert found.shape == (1, 6, 4) and found.dtype == np.float32
  expected = [
    [0, 1, 6, 7],
    [2, 3, 8, 9],
    [4, 5, 10, 11],
    [12, 13, 18, 19],
    [14, 15, 20, 21],
    [16, 17, 22, 23],
  ]
  np.testing.assert_allclose(found[0] * 255, expected, rtol=1e-6)


def test_patches_fill_the_frame():
  with pytest.raises(ValueError, match='patch=4 does not divide.*4x6'):
    patches(np.zeros((1, 4, 6), np.uint8), 4)


def test_mask():
  """Steps of two patches, a return and an action."""
  rows = [
    'xx......',
    'xx......',
    'xxx.....',
    'xxxx....',
    'xxxxxx..',
    'xxxxxx..',
    'xxxxxx..',  # The second return is hidden, from itself, too.
    'xxxxxx.x',
  ]
  expected = np.array([[c == 'x' for c in row] for row in rows])
  np.testing.assert_array_equal(step_mask(2, 2, 4), expected[None])
