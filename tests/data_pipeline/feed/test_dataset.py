"""Splits, medians and the identity of what was loaded."""

import dataclasses
import json

import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.data import episodes
from jowa_jax.data.feed import dataset


@pytest.fixture
def many(make_episode):
  """40 episodes of Assault in 4 checkpoints, 3 of Carnival in 3."""
  return [make_episode(1, checkpoint=i // 10, number=i) for i in range(40)] + [
    make_episode(1, 'Carnival', i, number=40 + i) for i in range(3)
  ]


def _ids(group):
  return {episode.episode_id for episode in group}


def test_split_takes_whole_episodes_from_every_game_and_checkpoint(many):
  training, held_out = episodes.split_episodes(many, 0.2, seed=0)
  assert _ids(training) | _ids(held_out) == set(range(43))
  assert not _ids(training) & _ids(held_out)
  held = [episode for episode in held_out if episode.game == 'Assault']
  assert [episode.checkpoint for episode in held] == [0, 0, 1, 1, 2, 2, 3, 3]
  assert len(held_out) == 8 + 1
  assert len({episode.game for episode in training}) == 2


def test_split_depends_on_its_arguments_alone(many):
  again = episodes.split_episodes(many, 0.2, seed=0)[1]
  assert _ids(episodes.split_episodes(many, 0.2, seed=0)[1]) == _ids(again)
  assert _ids(episodes.split_episodes(many, 0.2, seed=1)[1]) != _ids(again)


def test_split_limits(many, make_episode):
  assert episodes.split_episodes(many, 0.0, 0) == (many, [])
  training, held_out = episodes.split_episodes(many, 0.99, 0)
  assert {episode.game for episode in training} == {'Assault', 'Carnival'}
  with pytest.raises(ValueError, match='not in'):
    episodes.split_episodes(many, 1.0, 0)
  with pytest.raises(ValueError, match='Pong has one episode'):
    episodes.split_episodes([*many, make_episode(3, 'Pong')], 0.1, 0)


def test_identity_tells_data_sets_apart(make_episode):
  group = [make_episode(5), make_episode(9, terminated=False, number=1)]
  identity = dataset.SegmentDataset(group).identity()
  assert json.loads(json.dumps(identity)) == identity
  part = identity['games']['Assault']['run_1/checkpoint_00']
  assert part['episodes'] == 2 and part['full_episodes'] == 1
  assert part['steps'] == 14
  assert part['mean_return'] == group[0].score
  assert identity['segments'] == 2 + 3
  assert dataset.SegmentDataset(group).identity() == identity
  other = [dataclasses.replace(group[0], digest=bytes(16)), group[1]]
  checksum = dataset.SegmentDataset(other).identity()['checksum']
  assert checksum != identity['checksum']


def test_bad_arguments(make_episode):
  with pytest.raises(episodes.DataError, match='at least one episode'):
    dataset.SegmentDataset([])
  with pytest.raises(ValueError, match='length is 0'):
    dataset.SegmentDataset([make_episode(3)], length=0)
  for name in ('history', 'lookahead'):
    with pytest.raises(ValueError, match=f'{name} is -1'):
      dataset.SegmentDataset([make_episode(3)], **{name: -1})


def test_segments_of_a_game_follow_each_other(make_episode):
  group = [
    make_episode(5, 'Pong'),
    make_episode(3, 'Assault', number=1),
    make_episode(2, 'Pong', number=2),
  ]
  data = dataset.SegmentDataset(group, stride=2, fields={'episode_id'})
  assert data.games == {'Assault': 2, 'Pong': 3 + 1}
  batch = data.batch(np.arange(data.num_segments))
  pong, assault = games.task_id('Pong'), games.task_id('Assault')
  assert batch.task.tolist() == [assault] * 2 + [pong] * 4
  assert batch.episode_id.tolist() == [1, 1, 0, 0, 0, 2]
