"""Statistics of a data set, worked out by hand."""

import dataclasses

import cv2
import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.data.feed import statistics


def test_median_frames(make_episode):
  values = [10, 200, 20, 30, 220, 40, 50]
  group = []
  for part in (values[:3], values[3:]):
    frames = [
      cv2.imencode('.png', np.full((84, 84), value, np.uint8))[1].tobytes()
      for value in part
    ]
    episode = make_episode(len(part), 'Pong')
    group.append(dataclasses.replace(episode, frames=frames))
  medians = statistics.compute(['median_frames'], group)['median_frames']
  assert medians.shape == (60, 84, 84) and medians.dtype == np.uint8
  assert (medians[games.task_id('Pong')] == 40).all()
  assert medians.sum() == 40 * 84 * 84  # the other games are black
  # Of seven frames the first, the middle and the last: 10, 30 and 50.
  assert (statistics.median_frame(group, num_frames=3) == 30).all()


def _played(make_episode, game, rewards, actions):
  """An episode of these rewards and actions."""
  return dataclasses.replace(
    make_episode(len(rewards), game),
    rewards=np.array(rewards, np.int8),
    actions=np.array(actions, np.uint8),
  )


def test_action_counts_and_returns(make_episode):
  pong, freeway = games.task_id('Pong'), games.task_id('Freeway')
  group = [
    _played(make_episode, 'Pong', [1, 1, -1, 1], [0, 11, 11, 3]),
    _played(make_episode, 'Freeway', [0, 1, 0], [2, 2, 5]),
    _played(make_episode, 'Pong', [-1, -1, 0], [3, 17, 3]),
  ]
  names = ('action_counts', 'return_percentiles')
  found = statistics.compute(names, group)
  assert tuple(found) == names
  counts = found['action_counts']
  assert counts.shape == (60, 18) and counts.dtype == np.int32
  assert np.flatnonzero(counts[pong]).tolist() == [0, 3, 11, 17]
  assert counts[pong, [0, 3, 11, 17]].tolist() == [1, 3, 2, 1]
  assert counts[freeway, [2, 5]].tolist() == [2, 1] and counts.sum() == 10
  # Returns of Pong are 2 and -2: evenly from one to the other.
  returns = found['return_percentiles']
  assert returns.shape == (60, 101) and returns.dtype == np.float32
  assert returns[pong, [0, 25, 50, 100]].tolist() == [-2, -1, 0, 2]
  assert (returns[freeway] == 1).all()
  assert not np.delete(returns, [pong, freeway], axis=0).any()


def test_shapes_are_those_of_what_is_computed(make_episode):
  found = statistics.compute(statistics.STATISTICS, [make_episode(3)])
  shapes = statistics.shapes(statistics.STATISTICS)
  assert set(found) == set(shapes) == set(statistics.STATISTICS)
  for name, shape in shapes.items():
    assert (found[name].shape, found[name].dtype) == (shape.shape, shape.dtype)
  assert statistics.compute((), [make_episode(3)]) == {}


def test_a_statistic_that_there_is_not(make_episode):
  with pytest.raises(ValueError, match=r"\['means'\].*action_counts.*add them"):
    statistics.compute(['means'], [make_episode(3)])
