"""The reader, on real data sets and on damaged copies of them."""

import json
import shutil

import numpy as np
import pytest

from jowa_jax.data.episodes import DataError
from jowa_jax.data.source import Split
from jowa_jax.data.sources.rlds_atari import RldsSource
from jowa_jax.data.store import formats, writer
from jowa_jax.data.tf_libraries import tfds
from tests.cases import quick


@pytest.fixture
def copy(atari_data_dir, tmp_path):
  """A copy of Carnival's data set to damage."""
  path = formats.data_set_path(tmp_path, 'Carnival', 1)
  shutil.copytree(formats.data_set_path(atari_data_dir, 'Carnival', 1), path)
  return path


def _read(root, game, checkpoint=None):
  """Reads all of a game, or one checkpoint."""
  source = RldsSource(str(root))
  episodes = []
  for split in source.splits(game):
    if checkpoint in (None, split.checkpoint):
      lengths = source.lengths(split)
      chosen = [place for place, length in enumerate(lengths) if length]
      episodes += source.episodes(split, chosen)
  return episodes


def test_reads_what_is_stored(full_episodes_dir):
  source = RldsSource(str(full_episodes_dir))
  (split,) = source.splits('Carnival')
  assert split == Split('Carnival', 1, 0)
  lengths = source.lengths(split)
  episodes = list(source.episodes(split, range(len(lengths))))
  builder = tfds.builder_from_directory(
    formats.data_set_path(full_episodes_dir, 'Carnival', 1)
  )
  stored = list(builder.as_dataset(split='checkpoint_00'))
  assert len(episodes) == len(stored) == len(lengths)
  for raw, example, length in zip(episodes, stored, lengths, strict=True):
    steps = list(tfds.as_numpy(example['steps']))
    terminals = [bool(step['is_terminal']) for step in steps]
    assert raw.terminated == terminals[-1]
    assert length == len(steps) - raw.terminated == len(raw.actions)
    actions = [step['action'] for step in steps][:length]
    np.testing.assert_array_equal(raw.actions, actions)
    rewards = [step['reward'] for step in steps][:length]
    np.testing.assert_array_equal(raw.rewards, rewards)
    assert len(raw.frames) == len(steps)
    assert raw.frames[0].startswith(b'\x89PNG')
  assert [raw.terminated for raw in episodes][-2:] == [True, False]
  (size,) = source.files(split).values()
  assert size > sum(len(frame) for raw in episodes for frame in raw.frames)


def test_reads_the_chosen_episodes_alone(full_episodes_dir):
  source = RldsSource(str(full_episodes_dir))
  (split,) = source.splits('Carnival')
  everything = list(source.episodes(split, range(len(source.lengths(split)))))
  for chosen in ([], [1], [0, 2]):
    some = list(source.episodes(split, chosen))
    assert len(some) == len(chosen)
    for place, raw in zip(chosen, some, strict=True):
      assert raw.frames == everything[place].frames


def test_finds_games_runs_and_checkpoints(atari_data_dir):
  for root in (atari_data_dir, atari_data_dir / formats.EPISODES):
    source = RldsSource(str(root))
    for game in ('Assault', 'Carnival'):
      assert source.splits(game) == [Split(game, 1, 0), Split(game, 1, 1)]


def test_reads_the_highest_version(copy, tmp_path):
  shutil.copytree(copy, copy.with_name('0.9.0'))
  (copy.with_name('0.9.0') / 'dataset_info.json').write_text('{}')
  assert _read(tmp_path, 'Carnival')


def test_names_what_is_missing(atari_data_dir):
  with pytest.raises(DataError, match='nowhere is no directory: collect'):
    RldsSource('nowhere').splits('Pong')
  message = r'no data set of Berzerk \(found: Assault, Carnival\).*dqn_replay'
  with pytest.raises(DataError, match=message):
    RldsSource(str(atari_data_dir)).splits('Berzerk')


def test_splits_of_another_kind(copy, tmp_path):
  shard = _shard(copy)
  shard.rename(shard.with_name(shard.name.replace('checkpoint_01', 'train')))
  info = copy / 'dataset_info.json'
  info.write_text(info.read_text().replace('checkpoint_01', 'train'))
  with pytest.raises(DataError, match="a split 'train': this reader takes"):
    RldsSource(str(tmp_path)).splits('Carnival')


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


@pytest.mark.parametrize('damage', quick((_cut, _empty, _remove, _flip), _cut))
def test_damaged_shard(copy, tmp_path, damage):
  damage(copy)
  # The other split is whole.
  assert _read(tmp_path, 'Carnival', checkpoint=0)
  with pytest.raises(DataError, match='checkpoint_01.*again') as raised:
    _read(tmp_path, 'Carnival')
  assert str(copy) in str(raised.value)


@pytest.mark.parametrize('name', ['dataset_info.json', 'features.json'])
@pytest.mark.parametrize('damage', ['removed', 'cut'])
def test_damaged_description(copy, tmp_path, name, damage):
  if damage == 'removed':
    (copy / name).unlink()
  else:
    (copy / name).write_text((copy / name).read_text()[:50])
  with pytest.raises(DataError, match='again') as raised:
    _read(tmp_path, 'Carnival')
  assert str(copy) in str(raised.value)


def test_actions_of_another_game(copy, tmp_path):
  # Carnival has six minimal actions, Breakout four.
  path = formats.data_set_path(tmp_path, 'Breakout', 1)
  path.parent.parent.mkdir(exist_ok=True)
  copy.parent.rename(path.parent)
  with pytest.raises(DataError, match='holds Carnival_run_1, not Breakout_run'):
    _read(tmp_path, 'Breakout')
  info = path / 'dataset_info.json'
  info.write_text(info.read_text().replace('Carnival_run_1', 'Breakout_run_1'))
  with pytest.raises(DataError, match='Breakout has 4 minimal actions'):
    writer.write_split(
      tmp_path / 'x',
      Split('Breakout', 1, 0),
      enumerate(_read(tmp_path, 'Breakout')),
    )


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
    _read(tmp_path, 'Pong')


def test_feature_of_another_type(tmp_path):
  features = _features(dtype=np.float32)
  _store(tmp_path, features, [_episode()])
  with pytest.raises(DataError, match='action is float32'):
    _read(tmp_path, 'Pong')


def test_missing_feature(tmp_path):
  features, episode = _features(), _episode()
  del features['is_terminal'], episode['steps']['is_terminal']
  _store(tmp_path, features, [episode])
  with pytest.raises(DataError, match="no feature 'is_terminal'"):
    _read(tmp_path, 'Pong')


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
    _read(tmp_path, 'Pong')


def test_an_episode_in_which_nothing_happens(tmp_path):
  # All that happens in the first one is being over.
  _store(tmp_path, _features(), [_episode(terminal=(True,)), _episode()])
  source = RldsSource(str(tmp_path))
  (split,) = source.splits('Pong')
  assert source.lengths(split) == [0, 1]
  assert len(list(source.episodes(split, [1]))) == 1


def test_steps_after_a_terminal_state(tmp_path):
  _store(tmp_path, _features(), [_episode(terminal=(False, True, False))])
  with pytest.raises(DataError, match='goes on after a terminal state'):
    _read(tmp_path, 'Pong')


def test_split_without_examples(copy, tmp_path):
  """Shard lengths of zero, as an interrupted conversion leaves them."""
  info = json.loads((copy / 'dataset_info.json').read_text())
  for split in info['splits']:
    split['shardLengths'] = ['0']
  (copy / 'dataset_info.json').write_text(json.dumps(info))
  assert _read(tmp_path, 'Carnival') == []
