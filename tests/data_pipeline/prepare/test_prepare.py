"""From every source to training, and what happens when something is wrong."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from jowa_jax import ownership
from jowa_jax.data.episodes import DataError
from jowa_jax.data.feed import dataset
from jowa_jax.data.prepare import prepare
from jowa_jax.data.source import MISSING, SOURCES
from jowa_jax.data.store import formats, stored
from tests.data_pipeline.prepare.carnival import (
  GAME,
  IN_MEMORY,
  command_flags,
  digests,
)
from tests.data_pipeline.sources import raw_logs


def _request(sources, source='dqn_replay', **options):
  options = {'runs': '1' if source != 'jowa_hdf5' else 'all', **options}
  return prepare.Request(source, str(sources[source]), (GAME,), **options)


def _run(request, output):
  return prepare.prepare(request, output, IN_MEMORY, progress=False)


def _prepare(sources, output, source='dqn_replay', **options):
  return _run(_request(sources, source, **options), output)


@pytest.mark.slow
@pytest.mark.parametrize('source', [s for s in SOURCES if s not in MISSING])
def test_every_route_gives_the_same_transitions(
  sources, played, tmp_path, source
):
  manifest = _prepare(sources, tmp_path / 'out', source)
  episodes = stored.load_episodes(tmp_path / 'out', GAME)
  # Whatever the route, also the PNG files are the same bytes.
  reference = stored.load_episodes(sources['ale'], GAME, runs=[1])
  assert [e.digest for e in episodes] == [e.digest for e in reference]
  ours, theirs = (
    dataset.SegmentDataset(split, 8, 4, fields={'return_to_go'})
    for split in (episodes, reference)
  )
  everything = np.arange(ours.num_segments)
  a, b = ours.batch(everything), theirs.batch(everything)
  for name in ('observations', 'actions', 'rewards', 'ends', 'mask'):
    np.testing.assert_array_equal(getattr(a, name), getattr(b, name), name)
  np.testing.assert_array_equal(a.return_to_go, b.return_to_go)
  total = sum(len(e.actions) for split in played.values() for e in split)
  assert manifest['games'][GAME]['steps'] == total
  # Nothing but the result is left.
  assert sorted(os.listdir(tmp_path / 'out')) == [
    formats.EPISODES,
    formats.FRAMES,
    formats.MANIFEST,
  ]


@pytest.mark.slow
def test_workers_of_a_job_server(sources, tmp_path):
  """Beam's own server, reached as one of Flink or Spark would be.

  The pipeline goes to it as a message; its workers are fresh interpreters.
  """
  worker = f'{sys.executable} -m apache_beam.runners.worker.sdk_worker_main'
  flags = (
    '--runner=PortableRunner',
    '--job_endpoint=embed',
    '--environment_type=beam:env:harness_subprocess_python:v1',
    f'--environment_config={worker}',
  )
  prepare.prepare(_request(sources), tmp_path / 'out', flags, progress=False)
  assert digests(tmp_path / 'out') == digests(sources['ale'], runs=[1])


@pytest.mark.slow
def test_what_was_prepared_can_be_drawn_from_again(sources, tmp_path):
  _prepare(sources, tmp_path / 'first')
  again = prepare.Request('ale', str(tmp_path / 'first'), (GAME,))
  _run(again, tmp_path / 'second')
  assert digests(tmp_path / 'first') == digests(tmp_path / 'second')


def test_the_manifest_says_what_was_drawn_from_where(sources, tmp_path):
  output = tmp_path / 'out'
  options = dict(runs='all', transitions=900, seed=3)
  manifest = _prepare(sources, output, **options)
  assert manifest == json.loads((output / formats.MANIFEST).read_text())
  (made,) = manifest['requests']
  assert made['request']['seed'] == 3
  assert made['versions']['apache-beam']
  game = manifest['games'][GAME]
  episodes = stored.load_episodes(output, GAME)
  assert game['steps'] == sum(map(len, episodes)) >= 900
  assert game['episodes'] == len(episodes)
  assert game['mean_return'] == np.mean([e.score for e in episodes])
  everything = stored.load_episodes(sources['ale'], GAME)
  assert game['steps_there'] == sum(map(len, everything))
  drawn = {
    (int(run[4:]), split['checkpoint'], number)
    for run, facts in game['runs'].items()
    for split in facts['parts'].values()
    for number in split['episodes_drawn']
  }
  assert len(drawn) == len(episodes)
  for split in game['runs'].values():
    for facts in split['parts'].values():
      assert len(facts['files']) == 5  # four stores and the count of rows
      for name, size in facts['files'].items():
        assert os.path.getsize(name) == size
  same = _prepare(sources, tmp_path / 'same', **options)
  other = _prepare(sources, tmp_path / 'other', **{**options, 'seed': 4})
  assert same['games'] == manifest['games']
  assert other['games'] != manifest['games']


@pytest.mark.slow
def test_finished_work_is_not_done_again(sources, tmp_path):
  manifest = _prepare(sources, tmp_path)
  path = formats.data_set_path(tmp_path, GAME, 1, formats.FRAMES)
  before = path.stat()
  assert _prepare(sources, tmp_path) == manifest
  assert path.stat() == before
  with pytest.raises(DataError, match='another request.*\n  seed: 0, not 1'):
    _prepare(sources, tmp_path, seed=1)


def test_a_directory_with_other_data_is_not_touched(sources, tmp_path):
  shutil.copytree(sources['ale'], tmp_path / 'out')
  before = sorted((tmp_path / 'out').rglob('*'))
  with pytest.raises(DataError, match='give another directory'):
    _prepare(sources, tmp_path / 'out')
  assert sorted((tmp_path / 'out').rglob('*')) == before


def _copy(sources, tmp_path):
  logs = tmp_path / 'logs'
  shutil.copytree(sources['dqn_replay'], logs)
  return {**sources, 'dqn_replay': logs}


def _looks_complete(output):
  try:
    return bool(stored.load_episodes(output, GAME))
  except DataError:
    return False


@pytest.mark.slow
@pytest.mark.parametrize('damage', ['missing', 'cut', 'flipped'])
def test_a_damaged_log_is_named_and_can_be_replaced(sources, tmp_path, damage):
  """One store after the other is damaged and replaced; then all are whole."""
  logs = _copy(sources, tmp_path)
  output = tmp_path / 'out'
  for store in raw_logs.STORES:
    path = raw_logs.store_path(logs['dqn_replay'], GAME, 1, 2, store)
    whole = path.read_bytes()
    if damage == 'missing':
      path.unlink()
    elif damage == 'cut':
      path.write_bytes(whole[: len(whole) * 2 // 3])
    else:
      path.write_bytes(raw_logs.flip(whole, len(whole) // 2))
    with pytest.raises(DataError, match='download it again') as raised:
      _prepare(logs, output)
    assert path.name in str(raised.value)
    assert not _looks_complete(output)
    path.write_bytes(whole)
  _prepare(logs, output)
  assert digests(output) == digests(sources['ale'], runs=[1])


@pytest.mark.slow
def test_parts_that_are_written_are_kept_after_an_error(sources, tmp_path):
  logs = _copy(sources, tmp_path)
  path = raw_logs.store_path(logs['dqn_replay'], GAME, 1, 2, 'observation')
  whole = path.read_bytes()
  path.write_bytes(raw_logs.flip(whole, len(whole) // 2))
  with pytest.raises(DataError):
    _prepare(logs, tmp_path / 'out')
  (written,) = (tmp_path / 'out').rglob('*checkpoint_01.array_record*')
  before = written.stat().st_ino
  path.write_bytes(whole)
  _prepare(logs, tmp_path / 'out')
  (now,) = (tmp_path / 'out').rglob('*checkpoint_01.array_record*')
  assert now.stat().st_ino == before


@pytest.mark.slow
def test_a_log_in_doubt_is_left_out_unless_it_is_named(
  played, tmp_path, caplog
):
  root = tmp_path / 'logs'
  raw_logs.write_dqn_replay(root, GAME, 1, {1: played[0], 50: played[1]})
  for path in root.rglob('add_count_ckpt.50.gz'):
    path.unlink()
  request = prepare.Request('dqn_replay', str(root), (GAME,))
  manifest = _run(request, tmp_path / 'out')
  assert 'checkpoint_50 is left out: it is its run' in caplog.text
  parts = manifest['games'][GAME]['runs']['run_1']['parts']
  assert list(parts) == ['checkpoint_01']
  named = dataclasses.replace(request, checkpoints='1,50')
  manifest = _run(named, tmp_path / 'named')
  parts = manifest['games'][GAME]['runs']['run_1']['parts']
  assert list(parts) == ['checkpoint_01', 'checkpoint_50']


@pytest.mark.slow
def test_data_that_are_spelled_otherwise_or_moved_are_the_same(
  sources, tmp_path, monkeypatch
):
  logs = _copy(sources, tmp_path)
  first = _prepare(logs, tmp_path / 'out')
  folder = logs['dqn_replay']
  monkeypatch.chdir(folder.parent)
  for spelling in (f'{folder}/', folder.name, f'./{folder.name}/'):
    assert _prepare({'dqn_replay': spelling}, tmp_path / 'out') == first
  folder.rename(folder.with_name('moved'))
  moved = {'dqn_replay': folder.with_name('moved')}
  assert _prepare(moved, tmp_path / 'out') == first
  # Other files under the new name are other data.
  path = raw_logs.store_path(moved['dqn_replay'], GAME, 1, 2, 'observation')
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(DataError, match='(?s)prepared by another request.*input'):
    _prepare(moved, tmp_path / 'out')


@pytest.mark.slow
def test_one_process_prepares_an_output(sources, tmp_path):
  output = tmp_path / 'out'
  with ownership.owned(output / '.preparing.owner'):
    with pytest.raises(OSError, match='in use by process'):
      _prepare(sources, output)
  _prepare(sources, output)
  assert not list(output.glob('.*'))


def test_an_interrupted_request_is_not_mixed_with_another(sources, tmp_path):
  logs = _copy(sources, tmp_path)
  path = raw_logs.store_path(logs['dqn_replay'], GAME, 1, 2, 'observation')
  path.write_bytes(path.read_bytes()[:-1000])
  with pytest.raises(DataError):
    _prepare(logs, tmp_path / 'out')
  with pytest.raises(DataError, match='another request that was interrupted'):
    _prepare(logs, tmp_path / 'out', seed=1)


@pytest.mark.parametrize(
  'options, message',
  [
    (dict(runs='7'), r'Carnival has no run 7: there are \[1, 2\]'),
    (dict(checkpoints='5'), r'no checkpoint 5: there are \[1, 2\]'),
    (dict(checkpoints='best'), "'best' is no list of numbers"),
    (dict(transitions=10**9), '1000000000 are wanted: take more runs'),
    (dict(fraction=0.1, transitions=5), 'not both'),
  ],
)
def test_bad_requests(sources, tmp_path, options, message):
  with pytest.raises(ValueError, match=message):
    _prepare(sources, tmp_path / 'out', **options)
  assert not _looks_complete(tmp_path / 'out')


@pytest.mark.slow
def test_a_mistake_does_not_claim_the_directory(sources, tmp_path):
  for options in (dict(fraction=2.0), dict(transitions=10**9), dict(runs='7')):
    with pytest.raises(ValueError):
      _prepare(sources, tmp_path / 'out', **options)
  assert _prepare(sources, tmp_path / 'out', fraction=0.5)


@pytest.mark.parametrize('text', ['{', '{}'])
def test_a_damaged_manifest(sources, tmp_path, text):
  (tmp_path / formats.MANIFEST).write_text(text)
  with pytest.raises(DataError, match='manifest.json is damaged.*remove'):
    _prepare(sources, tmp_path)


def test_outputs_that_cannot_be_written_to(sources, tmp_path):
  with pytest.raises(ValueError, match='hdfs:// cannot be written to'):
    _prepare(sources, 'hdfs://host/data')
  (tmp_path / 'file').write_text('')
  with pytest.raises((OSError, DataError), match='file'):
    _prepare(sources, tmp_path / 'file')


def test_full_disk(sources, tmp_path):
  """A file system of 500 kB, then a larger one."""
  small = tmp_path / 'small'
  small.mkdir()
  mount = ['mount', '-t', 'tmpfs', '-o', 'size=500k', 'tmpfs', str(small)]
  if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
    pytest.skip('mounting needs root')
  try:
    with pytest.raises(ValueError, match='[Nn]o space') as raised:
      _prepare(sources, small / 'out')
    assert 'run the same command again' in str(raised.value)
    assert not _looks_complete(small / 'out')
    larger = ['mount', '-o', 'remount,size=50m', str(small)]
    subprocess.run(larger, check=True)
    _prepare(sources, small / 'out')
    assert _looks_complete(small / 'out')
  finally:
    subprocess.run(['umount', str(small)], check=True)


@pytest.mark.parametrize(
  'argument, message',
  [
    ('--fractoin=0.1', 'has a flag --fractoin'),
    ('--games=Tetris', "Unknown game 'Tetris'"),
    ('--source=atari', 'atari'),
    pytest.param('--input=/nowhere', '/nowhere', marks=pytest.mark.slow),
    ('--fraction=2', 'fraction is 2.0'),
  ],
)
def test_the_command_names_what_is_wrong(
  sources, launch, tmp_path, argument, message
):
  done = launch(
    'prepare_data', *command_flags(sources, tmp_path / 'out'), argument
  )
  assert done.returncode
  assert message in done.stderr.splitlines()[-1], done.stderr
  assert 'Traceback' not in done.stderr
  assert not _looks_complete(pathlib.Path(tmp_path / 'out'))
