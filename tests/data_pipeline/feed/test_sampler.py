"""The sampler is a function of (seed, step) that visits everything once."""

import hashlib

import numpy as np
import pytest

from jowa_jax.data.feed.sampler import (
  Marked,
  MarkedShareSampler,
  Sampler,
  shuffled,
)


def test_every_segment_once_per_epoch_across_batches():
  sampler = Sampler([10], batch_size=4, seed=3)
  drawn = np.concatenate([sampler.indices(step) for step in range(15)])
  epochs = drawn.reshape(6, 10)
  for epoch in epochs:
    assert sorted(epoch) == list(range(10))
  assert len({tuple(epoch) for epoch in epochs}) == 6


def test_batch_larger_than_the_data():
  sampler = Sampler([3], batch_size=8, seed=0)
  drawn = np.concatenate([sampler.indices(step) for step in range(3)])
  for epoch in drawn.reshape(8, 3):
    assert sorted(epoch) == [0, 1, 2]


def test_depends_on_seed_and_step_alone():
  first = Sampler([50], 8, seed=1)
  batches = [first.indices(step) for step in range(20)]
  again = Sampler([50], 8, seed=1)
  for step in (17, 3, 19, 0):
    np.testing.assert_array_equal(again.indices(step), batches[step])
  assert (Sampler([50], 8, seed=2).indices(0) != batches[0]).any()


@pytest.mark.parametrize('weights', [None, (1, 1, 1), (5, 1, 2.5)])
def test_processes_share_the_batches_of_one(weights):
  sampler = Sampler([7, 100, 31], 12, 4, weights)
  for step in (0, 1, 50):
    whole = sampler.indices(step)
    for processes in (1, 2, 3, 4, 12):
      shares = [sampler.indices(step, i, processes) for i in range(processes)]
      assert {len(share) for share in shares} == {12 // processes}
      np.testing.assert_array_equal(np.concatenate(shares), whole)


def test_segments_of_all_groups_are_drawn_equally_often_without_weights():
  sampler = Sampler([4, 40], 11, seed=0)
  drawn = np.concatenate([sampler.indices(step) for step in range(12)])
  assert np.bincount(drawn).tolist() == [3] * 44


def test_equal_weights():
  sampler = Sampler([4, 40], 6, seed=0, weights=(2, 2))
  drawn = np.stack([sampler.indices(step) for step in range(40)])
  # Three of each in every batch of six, so 120 draws of each group.
  assert ((drawn < 4).sum(1) == 3).all()
  counts = np.bincount(drawn.ravel(), minlength=44)
  assert counts[:4].tolist() == [30] * 4
  assert counts[4:].tolist() == [3] * 40


def test_weights_are_kept_and_evenly_spread():
  sampler = Sampler([10, 20, 30], 100, seed=0, weights=(1, 2, 5))
  drawn = np.stack([sampler.indices(step) for step in range(100)])
  groups = np.searchsorted([10, 30], drawn, side='right')
  shares = np.stack([(groups == g).mean(1) for g in range(3)], axis=1)
  np.testing.assert_allclose(shares.mean(0), np.array([1, 2, 5]) / 8, atol=1e-3)
  assert np.abs(shares - shares.mean(0)).max() <= 0.011
  # Each group goes through all of its segments before any comes again.
  for group, (first, size) in enumerate(((0, 10), (10, 20), (30, 30))):
    mine = drawn[groups == group] - first
    whole = mine[: len(mine) // size * size].reshape(-1, size)
    assert (np.sort(whole, axis=1) == np.arange(size)).all()


@pytest.mark.parametrize('size', [1, 2, 3, 4, 5, 16, 17, 1000, 4097])
def test_a_shuffle_is_a_permutation(size):
  for key in ((0,), (1, 2, 3)):
    order = shuffled(np.arange(size), size, key)
    assert sorted(order.tolist()) == list(range(size))


def test_shuffles_are_as_good_as_random_ones():
  """Against what independent uniform permutations would give."""
  size, count = 1000, 400
  orders = np.stack(
    [shuffled(np.arange(size), size, (7, i)) for i in range(count)]
  )
  # Every value is equally often in every tenth of the places.
  tenths = np.zeros((size, 10), int)
  np.add.at(tenths, (orders, np.arange(size)[None] // 100), 1)
  chi_squared = ((tenths - count / 10) ** 2 / (count / 10)).sum()
  degrees = size * 9
  assert abs(chi_squared - degrees) < 6 * np.sqrt(2 * degrees)
  # Neighbours are strangers, within an order and between two orders.
  steps = np.abs(np.diff(orders, axis=1)).mean()
  assert abs(steps - size / 3) < 3
  correlations = [
    np.corrcoef(a, b)[0, 1] for a, b in zip(orders, orders[1:], strict=False)
  ]
  assert abs(np.mean(correlations)) < 6 / np.sqrt(size * count)
  # A random permutation has one fixed point on average.
  fixed = (orders == np.arange(size)).sum(1).mean()
  assert abs(fixed - 1) < 6 / np.sqrt(count)


def test_the_first_batches_are_those_of_every_machine():
  """A change of this hash is a change of every run's data."""
  sampler = Sampler([1000, 37_500_000], 512, seed=5, weights=(1, 3))
  batches = np.stack([sampler.indices(step) for step in (0, 1, 10**9)])
  digest = hashlib.sha256(batches.astype('<i8').tobytes()).hexdigest()
  assert digest[:16] == '7f9d65d2acb5485b'


@pytest.mark.parametrize('size', [1, 63, 64, 65, 1000])
def test_marks_are_found_by_rank(size):
  for share in (0.02, 0.5, 1.0):
    marks = np.random.default_rng(size).random(size) < share
    marks[-1] = True
    marked = Marked(marks)
    assert len(marked) == marks.sum()
    ranks = np.random.default_rng(0).permutation(len(marked))
    np.testing.assert_array_equal(
      marked.find(ranks), np.flatnonzero(marks)[ranks]
    )
  assert len(Marked(np.zeros(size, bool))) == 0


# Groups of 7, 100 and 31 segments, of which 2, 50 and 5 are marked.
GROUPS = np.repeat([0, 1, 2], [7, 100, 31])
MARKS = np.zeros(138, bool)
MARKS[[1, 5]] = MARKS[7:107:2] = MARKS[110:115] = True


def _marked_share(batch_size=12, weights=None, share=0.25, seed=4):
  return MarkedShareSampler(
    [7, 100, 31], batch_size, seed, weights, MARKS, share
  )


def _marked_draws(batches, share):
  """Splits draws, one in `share` marked, in the order of the draws."""
  drawn = {True: [], False: []}
  for step, batch in enumerate(batches):
    rows = shuffled(np.arange(len(batch)), len(batch), (4, step, 2))
    for row in np.argsort(rows):
      draw = step * len(batch) + rows[row]
      of_marked = (draw + 1) // share > draw // share
      drawn[of_marked].append(batch[row])
  return np.array(drawn[True]), np.array(drawn[False])


@pytest.mark.slow
def test_the_share_of_marked_draws_is_exact_in_every_batch():
  """The rest is what there is without a share."""
  for weights in (None, (1, 1, 2)):
    sampler = _marked_share(weights=weights)
    batches = [sampler.indices(step) for step in range(400)]
    marked, rest = _marked_draws(batches, 4)
    assert (len(marked), len(rest)) == (3 * 400, 9 * 400)
    np.testing.assert_array_equal(
      rest, Sampler([7, 100, 31], 12, 4, weights).draw(np.arange(9 * 400))
    )
    # Groups come as often as otherwise: by their segments, or by weight.
    groups = GROUPS[marked]
    shares = np.array(weights or (7, 100, 31)) / sum(weights or (7, 100, 31))
    np.testing.assert_allclose(
      np.bincount(groups) / len(groups), shares, atol=2e-3
    )
    # Without replacement within an epoch of the group's marks.
    for group, count in enumerate((2, 50, 5)):
      mine = marked[groups == group]
      whole = mine[: len(mine) // count * count].reshape(-1, count)
      epochs = np.sort(whole, axis=1)
      assert (epochs == np.flatnonzero(MARKS & (GROUPS == group))).all()


def test_a_share_that_does_not_divide_a_batch_holds_over_batches():
  sampler = _marked_share(batch_size=5, share=1 / 3)
  batches = [sampler.indices(step) for step in range(300)]
  marked, rest = _marked_draws(batches, 3)
  assert (len(marked), len(rest)) == (500, 1000) and MARKS[marked].all()
  only = _marked_share(batch_size=5, share=1.0)
  assert all(MARKS[only.indices(step)].all() for step in range(50))


@pytest.mark.slow
def test_marked_draws_are_spread_over_the_rows():
  """Half of a batch is imagined, or on another device: no row is favoured."""
  sampler = _marked_share(batch_size=4, share=0.5)
  rows = np.mean([MARKS[sampler.indices(step)] for step in range(4000)], axis=0)
  expected = 0.5 + 0.5 * MARKS.mean()
  assert np.abs(rows - expected).max() < 5 * np.sqrt(0.25 / 4000)


@pytest.mark.parametrize('weights', [None, (5, 1, 2.5)])
def test_a_marked_share_is_a_function_of_seed_step_and_process(weights):
  sampler = _marked_share(weights=weights)
  batches = [sampler.indices(step) for step in range(20)]
  for step in (17, 3, 19, 0):
    np.testing.assert_array_equal(
      _marked_share(weights=weights).indices(step), batches[step]
    )
    for processes in (2, 3, 12):
      shares = [sampler.indices(step, i, processes) for i in range(processes)]
      np.testing.assert_array_equal(np.concatenate(shares), batches[step])
  other = _marked_share(weights=weights, seed=5)
  assert (other.indices(0) != batches[0]).any()
  with pytest.raises(ValueError, match='does not divide over 5 processes'):
    sampler.indices(0, 0, 5)


def test_bad_arguments():
  with pytest.raises(ValueError, match=r'batches of 4 from groups of \[0\]'):
    Sampler([0], 4, 0)
  with pytest.raises(ValueError, match='batches of 0 from'):
    Sampler([4], 0, 0)
  with pytest.raises(ValueError, match='2 groups need as many positive'):
    Sampler([4, 4], 2, 0, weights=[1])
  with pytest.raises(ValueError, match='positive weights'):
    Sampler([4, 4], 2, 0, weights=[1, 0])
  with pytest.raises(ValueError, match='does not divide over 3 processes'):
    Sampler([4], 2, 0).indices(0, 0, 3)
