"""The reader, on real data sets and on damaged copies of them."""

import json
import shutil

import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.collect import writer
from jowa_jax.data import rlds_atari
from jowa_jax.data.episodes import DataError
from jowa_jax.data.tf_libraries import tfds


@pytest.fixture
def copy(atari_data_dir, tmp_path):
  """A copy of Carnival's data set to damage."""
  path = writer.data_set_path(tmp_path, 'Carnival', 1)
  shutil.copytree(writer.data_set_path(atari_data_dir, 'Carnival', 1), path)
  return path


def test_reads_what_is_stored(full_episodes_dir):
  episodes = rlds_atari.load_episodes(full_episodes_dir, ['Carnival'])
  builder = tfds.builder_from_directory(
    writer.data_set_path(full_episodes_dir, 'Carnival', 1)
  )
  stored = list(builder.as_dataset(split='checkpoint_00'))
  assert len(episodes) == len(stored)
  legal = np.array(games.LEGAL_ACTIONS['Carnival'])
  for number, (episode, raw) in enumerate(zip(episodes, stored, strict=True)):
    steps = list(tfds.as_numpy(raw['steps']))
    terminals = [bool(step['is_terminal']) for step in steps]
    assert episode.terminated == terminals[-1]
    length = len(steps) - episode.terminated
    assert len(episode) == len(episode.frames) == length
    actions = legal[[step['action'] for step in steps]]
    np.testing.assert_array_equal(episode.actions, actions[:length])
    rewards = np.array([step['reward'] for step in steps])[:length]
    np.testing.assert_array_equal(episode.rewards, np.clip(rewards, -1, 1))
    assert episode.score == rewards.sum() > episode.rewards.sum()
    ends = (terminals + [False])[1:][:length]
    assert episode.ends.tolist() == ends
    assert episode.episode_id == number
    assert (episode.game, episode.run, episode.checkpoint) == ('Carnival', 1, 0)
    frames = np.empty((length, 84, 84), np.uint8)
    episode.decode(0, length, frames)
    np.testing.assert_array_equal(
      frames, [step['observation'][..., 0] for step in steps[:length]]
    )
  assert [episode.terminated for episode in episodes][-2:] == [True, False]


def test_selects_games_runs_and_checkpoints(atari_data_dir):
  load = rlds_atari.load_episodes
  episodes = load(atari_data_dir, 'Carnival,Assault')
  found = [(episode.game, episode.checkpoint) for episode in episodes]
  assert list(dict.fromkeys(found)) == [
    ('Carnival', 0),
    ('Carnival', 1),
    ('Assault', 0),
    ('Assault', 1),
  ]
  ids = [episode.episode_id for episode in episodes]
  assert ids == list(range(len(episodes)))
  below = atari_data_dir / writer.DATA_SET
  one = load(below, 'Assault', runs=[1], checkpoints=[1])
  assert {(episode.game, episode.checkpoint) for episode in one} == {
    ('Assault', 1)
  }
  assert sum(len(episode) for episode in one) == 120


def test_reads_the_highest_version(copy, tmp_path):
  shutil.copytree(copy, copy.with_name('0.9.0'))
  shutil.rmtree(copy.with_name('0.9.0') / 'features.json', ignore_errors=True)
  (copy.with_name('0.9.0') / 'dataset_info.json').write_text('{}')
  assert rlds_atari.load_episodes(tmp_path, 'Carnival')


@pytest.mark.parametrize(
  'arguments, message',
  [
    (dict(data_dir='nowhere'), 'nowhere is no directory: collect'),
    (dict(games='Pong'), r'no data set of Pong \(found: Assault, Carnival\)'),
    (dict(runs=[1, 3]), r'no run 3 of Carnival \(found: \[1\]\)'),
    (
      dict(checkpoints=[0, 7]),
      r"no split 'checkpoint_07' \(found: checkpoint_00, checkpoint_01\)",
    ),
  ],
)
def test_names_what_is_missing(atari_data_dir, arguments, message):
  arguments = dict(data_dir=atari_data_dir, games='Carnival') | arguments
  with pytest.raises(DataError, match=message):
    rlds_atari.load_episodes(**arguments)


def _shard(path):
  (shard,) = path.glob('*checkpoint_01.tfrecord*')
  return shard


def _cut(path):
  data = _shard(path).read_bytes()
  _shard(path).write_bytes(data[: len(data) // 2])


def _empty(path):
  _shard(path).write_bytes(b'')


def _remove(path):
  _shard(path).unlink()


def _flip(path):
  data = bytearray(_shard(path).read_bytes())
  data[len(data) // 2] ^= 1
  _shard(path).write_bytes(data)


@pytest.mark.parametrize('damage', [_cut, _empty, _remove, _flip])
def test_damaged_shard(copy, tmp_path, damage):
  damage(copy)
  # The other split is whole.
  assert rlds_atari.load_episodes(tmp_path, 'Carnival', checkpoints=[0])
  with pytest.raises(DataError, match='checkpoint_01.*again') as raised:
    rlds_atari.load_episodes(tmp_path, 'Carnival')
  assert str(copy) in str(raised.value)


@pytest.mark.parametrize('name', ['dataset_info.json', 'features.json'])
@pytest.mark.parametrize('damage', ['removed', 'cut'])
def test_damaged_description(copy, tmp_path, name, damage):
  if damage == 'removed':
    (copy / name).unlink()
  else:
    (copy / name).write_text((copy / name).read_text()[:50])
  with pytest.raises(DataError, match='again') as raised:
    rlds_atari.load_episodes(tmp_path, 'Carnival')
  assert str(copy) in str(raised.value)


def test_actions_of_another_game(copy, tmp_path):
  # Carnival has six minimal actions, Breakout four.
  path = writer.data_set_path(tmp_path, 'Breakout', 1)
  path.parent.parent.mkdir(exist_ok=True)
  copy.parent.rename(path.parent)
  with pytest.raises(DataError, match='holds Carnival_run_1, not Breakout_run'):
    rlds_atari.load_episodes(tmp_path, 'Breakout')
  info = path / 'dataset_info.json'
  info.write_text(info.read_text().replace('Carnival_run_1', 'Breakout_run_1'))
  with pytest.raises(DataError, match='Breakout has 4 minimal actions'):
    rlds_atari.load_episodes(tmp_path, 'Breakout')


def _store(output, steps, episodes):
  """Writes a data set of Pong with the given step features."""
  tfds.dataset_builders.store_as_tfds_dataset(
    name='other',
    config='Pong_run_1',
    version='1.0.0',
    data_dir=output,
    features=tfds.features.FeaturesDict(
      {
        'steps': tfds.features.Dataset(steps),
        'checkpoint_id': np.int64,
        'episode_id': np.int64,
        'episode_return': np.float32,
      }
    ),
    split_datasets={'checkpoint_00': list(enumerate(episodes))},
    disable_shuffling=True,
  )


def _features(size=84, dtype=np.int64):
  return {
    'observation': tfds.features.Image(
      shape=(size, size, 1), dtype=np.uint8, encoding_format='png'
    ),
    'action': dtype,
    'reward': np.float32,
    'is_terminal': np.bool_,
  }


def _episode(size=84, terminal=(False, True)):
  length = len(terminal)
  return {
    'checkpoint_id': 0,
    'episode_id': 0,
    'episode_return': 0.0,
    'steps': {
      'observation': np.zeros((length, size, size, 1), np.uint8),
      'action': np.zeros(length, np.int64),
      'reward': np.zeros(length, np.float32),
      'is_terminal': np.array(terminal),
    },
  }


def test_frames_of_another_size(tmp_path):
  _store(tmp_path, _features(64), [_episode(64)])
  with pytest.raises(DataError, match=r'observation .*\(64, 64, 1\)'):
    rlds_atari.load_episodes(tmp_path, 'Pong')


def test_feature_of_another_type(tmp_path):
  features = _features(dtype=np.float32)
  _store(tmp_path, features, [_episode()])
  with pytest.raises(DataError, match='action is float32'):
    rlds_atari.load_episodes(tmp_path, 'Pong')


def test_missing_feature(tmp_path):
  features, episode = _features(), _episode()
  del features['is_terminal'], episode['steps']['is_terminal']
  _store(tmp_path, features, [episode])
  with pytest.raises(DataError, match="no feature 'is_terminal'"):
    rlds_atari.load_episodes(tmp_path, 'Pong')


def test_not_rlds(tmp_path):
  tfds.dataset_builders.store_as_tfds_dataset(
    name='other',
    config='Pong_run_1',
    version='1.0.0',
    data_dir=tmp_path,
    features=tfds.features.FeaturesDict({'x': np.int64}),
    split_datasets={'checkpoint_00': [(0, {'x': 1})]},
  )
  with pytest.raises(DataError, match="is no RLDS data set .*'steps'"):
    rlds_atari.load_episodes(tmp_path, 'Pong')


def test_no_episodes(tmp_path):
  # All that happens in this one is being over.
  _store(tmp_path, _features(), [_episode(terminal=(True,))])
  with pytest.raises(DataError, match='has no episodes'):
    rlds_atari.load_episodes(tmp_path, 'Pong')


def test_steps_after_a_terminal_state(tmp_path):
  _store(tmp_path, _features(), [_episode(terminal=(False, True, False))])
  with pytest.raises(DataError, match='goes on after a terminal state'):
    rlds_atari.load_episodes(tmp_path, 'Pong')


def test_split_without_examples(copy, tmp_path):
  """Shard lengths of zero, as an interrupted conversion leaves them."""
  info = json.loads((copy / 'dataset_info.json').read_text())
  for split in info['splits']:
    split['shardLengths'] = ['0']
  (copy / 'dataset_info.json').write_text(json.dumps(info))
  with pytest.raises(DataError, match='Carnival_run_1.* has no episodes'):
    rlds_atari.load_episodes(tmp_path, 'Carnival')
