"""Frames encoded once."""

import numpy as np
import pytest

from jowa_jax.data import rlds_atari
from jowa_jax.data.dataset import SegmentDataset
from jowa_jax.data.tokens import encode_episodes


@pytest.fixture(scope='module')
def episodes(atari_data_dir):
  return rlds_atari.load_episodes(atari_data_dir, ('Assault', 'Carnival'))


def encode(frames):
  """Four numbers that differ from frame to frame."""
  return frames.reshape(len(frames), 4, -1).astype(np.int64).sum(-1) % 1000


def test_tokens_are_those_of_the_frames(episodes, tmp_path):
  shapes = []

  def counted(frames):
    shapes.append(frames.shape)
    return encode(frames)

  encoded = encode_episodes(
    episodes, counted, tmp_path / 'x.npy', batch_size=50, progress=False
  )
  assert set(shapes) == {(50, 84, 84)}
  pixels = SegmentDataset(episodes, 8, 4)
  tokens = SegmentDataset(encoded, 8, 4)
  indices = np.arange(pixels.num_segments)
  a, b = pixels.batch(indices), tokens.batch(indices)
  assert b.observations is None and a.tokens is None
  assert b.tokens.dtype == np.uint16
  expected = encode(a.observations.reshape(-1, 84, 84)).reshape(b.tokens.shape)
  np.testing.assert_array_equal(b.tokens, expected * a.mask[..., None])
  np.testing.assert_array_equal(a.actions, b.actions)


def test_the_cache_is_used_and_checked(episodes, tmp_path):
  path = tmp_path / 'deep' / 'x.npy'
  first = encode_episodes(episodes, encode, path, progress=False)

  def never(frames):
    raise AssertionError('encoded again')

  again = encode_episodes(episodes, never, path, progress=False)
  for a, b in zip(first, again, strict=True):
    np.testing.assert_array_equal(a.tokens, b.tokens)
  with pytest.raises(ValueError, match='x.npy'):
    encode_episodes(episodes[:1], never, path, progress=False)


def test_an_interruption_leaves_nothing(episodes, tmp_path):
  def fails(frames):
    raise RuntimeError('stop')

  with pytest.raises(RuntimeError):
    encode_episodes(episodes, fails, tmp_path / 'x.npy', progress=False)
  assert not list(tmp_path.iterdir())
