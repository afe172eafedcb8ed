"""The sampler is a function of (seed, step) that visits everything once."""

import numpy as np
import pytest

from jowa_jax.data.sampler import Sampler


def test_every_segment_once_per_epoch_across_batches():
  sampler = Sampler(num_segments=10, batch_size=4, seed=3)
  drawn = np.concatenate([sampler.indices(step) for step in range(15)])
  epochs = drawn.reshape(6, 10)
  for epoch in epochs:
    assert sorted(epoch) == list(range(10))
  assert len({tuple(epoch) for epoch in epochs}) == 6


def test_batch_larger_than_the_data():
  sampler = Sampler(num_segments=3, batch_size=8, seed=0)
  drawn = np.concatenate([sampler.indices(step) for step in range(3)])
  for epoch in drawn.reshape(8, 3):
    assert sorted(epoch) == [0, 1, 2]


def test_depends_on_seed_and_step_alone():
  first = Sampler(50, 8, seed=1)
  batches = [first.indices(step) for step in range(20)]
  again = Sampler(50, 8, seed=1)
  for step in (17, 3, 19, 0):
    np.testing.assert_array_equal(again.indices(step), batches[step])
  assert (Sampler(50, 8, seed=2).indices(0) != batches[0]).any()


def test_groups_are_drawn_equally():
  groups = np.array([5] * 4 + [9] * 40)
  sampler = Sampler(44, 6, seed=0, groups=groups)
  drawn = np.stack([sampler.indices(step) for step in range(40)])
  # Three of each in every batch of six, so 120 draws of each group.
  assert ((groups[drawn] == 5).sum(1) == 3).all()
  counts = np.bincount(drawn.ravel(), minlength=44)
  assert counts[:4].tolist() == [30] * 4
  assert counts[4:].tolist() == [3] * 40


def test_bad_sizes():
  with pytest.raises(ValueError, match='batches of 4 from 0 segments'):
    Sampler(0, 4, 0)
  with pytest.raises(ValueError, match='batches of 0 from 4 segments'):
    Sampler(4, 0, 0)
  with pytest.raises(ValueError, match=r'groups has shape \(3,\)'):
    Sampler(4, 2, 0, groups=[1, 2, 3])
