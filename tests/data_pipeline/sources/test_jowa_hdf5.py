"""The JOWA authors' formats with real play in them, whole and damaged."""

import pickle
import shutil

import h5py
import numpy as np
import pytest

from jowa_jax.data.episodes import DataError, digest
from jowa_jax.data.source import Split
from jowa_jax.data.sources.jowa_hdf5 import JowaHdf5Source, read_segments
from tests.data_pipeline.sources import raw_logs

GAME = 'Carnival'
SPLIT = Split(GAME, 1, 0)


@pytest.fixture(scope='module')
def played():
  """A dozen short episodes of random play, the last of them cut off."""
  whole = raw_logs.random_play(GAME, 500)[0]
  lengths = (40, 1, 2, 12, 30, 3, 4, 5, 6, 7, 8, 9)
  episodes = [
    raw_logs.piece(whole, 20 * k, 20 * k + length)
    for k, length in enumerate(lengths)
  ]
  assert max(episode.rewards.max() for episode in episodes) > 1
  return [*episodes[:-1], episodes[-1]._replace(terminated=False)]


@pytest.fixture
def file(played, tmp_path):
  """The file to read, or to damage."""
  return raw_logs.write_jowa_hdf5(tmp_path, GAME, played)


@pytest.fixture
def source(file):
  return JowaHdf5Source(str(file.parent))


def _lengths(episodes):
  return [len(episode.actions) for episode in episodes]


@pytest.mark.parametrize('padded', [True, False])
@pytest.mark.parametrize('folder', ['', 'trajectory/data'])
def test_reads_what_was_played(played, tmp_path, padded, folder):
  path = raw_logs.write_jowa_hdf5(
    tmp_path / folder, GAME, played, padded=padded
  )
  source = pickle.loads(pickle.dumps(JowaHdf5Source(str(tmp_path))))
  assert source.splits(GAME) == [SPLIT]
  assert source.lengths(SPLIT) == _lengths(played)
  stored = [length + 3 * padded for length in _lengths(played)]
  assert source.stored_lengths(SPLIT) == stored
  found = list(source.episodes(SPLIT, range(len(played))))
  raw_logs.assert_same(found, played)
  assert list(map(digest, found)) == list(map(digest, played))
  assert source.files(SPLIT) == {str(path): path.stat().st_size}


@pytest.mark.parametrize('chosen', [[0], [11], [1, 2, 10], []])
def test_reads_what_is_chosen(source, played, chosen):
  found = list(source.episodes(SPLIT, chosen))
  raw_logs.assert_same(found, [played[number] for number in chosen])


@pytest.mark.parametrize('chosen', [[12], [-1], [1, 0], [2, 2]])
def test_episodes_that_cannot_be_chosen(source, chosen):
  with pytest.raises(ValueError, match='^Carnival.* has 12 episodes'):
    next(source.episodes(SPLIT, chosen))


def test_other_numbers_that_hold_the_same(file, source, played):
  with h5py.File(file, 'r+') as stored:
    for group in stored.values():
      for name, dtype in (
        ('actions', 'i8'),
        ('rewards', 'f8'),
        ('terminals', bool),
      ):
        values = group[name][:]
        del group[name]
        group[name] = values.astype(dtype)
  assert source.lengths(SPLIT) == _lengths(played)
  raw_logs.assert_same(list(source.episodes(SPLIT, range(12))), played)


def test_a_fourth_row_of_zeros_is_play(file, source, played):
  with h5py.File(file, 'r+') as stored:
    for name in 'observations', 'actions', 'rewards':
      stored[f'0/{name}'][3] = 0
  assert source.lengths(SPLIT) == _lengths(played)
  (episode,) = source.episodes(SPLIT, [0])
  assert not raw_logs.decode(episode.frames[0]).any()
  raw_logs.assert_same(
    [raw_logs.piece(episode, 1)], [raw_logs.piece(played[0], 1)]
  )


def test_a_trajectory_cut_off_within_its_padding(file, source, played):
  with h5py.File(file, 'r+') as stored:
    for name, values in list(stored['11'].items()):
      rows = values[:2]
      del stored['11'][name]
      stored['11'][name] = rows
  assert source.lengths(SPLIT) == [*_lengths(played[:-1]), 0]
  assert source.stored_lengths(SPLIT)[-1] == 2
  raw_logs.assert_same(list(source.episodes(SPLIT, range(11))), played[:-1])


def test_games_that_are_not_there(source, tmp_path):
  with pytest.raises(DataError, match=r'no data of Pong: .*data/Pong\.h5'):
    source.splits('Pong')
  nowhere = JowaHdf5Source(str(tmp_path / 'nowhere'))
  for read in nowhere.lengths, nowhere.stored_lengths, nowhere.files:
    with pytest.raises(DataError, match='nowhere has no data.*Give the folder'):
      read(SPLIT)
  with pytest.raises(ValueError, match='did you mean'):
    source.splits('carnival')


# Each damages a file, or a group in an open one, and gives what the error says.


def _cut(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  return 'is damaged, incomplete.*truncated.*again'


def _empty(path):
  path.write_bytes(b'')
  return 'is damaged, incomplete.*again'


def _no_hdf5(path):
  path.write_bytes(b'PK' * 5000)
  return 'is damaged, incomplete.*again'


def _index(path):
  """Writes over what says where the groups are."""
  data = path.read_bytes()
  path.write_bytes(data.replace(b'TREE', b'none').replace(b'SNOD', b'none'))
  return 'is damaged, incomplete.*again'


def _no_groups(path):
  h5py.File(path, 'w').close()
  return 'has no trajectories.*again'


def _flat(path):
  with h5py.File(path, 'w') as file:
    file['observations'] = np.zeros((9, 84, 84), np.uint8)
  return 'none named 0.*observations.*again'


@pytest.mark.parametrize(
  'damage', [_cut, _empty, _no_hdf5, _index, _no_groups, _flat]
)
def test_damaged_file(file, source, damage):
  message = damage(file)
  for read in (
    source.lengths,
    source.stored_lengths,
    lambda split: next(source.episodes(split, [0])),
  ):
    with pytest.raises(DataError, match=message) as raised:
      read(SPLIT)
    assert str(file) in str(raised.value)


def _replace(name, change):
  def damage(stored):
    values = change(stored[name][:])
    del stored[name]
    stored[name] = values

  return damage


def _set(name, row, value):
  def change(values):
    values[row] = value
    return values

  return _replace(name, change)


def _delete(name):
  return lambda stored: stored.pop(name)


def _no_group(stored):
  del stored['3']
  stored['3'] = np.ones(4)


def _tokens(stored):
  for group in stored.values():
    del group['observations']
    group['observations'] = np.ones((len(group['actions']), 36), np.int16)


FAULTS = {
  'number': (_delete('7'), '11 groups, but none named 7 .*again'),
  'name': (lambda stored: stored.move('11', '12'), 'none named 11 .*again'),
  'no actions': (_delete('3/actions'), "/3, has no dataset 'actions'.*again"),
  'no frames': (_delete('3/observations'), 'no .*observations.*again'),
  'no group': (_no_group, '/3, has no .*again'),
  'tokens': (_tokens, 'holds tokens, .*Give the file of pixels'),
  'floats': (_replace('3/observations', np.float32), 'is float32 .*again'),
  'colour': (
    _replace('3/observations', lambda frames: frames[..., None]),
    r'of shape \(15, 84, 84, 1\), not .*again',
  ),
  'no rows': (
    _replace('3/observations', lambda frames: frames[:0]),
    r'of shape \(0, 84, 84\), not .*again',
  ),
  'dtype': (
    _replace('3/rewards', lambda r: r.astype(h5py.opaque_dtype('M8[s]'))),
    'rewards, is datetime64.*again',
  ),
  'scalar': (_replace('3/observations', np.max), r'of shape \(\), not .*again'),
  'fewer': (_replace('3/rewards', lambda r: r[1:]), r'\(14,\), where .*again'),
  'column': (_replace('3/actions', lambda a: a[:, None]), r'\(15, 1\).*again'),
  'float actions': (_replace('3/actions', np.float32), 'is float32 .*again'),
  'text': (_replace('3/rewards', lambda r: r.astype('S4')), r'is \|S4 .*again'),
  'high': (_set('3/actions', 5, 6), 'row 5: action is 6.*of another game'),
  'low': (_set('3/actions', 5, -1), 'row 5: action is -1.*of another game'),
  'nan': (_set('3/rewards', 9, np.nan), 'row 9: reward is nan.*again'),
  'flag': (_set('3/terminals', 9, 2), 'row 9: terminal is 2.*again'),
  'early end': (_set('3/terminals', 9, 1), 'over at row 9, but .* 15 .*again'),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_every_fault_names_the_file_and_the_remedy(file, source, fault):
  damage, message = FAULTS[fault]
  with h5py.File(file, 'r+') as stored:
    damage(stored)
  with pytest.raises(DataError, match=message) as raised:
    source.lengths(SPLIT)
    list(source.episodes(SPLIT, [3]))
  assert str(file) in str(raised.value)


@pytest.fixture
def table(tmp_path):
  return tmp_path / 'segment' / 'csv' / 'Carnival_right_padding.csv'


@pytest.mark.parametrize(
  'left, stride, wanted',
  [
    (False, 4, [(0, 0, 8), (0, 4, 12), (1, 0, 8), (2, 0, 8), (2, 4, 12)]),
    (True, 4, [(0, -3, 5), (0, -7, 1), (1, -5, 3), (2, -4, 4)]),
    (
      False,
      2,
      [
        (0, 0, 8),
        (0, 2, 10),
        (0, 4, 12),
        (1, 0, 8),
        (1, 2, 10),
        (2, 0, 8),
        (2, 2, 10),
        (2, 4, 12),
      ],
    ),
  ],
)
def test_reads_segments(table, left, stride, wanted):
  raw_logs.write_segments(table, GAME, [6, 4, 5], left=left, stride=stride)
  assert read_segments(table, [6, 4, 5]) == wanted


def test_segments_fit_the_trajectories(source, table):
  stored = source.stored_lengths(SPLIT)
  raw_logs.write_segments(table, GAME, stored)
  segments = read_segments(str(table), stored)
  for number, length in enumerate(stored):
    rows = np.zeros(length + 8, int)
    for trajectory, start, stop in segments:
      if trajectory == number:
        rows[start:stop] += 1
    assert rows[:4].tolist() == [1] * 4 and (rows[4:length] == 2).all()


@pytest.mark.parametrize('folder', ['.', 'segment/csv'])
def test_tables_beside_the_trajectories_are_checked(source, tmp_path, folder):
  path = source._find(GAME)
  root = tmp_path / 'copy'
  root.mkdir()
  shutil.copy(path, root / path.name)
  copy = JowaHdf5Source(str(root))
  stored = copy.stored_lengths(SPLIT)
  table = root / folder / f'{GAME}_tau_1_right_padding.csv'
  raw_logs.write_segments(table, GAME, stored, stride=1)
  assert copy.lengths(SPLIT) == source.lengths(SPLIT)
  assert set(copy.files(SPLIT)) == {str(root / path.name), str(table)}
  raw_logs.write_segments(table, GAME, [*stored, 20], stride=1)
  with pytest.raises(DataError, match='is the table that of another file'):
    copy.lengths(SPLIT)


@pytest.mark.parametrize(
  'line, text, message',
  [
    (1, '0,0,8,Carnival', 'line 1, is no header'),
    (1, 'a,b,c', 'line 1, is no header'),
    (3, '0,4,12', 'line 3, is .0,4,12., not trajectory, start, stop and game'),
    (3, '0,4,12,Carnival,1', 'line 3, is .*again'),
    (3, '0,4.5,12,Carnival', 'line 3, is .*again'),
    (3, '', 'line 3, is .*again'),
    (4, '3,0,8,Carnival', 'line 4, names trajectory 3 of 3: is .* another'),
    (4, '-1,0,8,Carnival', 'line 4, names trajectory -1 of 3'),
    (
      4,
      '1,0,9,Carnival',
      'line 4, is a segment of 9 rows.*first has 8 .*again',
    ),
    (2, '0,8,0,Carnival', 'line 2, is a segment of -8 rows.*again'),
    (4, '1,0,8,Pong', 'line 4, is a segment of 8 rows of Pong, .* again'),
    (4, '1,4,12,Carnival', 'line 4: rows 4..12 lie outside trajectory 1 of 4'),
    (4, '1,-8,0,Carnival', 'line 4: rows -8..0 lie outside trajectory 1 of 4'),
  ],
)
def test_bad_lines_of_a_table(table, line, text, message):
  raw_logs.write_segments(table, GAME, [6, 4, 5])
  lines = table.read_text().splitlines()
  lines[line - 1] = text
  table.write_text('\n'.join(lines))
  with pytest.raises(DataError, match=message) as raised:
    read_segments(table, [6, 4, 5])
  assert str(table) in str(raised.value)


def test_tables_that_are_none(table):
  with pytest.raises(
    DataError, match='right_padding.csv cannot be read.*again'
  ):
    read_segments(table, [6])
  table.parent.mkdir(parents=True)
  for content, message in (
    (b'', 'line 1, is no header.*again'),
    (','.join(raw_logs.HEADER).encode(), 'has no segments.*again'),
    (b'\x89HDF\r\n\xff\xfe' * 9, 'cannot be read.*again'),
  ):
    table.write_bytes(content)
    with pytest.raises(DataError, match=message):
      read_segments(table, [6])
