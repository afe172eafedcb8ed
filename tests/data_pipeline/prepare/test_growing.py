"""Directories that grow: download, prepare, delete, and the next."""

import json
import os
import shutil

import pytest

from jowa_jax import ownership, processes
from jowa_jax.data.episodes import DataError
from jowa_jax.data.feed.training import DataConfig, TrainingData
from jowa_jax.data.prepare import manifest as manifests
from jowa_jax.data.prepare import prepare
from jowa_jax.data.store import formats, stored, writer
from jowa_jax.methods.base import BatchSpec
from tests.cases import quick
from tests.data_pipeline.sources import raw_logs

GAMES = ('Carnival', 'Pong')


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
  """Starting others takes seconds."""
  monkeypatch.setattr(processes, 'num_cores', lambda: 1)


@pytest.fixture(scope='module')
def logs(tmp_path_factory):
  """Two runs of two games, of some hundred transitions each."""
  root = tmp_path_factory.mktemp('logs')
  for game in GAMES:
    whole = raw_logs.random_play(game, 300)[0]
    for run in (1, 2):
      pieces = [
        raw_logs.piece(whole, 40 * k, 40 * k + 20 + run)._replace(
          terminated=True
        )
        for k in range(4)
      ]
      numbered = {1: pieces[:2], 50: pieces[2:]}
      raw_logs.write_dqn_replay(root, game, run, numbered, level=1)
  return root


def _prepare(root, output, games, **options):
  options = {'runs': '1', **options}
  games = (games,) if isinstance(games, str) else games
  request = prepare.Request('dqn_replay', str(root), games, **options)
  return prepare.prepare(request, output, progress=False)


def _digests(output, games=GAMES):
  return [e.digest for e in stored.load_episodes(output, games)]


def _tree(folder):
  """Every file, when it was written and what it is."""
  return {
    path: (path.stat().st_mtime_ns, path.stat().st_ino)
    for path in sorted(folder.rglob('*'))
    if path.is_file()
  }


@pytest.mark.slow
def test_games_one_after_the_other_are_those_of_one_request(
  logs, tmp_path, caplog
):
  """Each is deleted as soon as it is prepared."""
  caplog.set_level('INFO')
  together = _prepare(logs, tmp_path / 'together', GAMES, fraction=0.5)
  once, out = tmp_path / 'downloads', tmp_path / 'out'
  for game in GAMES:
    shutil.copytree(logs / game, once / game)
    _prepare(once, out, game, fraction=0.5)
    shutil.rmtree(once / game)
  grown = json.loads((out / formats.MANIFEST).read_text())
  assert _digests(out) == _digests(tmp_path / 'together')
  assert [one['request']['games'] for one in grown['requests']] == [
    ['Carnival'],
    ['Pong'],
  ]
  for game, facts in together['games'].items():
    mine = grown['games'][game]
    assert facts['runs'].keys() == mine['runs'].keys() == {'run_1'}
    for name in ('steps', 'steps_there', 'episodes', 'mean_return'):
      assert facts[name] == mine[name]
  assert sorted(os.listdir(out)) == sorted(os.listdir(tmp_path / 'together'))
  # The same again, though nothing of the source is left; and more than it.
  before = _tree(out)
  assert _prepare(once, out, 'Carnival', fraction=0.5) == grown
  assert 'run_1 of Carnival was prepared before' in caplog.text
  assert _prepare(once, out, GAMES, fraction=0.5) == grown
  assert _tree(out) == before


def test_runs_of_a_game_join_it(logs, tmp_path):
  first = _prepare(logs, tmp_path, 'Pong')
  data = DataConfig(str(tmp_path), ('Pong',), runs=(1,))
  before = TrainingData(data, BatchSpec(4), 2, 0).identity
  grown = _prepare(logs, tmp_path, 'Pong', runs='2', seed=3)
  assert list(stored.find_runs(tmp_path)['Pong']) == [1, 2]
  runs = grown['games']['Pong']['runs']
  assert [runs[f'run_{n}']['request'] for n in (1, 2)] == [0, 1]
  assert grown['games']['Pong']['steps'] == sum(
    len(episode) for episode in stored.load_episodes(tmp_path, 'Pong')
  )
  assert first['games']['Pong']['steps'] < grown['games']['Pong']['steps']
  # A run that learns from the first is what it was.
  assert TrainingData(data, BatchSpec(4), 2, 0).identity == before


@pytest.mark.slow
@pytest.mark.parametrize(
  'options, message',
  [
    (dict(seed=1), 'Pong_run_1 was prepared by another.*\n  seed: 0, not 1'),
    (dict(runs='all'), "Pong_run_1 was.*\n  runs: '1', not 'all'"),
    (
      dict(runs='2', checkpoints='1'),
      "^Pong was prepared by another.*\n  checkpoints: 'all', not '1'",
    ),
    (dict(runs='2', fraction=0.5), 'fraction: None, not 0.5'),
  ],
)
def test_a_game_and_run_that_is_there_is_refused(
  logs, tmp_path, options, message
):
  _prepare(logs, tmp_path, 'Pong')
  before = _tree(tmp_path)
  with pytest.raises(DataError, match=message):
    _prepare(logs, tmp_path, 'Pong', **options)
  assert _tree(tmp_path) == before
  assert not list(tmp_path.glob('.*'))


def test_data_of_another_format_are_not_added_to(logs, tmp_path):
  _prepare(logs, tmp_path, 'Pong')
  path = tmp_path / formats.MANIFEST
  facts = json.loads(path.read_text())
  for name, value in (('version', '0.9.0'), ('frame_shape', [64, 64])):
    changed = {**facts, 'format': {**facts['format'], name: value}}
    path.write_text(json.dumps(changed))
    with pytest.raises(DataError, match=f'another format .{name}: .*, not '):
      _prepare(logs, tmp_path, 'Carnival')
  assert 'Carnival' not in stored.find_runs(tmp_path)


def test_directories_of_before_grow(logs, tmp_path):
  """Their manifest has one request."""
  _prepare(logs, tmp_path, 'Pong')
  path = tmp_path / formats.MANIFEST
  facts = json.loads(path.read_text())
  (asked,) = facts['requests']
  del facts['games']['Pong']['runs']['run_1']['request']
  old = {**asked, 'games': facts['games']}
  path.write_text(json.dumps(old))
  _prepare(logs, tmp_path, 'Pong')
  assert json.loads(path.read_text()) == old
  grown = _prepare(logs, tmp_path, 'Carnival', checkpoints='50')
  assert [one['request']['games'] for one in grown['requests']] == [
    ['Pong'],
    ['Carnival'],
  ]
  assert manifests.request_of(grown, 'Pong')['checkpoints'] == 'all'
  # Each game is drawn from by what it was prepared for.
  config = DataConfig(str(tmp_path), ('Carnival',), quality='expert')
  with pytest.raises(DataError, match='prepared with --checkpoints=50'):
    TrainingData(config, BatchSpec(4), 2, 0)
  TrainingData(
    DataConfig(str(tmp_path), ('Pong',), quality='expert'), BatchSpec(4), 2, 0
  )


class _Killed(BaseException):
  """Ends everything, as a kill does."""


def _kill_at(monkeypatch, module, name, count):
  """Lets a function be called so many times, and not once more."""
  calls, real = [], getattr(module, name)

  def call(*args, **kwargs):
    calls.append(args)
    if len(calls) > count:
      raise _Killed
    return real(*args, **kwargs)

  monkeypatch.setattr(module, name, call)


def _kill_at_manifest(monkeypatch, written):
  """Ends before the manifest is written, or right after it."""
  real = writer.write_json

  def write_json(path, value):
    if path.name != formats.MANIFEST or written:
      real(path, value)
    if path.name == formats.MANIFEST:
      raise _Killed

  monkeypatch.setattr(writer, 'write_json', write_json)


PLACES = {
  'lengths': lambda patch: _kill_at(patch, prepare, '_write_lengths', 1),
  'a part': lambda patch: _kill_at(patch, writer, 'write_split', 1),
  'before a run': lambda patch: _kill_at(patch, writer, '_publish', 0),
  'half of a run': lambda patch: _kill_at(patch, writer, '_publish', 1),
  'half of the runs': lambda patch: _kill_at(patch, writer, '_publish', 2),
  'before the manifest': lambda patch: _kill_at_manifest(patch, False),
  'clearing up': lambda patch: _kill_at_manifest(patch, True),
}


@pytest.mark.parametrize('place', quick(PLACES, 'half of the runs'))
def test_an_interruption_leaves_what_was_there(
  logs, tmp_path, monkeypatch, place
):
  out = tmp_path / 'out'
  _prepare(logs, out, 'Carnival')
  before, digests = _tree(out), _digests(out, 'Carnival')
  manifest = (out / formats.MANIFEST).read_bytes()
  with monkeypatch.context() as patch:
    PLACES[place](patch)
    with pytest.raises(_Killed):
      _prepare(logs, out, 'Pong', runs='1,2')
  assert _digests(out, 'Carnival') == digests
  after = _tree(out)
  for path in before.keys() - {out / formats.MANIFEST}:
    assert after[path] == before[path]
  assert _prepare(logs, out, 'Carnival')
  if place not in ('lengths', 'clearing up'):
    assert (out / formats.MANIFEST).read_bytes() == manifest
    # What has begun to be written is ended before another request begins.
    with pytest.raises(DataError, match='interrupted.*the same command'):
      _prepare(logs, out, 'Pong', runs='2')
  _prepare(logs, out, 'Pong', runs='1,2')
  assert not list(out.glob('.*'))
  _prepare(logs, tmp_path / 'whole', 'Carnival')
  _prepare(logs, tmp_path / 'whole', 'Pong', runs='1,2')
  assert _digests(out) == _digests(tmp_path / 'whole')


def test_one_process_adds_and_others_still_read(logs, tmp_path):
  _prepare(logs, tmp_path, 'Carnival')
  with ownership.owned(tmp_path / '.preparing.owner'):
    with pytest.raises(OSError, match='in use by process'):
      _prepare(logs, tmp_path, 'Pong')
    # What is done needs nobody's leave.
    assert _prepare(logs, tmp_path, 'Carnival')
  assert _prepare(logs, tmp_path, 'Pong')
