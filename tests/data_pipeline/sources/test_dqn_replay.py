"""Raw logs that real play was written to, whole and damaged in every way."""

import gzip
import logging
import pathlib
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest

from jowa_jax.data.episodes import DataError, digest
from jowa_jax.data.source import Split
from jowa_jax.data.sources.dqn_replay import DqnReplaySource
from tests.cases import quick
from tests.data_pipeline.sources import raw_logs

GAME = 'Carnival'


@pytest.fixture(scope='module')
def played():
  """Episodes of random play: three whole ones, and one cut off."""
  episodes = raw_logs.random_play(GAME, 1300)
  assert [episode.terminated for episode in episodes] == [True] * 3 + [False]
  assert len({len(episode.actions) for episode in episodes}) == 4
  assert max(episode.rewards.max() for episode in episodes) > 1
  return episodes


@pytest.fixture(scope='module')
def short(played):
  """Short episodes cut from the play, all but the last of them whole."""
  lengths = (30, 1, 2, 270, 300)
  episodes = [
    raw_logs.piece(played[0], 10 * k, 10 * k + length)
    for k, length in enumerate(lengths)
  ]
  return [*episodes[:-1], episodes[-1]._replace(terminated=False)]


@pytest.fixture(scope='module')
def logs(short, tmp_path_factory):
  """Two files of run 2, the second going on from the first."""
  root = tmp_path_factory.mktemp('logs')
  checkpoints = {1: short, 2: short[:3]}
  raw_logs.write_dqn_replay(root, GAME, 2, checkpoints, level=1)
  return root


@pytest.fixture
def copy(logs, tmp_path):
  """A copy to damage: (source, the path of a store of file 1)."""
  root = tmp_path / 'copy'
  shutil.copytree(logs, root)
  paths = {
    store: raw_logs.store_path(root, GAME, 2, 1, store)
    for store in raw_logs.STORES
  }
  folder = raw_logs.log_folder(root, GAME, 2)
  paths['add_count'] = folder / 'add_count_ckpt.1.gz'
  return DqnReplaySource(str(root)), paths


def _read(source, split, chosen=None):
  """Returns lengths and episodes, all of them by default."""
  lengths = source.lengths(split)
  chosen = range(len(lengths)) if chosen is None else chosen
  episodes = list(source.episodes(split, chosen))
  assert [len(e.actions) for e in episodes] == [lengths[k] for k in chosen]
  return episodes


def _run(code, argument):
  """Returns what a Python program writes."""
  command = [sys.executable, '-c', code, argument]
  done = subprocess.run(command, capture_output=True, text=True)
  assert not done.returncode, done.stderr
  return done.stdout


def test_reads_what_was_played(played, tmp_path):
  raw_logs.write_dqn_replay(tmp_path, GAME, 3, {7: played}, level=1)
  source = DqnReplaySource(f'{tmp_path}/')
  (split,) = source.splits(GAME)
  assert split == Split(GAME, 3, 7)
  found = _read(source, split)
  raw_logs.assert_same(found, played[:3])
  assert list(map(digest, found)) == list(map(digest, played[:3]))


def test_lists_runs_and_checkpoints(copy, short):
  source, paths = copy
  assert source.splits(GAME) == [Split(GAME, 2, 1), Split(GAME, 2, 2)]
  root = pathlib.Path(source.root)
  (root / GAME / 'notes').mkdir()
  raw_logs.write_dqn_replay(root, GAME, 10, {0: short, 3: short}, level=1)
  # One store suffices to be listed; its siblings are then missed.
  for path in raw_logs.log_folder(root, GAME, 10).glob('*_ckpt.3.gz'):
    if 'reward' not in path.name:
      path.unlink()
  splits = source.splits(GAME)
  found = [(split.run, split.checkpoint) for split in splits]
  assert found == [(2, 1), (2, 2), (10, 0), (10, 3)]
  assert source.lengths(splits[2]) == [30, 1, 2, 270]
  with pytest.raises(DataError, match='observation_ckpt.3.gz is missing'):
    source.lengths(splits[3])
  with pytest.raises(ValueError, match='did you mean'):
    source.splits('carnival')


@pytest.mark.slow
def test_is_sent_to_other_processes_without_tensorflow(logs):
  source = DqnReplaySource(str(logs))
  code = 'import pickle, sys; print(pickle.loads(bytes.fromhex(sys.argv[1])))'
  code += '; print("tensorflow" in sys.modules)'
  said = _run(code, pickle.dumps(source).hex())
  assert said.splitlines() == [repr(source), 'False']


def test_padding_is_dropped_where_it_is(logs, short):
  """The second file has none at its start: the first ends in an episode."""
  source = DqnReplaySource(str(logs))
  one, two = source.splits(GAME)
  raw_logs.assert_same(_read(source, one), short[:4])
  raw_logs.assert_same(_read(source, two), short[:3])
  for number, rows in (1, 15 + 603 + 1), (2, 6 + 33 + 1):
    path = raw_logs.store_path(logs, GAME, 2, number, 'terminal')
    assert len(raw_logs.unpacked(path)) == rows


@pytest.mark.parametrize('zeros', [0, 1, 2, 3])
def test_a_file_may_start_within_padding(short, tmp_path, zeros):
  rows = [raw_logs.ZERO] * zeros + list(raw_logs.transitions(short[0]))
  raw_logs.write_log(tmp_path, GAME, 1, 1, rows, len(rows), 10**6, 1)
  source = DqnReplaySource(str(tmp_path))
  assert source.lengths(Split(GAME, 1, 1)) == []  # its end is the stale row
  rows.append(rows[-1])
  raw_logs.write_log(tmp_path, GAME, 1, 1, rows, len(rows), 10**6, 1)
  raw_logs.assert_same(_read(source, Split(GAME, 1, 1)), short[:1])


def test_black_frames_of_play_are_kept(short, tmp_path):
  """Three zero rows are padding; a fourth one is play, and so is any other."""
  zero, moved = raw_logs.ZERO, raw_logs.ZERO._replace(action=1)
  rows = list(raw_logs.transitions(short[0]))
  still = rows[0]._replace(action=0, reward=0.0)
  files = {
    1: [*[zero] * 4, *rows, *[zero] * 4, *rows, zero],
    2: [moved, *rows, zero],
    3: [zero, still, zero, *rows, zero],
  }
  for number, content in files.items():
    raw_logs.write_log(
      tmp_path, GAME, 1, number, content, len(content), 10**6, 1
    )
  source = DqnReplaySource(str(tmp_path))
  firsts = []
  for split in source.splits(GAME):
    for episode in _read(source, split):
      more = len(episode.actions) - len(rows)
      raw_logs.assert_same([raw_logs.piece(episode, more)], short[:1])
      frame = raw_logs.decode(episode.frames[0])
      firsts.append((more, frame.any(), episode.actions[0]))
  assert firsts == [(1, False, 0), (1, False, 0), (1, False, 1), (2, True, 0)]


def test_an_episode_that_spans_two_files(played, tmp_path):
  """A ring, as in the real logs: its last row is in neither file."""
  first, second, third, _ = played
  n = len(first.actions)
  rows = 3 + n + 3 + 100  # 99 transitions of the second fit
  raw_logs.write_ring(tmp_path, GAME, 1, played, rows, level=1)
  source = DqnReplaySource(str(tmp_path))
  splits = source.splits(GAME)
  assert [split.checkpoint for split in splits] == [0, 1, 2]
  raw_logs.assert_same(_read(source, splits[0]), [first])
  # What is left of the second episode, without padding; its first 99
  # transitions and the one that was never saved are lost.
  rest = raw_logs.piece(second, 100)
  left = rows - 1 - (len(rest.actions) + 3)  # for the third
  assert 0 < left < len(third.actions)
  raw_logs.assert_same(_read(source, splits[1]), [rest])
  # The last file was saved before it was full; its other rows are old.
  folder = raw_logs.log_folder(tmp_path, GAME, 1)
  assert raw_logs.unpacked(folder / 'add_count_ckpt.2.gz') < rows - 1
  rest = raw_logs.piece(third, left + 1)
  raw_logs.assert_same(_read(source, splits[2]), [rest])


@pytest.mark.slow
@pytest.mark.parametrize('spare', [0, 2, 40])
def test_rows_that_were_not_written(short, tmp_path, spare):
  """They say that the game is over, with noise for frames."""
  needed = sum(len(episode.actions) + 3 for episode in short)
  rows = needed + 1 + spare
  raw_logs.write_dqn_replay(
    tmp_path, GAME, 1, {1: short[:4], 2: short}, rows=rows, level=1
  )
  source = DqnReplaySource(str(tmp_path))
  for split in source.splits(GAME):
    raw_logs.assert_same(_read(source, split), short[:4])
  # Without its count a file is taken to be full but for the last row.
  (raw_logs.log_folder(tmp_path, GAME, 1) / 'add_count_ckpt.2.gz').unlink()
  if spare:
    with pytest.raises(DataError, match='no padding'):
      source.lengths(Split(GAME, 1, 2))
  else:
    raw_logs.assert_same(_read(source, Split(GAME, 1, 2)), short[:4])


def test_says_that_the_count_is_missing(copy, short, caplog):
  source, paths = copy
  paths['add_count'].unlink()
  with caplog.at_level(logging.INFO):
    raw_logs.assert_same(_read(source, Split(GAME, 2, 1)), short[:4])
  assert 'Carnival_run_2/checkpoint_01 has no add_count' in caplog.text
  assert str(paths['add_count']) not in source.files(Split(GAME, 2, 1))


@pytest.mark.parametrize(
  'files, last', [((1, 49, 50), 50), ((0, 49), 49), ((0, 50), 50), ((1, 9), 0)]
)
def test_the_last_log_of_a_run_without_its_count_is_doubted(
  short, tmp_path, files, last
):
  raw_logs.write_dqn_replay(
    tmp_path, GAME, 1, {number: short[:1] for number in files}, level=1
  )
  source = DqnReplaySource(str(tmp_path))
  # By their own numbers, whichever are there.
  assert [split.checkpoint for split in source.splits(GAME)] == list(files)
  assert not any(source.doubts(split) for split in source.splits(GAME))
  for path in raw_logs.log_folder(tmp_path, GAME, 1).glob('add_count*'):
    path.unlink()
  doubted = [s.checkpoint for s in source.splits(GAME) if source.doubts(s)]
  assert doubted == [last] * (last > 0)


def test_files_without_a_whole_episode(short, tmp_path):
  raw_logs.write_dqn_replay(tmp_path, GAME, 1, {1: short[-1:], 2: []}, level=1)
  raw_logs.write_log(tmp_path, GAME, 1, 3, [], 0, 0)
  source = DqnReplaySource(str(tmp_path))
  for split in source.splits(GAME):
    assert source.lengths(split) == []
    assert list(source.episodes(split, [])) == []
    with pytest.raises(ValueError, match='has 0 episodes'):
      next(source.episodes(split, [0]))


@pytest.mark.parametrize('chosen', [[0], [1], [3], [0, 2], [1, 2, 3], []])
def test_chosen_episodes_are_those_of_a_full_read(logs, short, chosen):
  source = DqnReplaySource(str(logs))
  wanted = [short[k] for k in chosen]
  raw_logs.assert_same(_read(source, Split(GAME, 2, 1), chosen), wanted)


@pytest.mark.parametrize('chosen', [[4], [-1], [1, 0], [2, 2]])
def test_episodes_that_cannot_be_chosen(logs, chosen):
  with pytest.raises(ValueError, match='has 4 episodes'):
    next(DqnReplaySource(str(logs)).episodes(Split(GAME, 2, 1), chosen))


def test_files_and_sizes(copy):
  source, paths = copy
  sizes = {str(path): path.stat().st_size for path in paths.values()}
  assert source.files(Split(GAME, 2, 1)) == sizes


def test_names_the_layout_when_nothing_is_found(logs, tmp_path):
  for root in (tmp_path / 'nowhere', tmp_path, logs / GAME, logs):
    with pytest.raises(
      DataError, match=r'Pong/<run>/replay_logs/\$store\$_observation.*folder'
    ) as raised:
      DqnReplaySource(str(root)).splits('Pong')
    assert str(raised.value).startswith(f'{root} has no DQN-Replay logs')
  with pytest.raises(DataError, match='ckpt.9.gz is missing'):
    DqnReplaySource(str(logs)).files(Split(GAME, 2, 9))
  with pytest.raises(DataError, match='unknown://bucket/Carnival'):
    DqnReplaySource('unknown://bucket').splits(GAME)


_file, _data, _array = raw_logs.on_file, raw_logs.on_data, raw_logs.on_array
_flip, _set = raw_logs.flip, raw_logs.put
ALL = raw_logs.STORES
# What is changed (a file, what is compressed in it, or the array in that),
# how, what the error says, in which files.
FAULTS = {
  'cut': (_file, lambda d: d[: len(d) * 2 // 3], 'ended before the end', ALL),
  'sum': (_file, lambda d: _flip(d, -6), 'CRC', (*ALL, 'add_count')),
  'unpacked': (_file, gzip.decompress, 'Not a gzipped file', ALL),
  'empty': (_file, lambda d: b'', 'does not hold a NumPy array', ALL),
  'page': (_data, lambda d: b'<html>' * 99, 'does not hold a NumPy', ALL),
  'version': (_data, lambda d: _flip(d, 6), 'does not hold a NumPy', ALL[:2]),
  'names': (_data, lambda d: d.replace(b'des', b'abc'), 'not hold', ALL[:2]),
  'rows': (_data, lambda d: d.replace(b': (', b': (99999'), 'ends b|rows', ALL),
  'more': (_data, lambda d: d + b'0', 'goes on after the array', ALL),
  'int16': (_array, lambda a: a.astype(np.int16), 'holds int16', ALL),
  'int32': (_array, np.int32, 'holds int32 of shape', ['add_count']),
  'big-endian': (_array, lambda a: a.astype('>i4'), 'holds >i4', ALL[1:2]),
  'fortran': (_array, np.asfortranarray, 'Fortran', ALL[:1]),
  'column': (_array, lambda a: a[:, None], r'of shape \(\d+, 1', ALL),
  'scalar': (_array, lambda a: a.flat[0], r'of shape \(\)', ALL),
  'one short': (_array, lambda a: a[:-1], 'rows, but .*both', ALL),
  'negative': (_array, lambda a: a - 10**9, 'is negative', ['add_count']),
  'high': (_array, _set(5, 6), 'row 5: action is 6.*another game', ALL[1:2]),
  'low': (_array, _set(7, -1), 'row 7: action is -1.*another game', ALL[1:2]),
  'nan': (_array, _set(9, np.nan), 'row 9: reward is nan', ALL[2:3]),
  'inf': (_array, _set(9, np.inf), 'row 9: reward is inf', ALL[2:3]),
  'flag': (_array, _set(9, 255), 'row 9: terminal is 255', ALL[3:]),
  # The second episode's padding is in the rows 33..35.
  'grey': (_array, _set(34, 1), 'row 34: no padding', ALL[:1]),
  'moved': (_array, _set(35, 2), 'row 35: no padding', ALL[1:2]),
}


@pytest.mark.parametrize(
  'fault, name',
  [(fault, name) for fault in FAULTS for name in FAULTS[fault][3]],
)
def test_every_fault_names_the_file_and_the_remedy(copy, fault, name):
  source, paths = copy
  split = Split(GAME, 2, 1)
  damage, change, message, _ = FAULTS[fault]
  damage(paths[name], change)
  with pytest.raises(DataError, match=message) as raised:
    source.lengths(split)
    list(source.episodes(split, range(4)))
  assert str(paths[name]) in str(raised.value)
  assert ('again' in str(raised.value)) != ('another game' in str(raised.value))
  # The next checkpoint is whole.
  assert source.lengths(Split(GAME, 2, 2)) == [30, 1, 2]


@pytest.mark.parametrize('name', ALL)
def test_a_store_is_missing_or_a_folder(copy, name):
  source, paths = copy
  split = Split(GAME, 2, 1)
  paths[name].unlink()
  for read in source.lengths, source.files:
    with pytest.raises(DataError, match='is missing: download it') as raised:
      read(split)
    assert str(paths[name]) in str(raised.value)
  paths[name].mkdir()
  with pytest.raises(DataError, match='cannot be read.*again') as raised:
    source.lengths(split)
  assert str(paths[name]) in str(raised.value)


@pytest.mark.parametrize('name', quick(ALL, ALL[0]))
def test_no_flipped_bit_goes_unnoticed(copy, short, name):
  source, paths = copy
  whole = paths[name].read_bytes()
  noticed = 0
  for place in np.random.default_rng(0).choice(len(whole), 25, replace=False):
    paths[name].write_bytes(_flip(whole, place))
    try:
      episodes = _read(source, Split(GAME, 2, 1))
    except DataError as error:
      assert str(paths[name]) in str(error)
      noticed += 1
    else:  # the time of writing, for example
      raw_logs.assert_same(episodes, short[:4])
  assert noticed > 15


def test_a_row_said_to_be_the_end_of_a_game(copy):
  """What follows it should be padding, and is not."""
  source, paths = copy
  _array(paths['terminal'], _set(20, 1))
  assert raw_logs.unpacked(paths['action'])[21:24].any()
  with pytest.raises(DataError, match='row 2[123]: no padding.*again'):
    source.lengths(Split(GAME, 2, 1))


def test_damage_after_the_last_chosen_episode_is_not_read(copy, short):
  source, paths = copy
  _file(paths['observation'], lambda data: _flip(data, -6))
  split = Split(GAME, 2, 1)
  raw_logs.assert_same(_read(source, split, [0, 2]), [short[0], short[2]])
  episodes = source.episodes(split, [0, 3])
  raw_logs.assert_same([next(episodes)], short[:1])
  # The last one is given once the sum was checked.
  with pytest.raises(DataError, match='CRC'):
    next(episodes)
