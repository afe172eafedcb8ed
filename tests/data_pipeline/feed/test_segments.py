"""Segments against hand-made arrays and against rlds.transformations.batch."""

import dataclasses

import cv2
import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.data.episodes import DataError
from jowa_jax.data.feed import dataset, segments
from jowa_jax.data.store import formats, stored
from jowa_jax.models.frame_stack import stack_frames
from jowa_jax.types import OPTIONAL_FIELDS


def _index(lengths, length, stride, padding='right'):
  cut = segments.Segmentation(lengths, length, stride, padding)
  index = cut.locate(np.arange(len(cut)))
  return index.episode.tolist(), index.start.tolist()


def test_starts():
  assert _index([9, 4, 1], 8, 4) == ([0, 0, 0, 1, 2], [0, 4, 8, 0, 0])
  assert _index([3], 8, 1) == ([0] * 3, [0, 1, 2])
  assert _index([], 8, 4) == ([], [])


def test_starts_of_left_padded_segments():
  """They end at T, T - 4...: the last transition is in one of them."""
  episodes, starts = _index([9, 4, 1], 8, 4, 'left')
  assert episodes == [0, 0, 0, 1, 2]
  assert [start + 8 for start in starts] == [9, 5, 1, 4, 1]


def test_segments_that_are_none():
  with pytest.raises(ValueError, match='stride is 0'):
    segments.Segmentation([3], 8, stride=0)
  with pytest.raises(ValueError, match='length is 0'):
    segments.Segmentation([3], 0, stride=1)
  with pytest.raises(ValueError, match="padding is 'both'"):
    segments.Segmentation([3], 8, 1, 'both')


@pytest.mark.parametrize('padding', ['right', 'left'])
@pytest.mark.parametrize('stride', [1, 3, 4, 9])
def test_every_step_is_in_a_segment_if_these_overlap(
  make_episode, padding, stride
):
  episodes = [make_episode(n, number=n) for n in (1, 3, 8, 17)]
  data = dataset.SegmentDataset(episodes, 8, stride, padding, OPTIONAL_FIELDS)
  batch = data.batch(np.arange(data.num_segments))
  seen = {
    (int(batch.episode_id[row]), int(batch.t[row]) + t)
    for row, t in np.argwhere(batch.mask)
  }
  every = {(n, t) for n in (1, 3, 8, 17) for t in range(n)}
  assert seen == every if stride <= 8 else seen < every


@pytest.mark.parametrize('padding', ['right', 'left'])
@pytest.mark.parametrize('stride', [1, 3, 9])
def test_segments_that_hold_a_reward(make_episode, padding, stride):
  episodes = [make_episode(n, number=n) for n in (1, 3, 8, 17, 40)]
  for i, episode in enumerate(episodes):
    rewards = np.zeros(len(episode), np.int8)
    rewards[len(rewards) // 3 :: 11] = (-1) ** i
    episodes[i] = dataclasses.replace(episode, rewards=rewards)
  data = dataset.SegmentDataset(episodes, 8, stride, padding)
  rewarded = data.rewarded()
  batch = data.batch(np.arange(data.num_segments))
  np.testing.assert_array_equal(rewarded, batch.rewards.any(1))
  assert rewarded.any() and not rewarded.all()


def test_padding_on_the_right(make_episode):
  episodes = [make_episode(4, number=7), make_episode(10, 'Pong', number=9)]
  episodes[1] = dataclasses.replace(
    episodes[1], rewards=np.array([1, 0, 0, -1, 1, 0, 1, 1, -1, 1], np.int8)
  )
  index = segments.SegmentIndex(np.array([1, 0]), np.array([8, 0]))
  batch = segments.read_segments(episodes, index, 8, OPTIONAL_FIELDS)
  assert batch.mask.sum(1).tolist() == [2, 4]
  assert batch.mask[0].tolist() == [True] * 2 + [False] * 6
  assert batch.rewards[0].tolist() == [-1, 1, 0, 0, 0, 0, 0, 0]
  assert batch.return_to_go[0].tolist() == [0, 1, 0, 0, 0, 0, 0, 0]
  assert batch.ends[0].tolist() == [False, True] + [False] * 6
  assert batch.actions[0, :2].tolist() == episodes[1].actions[8:].tolist()
  assert not batch.actions[0, 2:].any()
  assert not batch.observations[0, 2:].any()
  frame = cv2.imdecode(np.frombuffer(episodes[1].frames[9], np.uint8), 0)
  np.testing.assert_array_equal(batch.observations[0, 1], frame)
  assert batch.task.tolist() == [games.task_id('Pong'), 3]
  assert batch.episode_id.tolist() == [9, 7]
  assert batch.t.tolist() == [8, 0]
  dtypes = {
    name: array.dtype.name for name, array in batch.items() if array is not None
  }
  assert dtypes == {
    'observations': 'uint8',
    'actions': 'int32',
    'rewards': 'float32',
    'ends': 'bool',
    'mask': 'bool',
    'return_to_go': 'float32',
    'task': 'int32',
    'episode_id': 'int32',
    't': 'int32',
    'acted': 'bool',
  }


def test_what_nobody_asks_for_is_not_built(make_episode):
  def batch(**options):
    data = dataset.SegmentDataset([make_episode(9)], **options)
    return data.batch(np.arange(2))

  def optional(batch):
    return {name for name in OPTIONAL_FIELDS if batch[name] is not None}

  plain, whole = batch(), batch(fields=OPTIONAL_FIELDS)
  assert optional(plain) == set() and optional(whole) == OPTIONAL_FIELDS
  for name in OPTIONAL_FIELDS:
    assert optional(batch(fields=[name])) == {name}
  for name, array in plain.items():
    if array is not None:
      np.testing.assert_array_equal(array, whole[name], err_msg=name)
  with pytest.raises(
    ValueError, match=r"\['reward'\] are not in \['acted', 'episode_id'"
  ):
    batch(fields=['reward'])


def test_padding_on_the_left(make_episode):
  episode = make_episode(5, number=2)
  index = segments.SegmentIndex(np.array([0, 0]), np.array([-3, -7]))
  batch = segments.read_segments([episode], index, 8, OPTIONAL_FIELDS)
  assert batch.mask.tolist() == [[False] * 3 + [True] * 5, [False] * 7 + [True]]
  assert batch.t.tolist() == [-3, -7]
  assert batch.ends.tolist() == [[False] * 7 + [True], [False] * 8]
  assert batch.actions[0, 3:].tolist() == episode.actions.tolist()
  assert not batch.actions[0, :3].any() and not batch.observations[0, :3].any()
  assert batch.actions[1, 7] == episode.actions[0]
  assert batch.rewards[0, 3:].tolist() == episode.rewards.tolist()
  assert batch.return_to_go[1, 7] == episode.rewards.sum()
  frame = cv2.imdecode(np.frombuffer(episode.frames[0], np.uint8), 0)
  np.testing.assert_array_equal(batch.observations[0, 3], frame)
  np.testing.assert_array_equal(batch.observations[1, 7], frame)


def test_a_window_around_the_steps_with_a_loss(make_episode):
  """Two steps have a loss, two stand before them and one after."""
  episode = make_episode(5, number=2)
  data = dataset.SegmentDataset(
    [episode], 2, 2, 'right', OPTIONAL_FIELDS, history=2, lookahead=1
  )
  batch = data.batch(np.arange(3))
  assert batch.t.tolist() == [-2, 0, 2]
  assert batch.mask.astype(int).tolist() == [
    [0, 0, 1, 1, 1],  # steps 0 and 1, then 2
    [1, 1, 1, 1, 1],
    [1, 1, 1, 0, 0],  # step 4 alone, with 2 and 3 before it
  ]
  assert batch.train.astype(int).tolist() == [
    [0, 0, 1, 1, 0],
    [0, 0, 1, 1, 0],
    [0, 0, 1, 0, 0],
  ]
  assert batch.train.dtype == bool
  assert batch.ends.astype(int).tolist() == [
    [0] * 5,
    [0, 0, 0, 0, 1],
    [0, 0, 1, 0, 0],
  ]
  assert batch.actions[0].tolist() == [0, 0, *episode.actions[:3].tolist()]
  assert batch.rewards[2].tolist() == [*episode.rewards[2:].tolist(), 0, 0]
  assert batch.return_to_go[1].tolist() == episode.return_to_go().tolist()
  assert not batch.observations[0, :2].any()
  for row, place, step in ((0, 2, 0), (1, 0, 0), (1, 4, 4), (2, 0, 2)):
    frame = cv2.imdecode(np.frombuffer(episode.frames[step], np.uint8), 0)
    np.testing.assert_array_equal(batch.observations[row, place], frame)


def test_windows_of_tokens(make_episode):
  tokens = np.arange(10, dtype=np.uint16).reshape(5, 2)
  plain = dataset.SegmentDataset([make_episode(5)], 2, 2, history=1)
  episode = dataclasses.replace(plain.episodes[0], tokens=tokens)
  batch = plain.with_episodes([episode]).batch(np.array([0, 2]))
  assert batch.observations is None
  assert batch.tokens[:, :, 0].tolist() == [[0, 0, 2], [6, 8, 0]]
  assert batch.train.tolist() == [[False, True, True], [False, True, False]]
  assert plain.batch(np.array([0])).tokens is None


@pytest.mark.parametrize('padding', ['right', 'left'])
def test_a_reward_counts_where_there_is_a_loss(make_episode, padding):
  rewards = np.array([0, 0, 0, 1, 0, 0], np.int8)
  episode = dataclasses.replace(make_episode(6), rewards=rewards)
  data = dataset.SegmentDataset(
    [episode], 2, 2, padding, history=3, lookahead=3
  )
  # Read from the window before and after it as well.
  assert data.batch(np.arange(3)).rewards.any(1).all()
  assert data.rewarded().tolist() == [False, True, False]


def test_stacks_of_segments(make_episode):
  """Four steps with a loss move seven frames."""
  episode = make_episode(9)
  data = dataset.SegmentDataset([episode], 4, 4, history=3)
  batch = data.batch(np.arange(data.num_segments))
  assert batch.observations.shape[:2] == (3, 7)
  stacks = stack_frames(batch.observations, batch.mask, 3)
  assert stacks.shape == (3, 4, 84, 84, 4)
  frames = np.empty((9, 84, 84), np.uint8)
  episode.decode(0, 9, frames)
  frames = np.concatenate([np.zeros((3, 84, 84), np.uint8), frames])
  for row, t in np.argwhere(batch.train[:, 3:]):
    step = 4 * row + t
    np.testing.assert_array_equal(
      stacks[row, t], np.moveaxis(frames[step : step + 4], 0, -1)
    )


def test_return_to_go_counts_down(make_episode):
  episode = dataclasses.replace(
    make_episode(4), rewards=np.array([1, -1, 0, 1], np.int8)
  )
  assert episode.return_to_go().tolist() == [1, 0, 1, 1]
  assert episode.return_to_go(1, 3).tolist() == [0, 1]


def test_equals_rlds_batch(full_episodes_dir):
  """The checked path: nested steps, decoded and batched by rlds itself."""
  from jowa_jax.data.tf_libraries import rlds, tf, tfds

  episodes = stored.load_episodes(full_episodes_dir, 'Carnival')
  data = dataset.SegmentDataset(episodes, length=8, stride=4)
  ours = data.batch(np.arange(data.num_segments))
  builder = tfds.builder_from_directory(
    formats.data_set_path(full_episodes_dir, 'Carnival', 1)
  )
  legal = np.array(games.LEGAL_ACTIONS['Carnival'])
  row = 0
  for episode in builder.as_dataset(split='checkpoint_00'):
    steps = episode[rlds.STEPS]
    length = int(rlds.transformations.episode_length(steps))
    last = rlds.transformations.final_step(steps)
    if last[rlds.IS_TERMINAL]:
      length -= 1
      # transition t ended the episode if step t + 1 is terminal
      ends = steps.skip(1).map(lambda step: step[rlds.IS_TERMINAL])
      steps = tf.data.Dataset.zip((steps.take(length), ends)).map(
        lambda step, end: {**step, 'end': end}
      )
    else:
      steps = steps.map(lambda step: {**step, 'end': False})
    batches = rlds.transformations.batch(steps, size=8, shift=4)
    for batch in tfds.as_numpy(batches):
      count = len(batch[rlds.ACTION])
      assert ours.mask[row].tolist() == [t < count for t in range(8)]
      np.testing.assert_array_equal(
        ours.observations[row, :count], batch[rlds.OBSERVATION][..., 0]
      )
      np.testing.assert_array_equal(
        ours.actions[row, :count], legal[batch[rlds.ACTION]]
      )
      np.testing.assert_array_equal(
        ours.rewards[row, :count], np.clip(batch[rlds.REWARD], -1, 1)
      )
      np.testing.assert_array_equal(ours.ends[row, :count], batch['end'])
      row += 1
  assert row == data.num_segments
  assert ours.ends.any()


@pytest.mark.parametrize('damage', ['bytes', 'size', 'nothing'])
def test_damaged_frame(make_episode, damage):
  episode = make_episode(6, number=3)
  bad = {
    'bytes': b'\x89PNG\r\n\x1a\nhello',
    'size': cv2.imencode('.png', np.zeros((64, 64), np.uint8))[1].tobytes(),
    'nothing': b'',
  }
  episode.frames[4] = bad[damage]
  data = dataset.SegmentDataset([episode], length=2, stride=2)
  data.batch(np.array([0, 1]))
  with pytest.raises(DataError, match=r'Frame 4 of episode 3 \(Assault'):
    data.batch(np.array([2]))
