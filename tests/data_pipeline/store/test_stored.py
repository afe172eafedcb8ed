"""What is written is what is read, and damage to it is named."""

import errno
import json
import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.data.episodes import DataError, RawEpisode, digest, encode_png
from jowa_jax.data.feed import dataset
from jowa_jax.data.prepare import inspection
from jowa_jax.data.source import Split
from jowa_jax.data.sources.rlds_atari import RldsSource
from jowa_jax.data.store import formats, stored, writer
from jowa_jax.eval.records import read_rollouts
from tests.train.helpers import ROOT

SPLIT = Split('Pong', 2, 7)


def _raw(length, seed=0, terminated=True, extra=False):
  rng = np.random.default_rng((length, seed))
  frames = rng.integers(0, 256, (length + extra, 84, 84), np.uint8)
  return RawEpisode(
    frames=[encode_png(frame) for frame in frames],
    actions=rng.integers(0, 6, length).astype(np.int32),
    rewards=rng.choice([0, -1, 1, 5], length).astype(np.float32),
    terminated=terminated,
  )


EPISODES = {
  3: _raw(1),
  8: _raw(8, extra=True),
  9: _raw(21, terminated=False),
}


@pytest.fixture
def written(tmp_path):
  """Two checkpoints of Pong, finished."""
  work, out = tmp_path / 'work', tmp_path / 'out'
  other = Split('Pong', 2, 11)
  writer.write_split(work, SPLIT, EPISODES.items())
  writer.write_split(work, other, [(0, _raw(9, seed=1))])
  writer.finish_run(out, work, [other, SPLIT], {'source': 'a test'})
  return out


def test_reads_back_what_was_written(written):
  episodes = stored.load_episodes(written, 'Pong')
  assert [episode.checkpoint for episode in episodes] == [7, 7, 7, 11]
  assert [episode.episode_id for episode in episodes] == [0, 1, 2, 3]
  legal = np.array(games.LEGAL_ACTIONS['Pong'])
  for episode, raw in zip(episodes, EPISODES.values(), strict=False):
    length = len(raw.actions)
    assert list(episode.frames[:]) == raw.frames[:length]
    np.testing.assert_array_equal(episode.actions, legal[raw.actions])
    np.testing.assert_array_equal(episode.rewards, np.clip(raw.rewards, -1, 1))
    assert episode.score == raw.rewards.sum()
    assert episode.terminated == raw.terminated
    assert episode.digest == digest(raw)
    assert (episode.game, episode.run) == ('Pong', 2)
  inspection.verify(episodes)


def test_frames_are_a_sequence(written):
  frames = stored.load_episodes(written, 'Pong')[2].frames
  raw = EPISODES[9].frames
  assert len(frames) == 21 and frames[20] == raw[20] and frames[-2] == raw[-2]
  for start, stop in ((0, 8), (3, 5), (7, 9), (5, 21), (8, 8), (20, 99)):
    assert frames[start:stop] == raw[start:stop]
  with pytest.raises(IndexError):
    frames[21]
  with pytest.raises(ValueError, match='in order'):
    frames[::2]


def test_both_kinds_hold_the_same_transitions(written):
  source = RldsSource(str(written))
  digests = [
    digest(raw)
    for split in source.splits('Pong')
    for raw in source.episodes(split, range(len(source.lengths(split))))
  ]
  episodes = stored.load_episodes(written, 'Pong')
  assert digests == [episode.digest for episode in episodes]


def test_selects_checkpoints_and_runs(written):
  (one,) = stored.load_episodes(written, 'Pong', runs=[2], checkpoints=[11])
  assert len(one) == 9
  assert one.frames[8] == _raw(9, seed=1).frames[8]
  cases = [
    (dict(checkpoints=[7, 8]), r'no checkpoint 8 \(found: \[7, 11\]\)'),
    (dict(runs=[1]), r'no run 1 of Pong \(found: \[2\]\)'),
    (dict(games='Pong,Assault'), r'no data of Assault .*found: Pong.*prepare'),
    (dict(data_dir='nowhere'), 'nowhere is no directory'),
  ]
  for arguments, message in cases:
    with pytest.raises(DataError, match=message):
      stored.load_episodes(
        **{'data_dir': written, 'games': 'Pong', **arguments}
      )


def test_the_record_says_where_it_is_from(written):
  for kind in (formats.EPISODES, formats.FRAMES):
    path = formats.data_set_path(written, 'Pong', 2, kind)
    record = json.loads((path / formats.RECORD).read_text())
    assert record['source'] == 'a test'
    first, second = record['parts']
    assert (first['checkpoint'], second['checkpoint']) == (7, 11)
    assert first['steps'] == 30 and first['full_episodes'] == 2
    full = [EPISODES[3], EPISODES[8]]
    assert first['mean_return'] == np.mean([raw.rewards.sum() for raw in full])


@pytest.mark.parametrize(
  'raw, message',
  [
    (_raw(3)._replace(actions=np.array([0, 6, 1])), r'0\.\.6, but Pong has 6'),
    (_raw(3)._replace(actions=np.array([0, -1, 1])), r'-1\.\.1'),
    (_raw(3)._replace(rewards=np.array([0, 0.5, 1])), 'normalised'),
    (_raw(3)._replace(rewards=np.array([0, np.nan, 1])), 'normalised'),
    (_raw(3)._replace(actions=np.zeros(0, np.int32)), 'no transitions'),
  ],
)
def test_episodes_that_are_none(tmp_path, raw, message):
  with pytest.raises(DataError, match=message) as raised:
    writer.write_split(tmp_path, SPLIT, [(0, _raw(4)), (5, raw)])
  assert 'Episode 5 of Pong_run_2/checkpoint_07' in str(raised.value)
  assert writer.read_split(tmp_path, SPLIT) is None
  assert not [path for path in tmp_path.rglob('*') if path.is_file()]


def test_no_episodes(tmp_path):
  writer.write_split(tmp_path / 'work', SPLIT, [])
  with pytest.raises(DataError, match='Pong_run_2: there are no episodes'):
    writer.finish_run(tmp_path / 'out', tmp_path / 'work', [SPLIT], {})
  assert not (tmp_path / 'out').exists()


def test_a_finish_that_was_interrupted_can_be_repeated(tmp_path, monkeypatch):
  work, out = tmp_path / 'work', tmp_path / 'out'
  writer.write_split(work, SPLIT, EPISODES.items())
  join = writer._join_columns

  def killed(*arguments):
    raise KeyboardInterrupt

  monkeypatch.setattr(writer, '_join_columns', killed)
  with pytest.raises(KeyboardInterrupt):
    writer.finish_run(out, work, [SPLIT], {})
  with pytest.raises(DataError, match='no data of Pong'):
    stored.load_episodes(out, 'Pong')
  monkeypatch.setattr(writer, '_join_columns', join)
  for _ in range(2):
    stats = writer.finish_run(out, work, [SPLIT], {})
    assert [split.steps for split in stats] == [30]
    assert len(stored.load_episodes(out, 'Pong')) == 3


@pytest.mark.slow
def test_killed_between_any_two_steps_it_can_be_finished(tmp_path, monkeypatch):
  """Every file that is moved or written is a place to be killed at."""
  steps = ('_move', 'write_json', '_publish', '_describe', '_join_columns')
  originals = {name: getattr(writer, name) for name in steps}
  left = 0

  def counted(name):
    def step(*arguments):
      nonlocal left
      left -= 1
      if not left:
        raise KeyboardInterrupt
      return originals[name](*arguments)

    return step

  for name in steps:
    monkeypatch.setattr(writer, name, counted(name))
  splits = [SPLIT, Split('Pong', 2, 100), Split('Pong', 2, 11)]

  def build(root, after):
    nonlocal left
    left = after
    for number, split in enumerate(splits):
      if writer.read_split(root / 'work', split) is None:
        raw = _raw(5 + 9 * number, seed=number)
        writer.write_split(root / 'work', split, [(0, raw)])
    writer.finish_run(root, root / 'work', splits, {'source': 'a test'})

  for kill in range(1, 100):
    root = tmp_path / str(kill)
    try:
      build(root, kill)
      break
    except KeyboardInterrupt:
      with pytest.raises(DataError):
        stored.load_episodes(root, 'Pong')
    build(root, 0)
    episodes = stored.load_episodes(root, 'Pong')
    assert [e.checkpoint for e in episodes] == [7, 11, 100]
    assert [len(e) for e in episodes] == [5, 23, 14]
    inspection.verify(episodes)
  # Five files and their notes of each split, and what makes two data sets.
  assert kill > 3 * 6 + 6


def test_a_data_set_of_other_play_is_not_completed(written, tmp_path):
  shutil.rmtree(written / formats.FRAMES)
  writer.write_split(tmp_path / 'new', SPLIT, [(0, _raw(4))])
  with pytest.raises(DataError, match='is there already and of other play'):
    writer.finish_run(written, tmp_path / 'new', [SPLIT], {'source': 'a test'})


def _frames_path(written, name):
  path = formats.data_set_path(written, 'Pong', 2, formats.FRAMES)
  (found,) = path.glob(name)
  return found


@pytest.mark.parametrize(
  'name',
  ['actions.npy', 'rewards.npy', 'episodes.npy', 'record.json'],
)
@pytest.mark.parametrize('damage', ['removed', 'cut', 'flipped', 'other'])
def test_damaged_columns(written, name, damage):
  path = _frames_path(written, name)
  if damage == 'removed':
    path.unlink()
  elif damage == 'cut':
    path.write_bytes(path.read_bytes()[: path.stat().length - 9])
  elif damage == 'flipped':
    path.write_bytes(path.read_bytes()[:-5] + b'?' + path.read_bytes()[-4:])
  elif name == 'record.json':
    path.write_text('{}')
  else:
    np.save(path, np.zeros(3, np.float32))
  with pytest.raises(DataError, match='prepare or collect') as raised:
    stored.load_episodes(written, 'Pong')
  assert str(path) in str(raised.value)


def _damage(path, damage):
  data = bytearray(path.read_bytes())
  if damage == 'removed':
    path.unlink()
  elif damage == 'emptied':
    path.write_bytes(b'')
  elif damage == 'cut':
    path.write_bytes(data[: len(data) // 2])
  else:
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize('damage', ['removed', 'emptied', 'cut', 'flipped'])
def test_damaged_frames(written, damage):
  _damage(_frames_path(written, '*checkpoint_07.array_record*'), damage)
  data = dataset.SegmentDataset(stored.load_episodes(written, 'Pong'), 8, 1)
  with pytest.raises(DataError, match='prepare or collect') as raised:
    data.batch(np.arange(data.num_segments))
  assert 'Pong_run_2' in str(raised.value)


@pytest.mark.parametrize('name', ['dataset_info.json', 'features.json'])
def test_damaged_description(written, name):
  _frames_path(written, name).unlink()
  data = dataset.SegmentDataset(stored.load_episodes(written, 'Pong'))
  with pytest.raises(DataError, match='not a complete TFDS data set'):
    data.batch(np.arange(1))


def test_what_was_changed_is_found(written):
  path = _frames_path(written, 'rewards.npy')
  rewards = np.load(path)
  rewards[3] = 1 - rewards[3]
  np.save(path, rewards)
  with pytest.raises(DataError, match='rewards.npy is not what was written'):
    stored.load_episodes(written, 'Pong')
  # Whoever changes the checksum too is found by reading everything.
  record = _frames_path(written, 'record.json')
  facts = json.loads(record.read_text())
  facts['columns']['rewards'] = formats.checksum(rewards)
  record.write_text(json.dumps(facts))
  with pytest.raises(DataError, match='Episode 1 .* not what was written'):
    inspection.verify(stored.load_episodes(written, 'Pong'))


def test_full_disk(tmp_path):
  """A file system of 200 kB."""
  if os.geteuid():
    pytest.skip('mounting needs root')
  small = tmp_path / 'small'
  small.mkdir()
  mount = ['mount', '-t', 'tmpfs', '-o', 'size=200k', 'tmpfs', str(small)]
  if subprocess.run(mount, capture_output=True).returncode:
    pytest.skip('no permission to mount')
  try:
    with pytest.raises(OSError) as raised:
      writer.write_split(small / 'work', SPLIT, [(0, _raw(200))])
    message = str(raised.value)
    assert raised.value.errno == errno.ENOSPC or 'space' in message, message
    assert writer.read_split(small / 'work', SPLIT) is None
    shutil.rmtree(small / 'work')
    writer.write_split(small / 'work', SPLIT, [(0, _raw(5))])
  finally:
    subprocess.run(['umount', str(small)], check=True)


def test_frames_of_the_wrong_kind(tmp_path):
  raw = _raw(3)
  raw.frames[1] = cv2.imencode('.png', np.zeros((9, 9), np.uint8))[1].tobytes()
  writer.write_split(tmp_path / 'work', SPLIT, [(0, raw)])
  writer.finish_run(tmp_path, tmp_path / 'work', [SPLIT], {})
  data = dataset.SegmentDataset(stored.load_episodes(tmp_path, 'Pong'))
  with pytest.raises(DataError, match=r'Frame 1 .* is of shape \(9, 9\)'):
    data.batch(np.arange(1))


@pytest.mark.slow
def test_inspection(written, launch, tmp_path):
  done = launch(
    'inspect_data',
    f'--data={written}',
    f'--picture={tmp_path}/x.png',
    f'--json={tmp_path}/x.json',
    '--verify',
    f'--scores={tmp_path}/data.jsonl',
  )
  assert not done.returncode, done.stderr
  assert '39 transitions in 4 episodes, 3 of them complete' in done.stdout
  assert 'Everything is as it was written.' in done.stdout
  facts = json.loads((tmp_path / 'x.json').read_text())['Pong']
  rewards = np.concatenate([*(r.rewards for r in EPISODES.values())])
  others = _raw(9, seed=1).rewards
  positive = (rewards > 0).sum() + (others > 0).sum()
  assert facts['rewards']['1'] == positive
  assert sum(facts['actions'].values()) == 39
  assert facts['checkpoints']['run_2/checkpoint_11'] == {
    'episodes': 1,
    'steps': 9,
    'mean_return': float(others.sum()),
  }
  scores = read_rollouts(tmp_path / 'data.jsonl')
  assert [r.agent for r in scores] == ['data'] * 3
  assert sum(r.decisions for r in scores) < 39 and scores[0].game == 'Pong'
  picture = cv2.imread(str(tmp_path / 'x.png'))
  assert picture.shape[1] == 1400 and picture.std() > 10


@pytest.mark.slow
def test_frames_are_read_without_tensorflow(written):
  code = f"""
import sys
import numpy as np
from jowa_jax.data.feed import dataset
from jowa_jax.data.store import stored
data = dataset.SegmentDataset(stored.load_episodes({str(written)!r}, 'Pong'))
print(data.batch(np.arange(2)).observations.sum())
print('tensorflow' in sys.modules)
"""
  done = subprocess.run(
    [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True
  )
  assert not done.returncode, done.stderr[-3000:]
  data = dataset.SegmentDataset(stored.load_episodes(written, 'Pong'))
  expected = data.batch(np.arange(2)).observations.sum()
  assert done.stdout.split() == [str(expected), 'False']
