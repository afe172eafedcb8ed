"""Segments against hand-made arrays and against rlds.transformations.batch."""

import dataclasses

import cv2
import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.data import dataset, rlds_atari, segments
from jowa_jax.data.episodes import DataError


def test_starts():
  index = segments.index_segments([9, 4, 1], stride=4)
  assert index.episode.tolist() == [0, 0, 0, 1, 2]
  assert index.start.tolist() == [0, 4, 8, 0, 0]
  index = segments.index_segments([3], stride=1)
  assert index.start.tolist() == [0, 1, 2]
  with pytest.raises(ValueError, match='stride is 0'):
    segments.index_segments([3], stride=0)


def test_padding_on_the_right(make_episode):
  episodes = [make_episode(4, number=7), make_episode(10, 'Pong', number=9)]
  episodes[1] = dataclasses.replace(
    episodes[1], rewards=np.array([1, 0, 0, -1, 1, 0, 1, 1, -1, 1], np.float32)
  )
  index = segments.SegmentIndex(np.array([1, 0]), np.array([8, 0]))
  batch = segments.decode_segments(episodes, index, length=8)
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
  }


def test_return_to_go_counts_down(make_episode):
  episode = dataclasses.replace(
    make_episode(4), rewards=np.array([1, -1, 0, 1], np.float32)
  )
  assert episode.return_to_go.tolist() == [1, 0, 1, 1]


def test_equals_rlds_batch(full_episodes_dir):
  """The checked path: nested steps, decoded and batched by rlds itself."""
  from jowa_jax.collect import writer
  from jowa_jax.data.tf_libraries import rlds, tf, tfds

  episodes = rlds_atari.load_episodes(full_episodes_dir, 'Carnival')
  data = dataset.SegmentDataset(episodes, length=8, stride=4)
  ours = data.batch(np.arange(data.num_segments))
  builder = tfds.builder_from_directory(
    writer.data_set_path(full_episodes_dir, 'Carnival', 1)
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
