"""Recorded play gives the same data sets back, or says why it cannot."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from jowa_jax.collect import pieces, play, policies, recordings
from jowa_jax.collect.collect import collect
from jowa_jax.collect.replay import _specs, _to_file, replay
from jowa_jax.data.store import formats
from jowa_jax.data.tf_libraries import tfds
from tests.collect.recorded import STEPS


def _record(data, game, kind):
  path = pathlib.Path(formats.data_set_path(data, game, 1, kind))
  return json.loads((path / formats.RECORD).read_text())


def _frames_files(data, game):
  """Returns the bytes of all files of what training reads."""
  path = pathlib.Path(formats.data_set_path(data, game, 1, formats.FRAMES))
  return {
    file.name: file.read_bytes()
    for file in path.iterdir()
    if file.name != formats.RECORD
  }


def _episodes(data, game):
  """Returns the RLDS episodes; maps are not in the same order in each file."""
  path = formats.data_set_path(data, game, 1)
  splits = tfds.builder_from_directory(path).as_dataset()
  return [
    {**episode, 'steps': list(tfds.as_numpy(episode['steps']))}
    for split in sorted(splits)
    for episode in splits[split]
  ]


def _spec(epsilon=1.0, steps=STEPS, sticky=0.0):
  search = policies.LookaheadConfig(depth=2)
  return play.Checkpoint('Carnival', 2, 3, epsilon, steps, 7, sticky, search)


def _same(one, other):
  assert one.ale_py == other.ale_py and one.digest == other.digest
  for a, b in zip(one.checkpoints, other.checkpoints, strict=True):
    columns = [dataclasses.asdict(some) for some in (a, b)]
    for name, value in columns[0].items():
      np.testing.assert_array_equal(value, columns[1][name], err_msg=name)


@pytest.mark.slow
def test_replay_gives_the_collected_data_sets_back(collected, tmp_path):
  output = tmp_path / 'again'
  stats = replay(collected.path, output, progress=False)
  assert set(os.listdir(output)) == {'jowa_atari', 'jowa_atari_frames'}
  timeless = [
    [dataclasses.replace(split, seconds=0) for split in some]
    for some in (stats, collected.stats)
  ]
  assert timeless[0] == timeless[1]
  digest = recordings.load(collected.path).digest
  for game in ('Carnival', 'Assault'):
    assert _frames_files(output, game) == _frames_files(collected.data, game)
    for one, other in zip(
      _episodes(output, game), _episodes(collected.data, game), strict=True
    ):
      np.testing.assert_equal(one['steps'], other['steps'])
      assert int(one['episode_id']) == int(other['episode_id'])
      assert int(one['checkpoint_id']) == int(other['checkpoint_id'])
    record = _record(output, game, formats.FRAMES)
    assert digest in record['source'] and 'play.npz' in record['source']
    original = _record(collected.data, game, formats.FRAMES)
    for new, old in zip(record['settings'], original['settings'], strict=True):
      assert new.pop('replayed_steps') == STEPS and len(new.pop('recording'))
      assert new == old
  # What is finished is not played again; other play is not overwritten.
  assert replay(collected.path, output, progress=False) == stats
  with pytest.raises(ValueError, match='other settings'):
    replay(collected.path, output, steps_per_checkpoint=9, progress=False)


@pytest.mark.parametrize(
  'sticky', [pytest.param(0.0, marks=pytest.mark.slow), 0.25]
)
def test_searched_and_sticky_play_is_given_back(sticky, tmp_path):
  spec = _spec(epsilon=0.9, steps=1000, sticky=sticky)
  played = play.play(spec)
  assert len(played.episodes) > 2
  recording = recordings.of_now([recordings.of_played(spec, played)])
  recordings.write(tmp_path / 'a', recording)  # needs no suffix
  _same(recordings.load(tmp_path / 'a'), recording)
  (again,) = _specs(str(tmp_path / 'a'), 0, False)
  for one, other in zip(
    again.play(lambda done: None).episodes, played.episodes, strict=True
  ):
    assert one.frames == other.frames and one.terminated == other.terminated
    np.testing.assert_array_equal(one.actions, other.actions)
    np.testing.assert_array_equal(one.rewards, other.rewards)


def test_merged_recordings_are_those_of_one_collection(collected):
  whole = recordings.load(collected.path)
  assert whole.games == ('Carnival', 'Assault')
  halves = [
    recordings.Recording(whole.ale_py, whole.checkpoints[part])
    for part in (slice(0, 2), slice(2, 4))
  ]
  _same(recordings.merge(halves), whole)
  with pytest.raises(ValueError, match='is there twice'):
    recordings.merge([whole, halves[0]])
  with pytest.raises(ValueError, match='0.1 and .* cannot be joined'):
    recordings.merge([halves[0], dataclasses.replace(halves[1], ale_py='0.1')])


@pytest.mark.slow
def test_a_part_of_a_recording(collected, tmp_path):
  (split,) = replay(
    collected.path,
    tmp_path,
    'Carnival',
    checkpoints=(1,),
    steps_per_checkpoint=60,
    num_processes=1,
    progress=False,
  )
  assert (split.game, split.checkpoint, split.steps) == ('Carnival', 1, 60)
  (cut,) = _episodes(tmp_path, 'Carnival')
  whole = _episodes(collected.data, 'Carnival')
  first = next(episode for episode in whole if episode['checkpoint_id'] == 1)
  assert len(cut['steps']) == 60
  for one, other in zip(cut['steps'], first['steps'], strict=False):
    np.testing.assert_array_equal(one['observation'], other['observation'])
    assert one['action'] == other['action']


@pytest.mark.slow
def test_a_recording_alone_goes_on_after_a_kill(tmp_path):
  path = tmp_path / 'play.npz'
  process = subprocess.Popen(
    [sys.executable, '-m', 'launch.collect', f'--record={path}', '--noprogress']
    + ['--config.games=Carnival', '--config.epsilons=(1.0, 0.0)']
    + ['--config.steps_per_checkpoint=100', '--config.num_processes=2'],
  )
  work = tmp_path / '.play.npz.pieces'
  deadline = time.monotonic() + 60
  while not (found := list(work.glob('*-checkpoint_00-*.npz'))):
    assert time.monotonic() < deadline
    time.sleep(0.02)
  process.send_signal(signal.SIGKILL)
  process.wait(timeout=30)
  assert os.listdir(tmp_path) == [work.name]
  piece = recordings.load(found[0])
  arguments = ('Carnival', (1.0, 0.0), 100)
  stats = collect(
    None, *arguments, num_processes=1, progress=False, record=path
  )
  assert os.listdir(tmp_path) == ['play.npz']
  recording = recordings.load(path)
  assert recording.checkpoints[0].seconds == piece.checkpoints[0].seconds
  # A finished one is not played again, and not overwritten by other play.
  before = path.stat().st_mtime_ns
  again = collect(None, *arguments, progress=False, record=path)
  assert again == stats and path.stat().st_mtime_ns == before
  with pytest.raises(FileExistsError, match='other settings'):
    collect(None, *arguments, seed=1, progress=False, record=path)


@pytest.mark.slow
def test_data_sets_that_are_there_are_played_again_to_be_recorded(
  collected, tmp_path
):
  path = tmp_path / 'late.npz'
  stats = collect(
    collected.data,
    'Carnival,Assault',
    (1.0, 1.0),
    STEPS,
    progress=False,
    record=path,
  )
  assert stats == collected.stats
  assert recordings.load(path).digest == recordings.load(collected.path).digest


@pytest.mark.slow
def test_a_replay_goes_on_where_it_was_interrupted(collected, tmp_path):
  specs = _specs(collected.path, 40, False)
  _to_file(tmp_path, specs[0], lambda done: None)
  kept = play.load(pieces.path_of(tmp_path, specs[0])).seconds
  stats = replay(
    collected.path,
    tmp_path,
    'Carnival',
    steps_per_checkpoint=40,
    num_processes=1,
    progress=False,
  )
  assert stats[0].seconds == round(kept, 3)
  assert set(os.listdir(tmp_path)) == {'jowa_atari', 'jowa_atari_frames'}


def test_what_another_emulator_played_is_no_piece(monkeypatch):
  names = set()
  for version in ('0.1', '0.2'):
    monkeypatch.setattr(pieces.ale_py, '__version__', version)
    names.add(pieces.file_name(_spec()))
  assert len(names) == 2


def test_a_game_without_the_checkpoints_asked_for(collected, tmp_path):
  whole = recordings.load(collected.path)
  path = str(tmp_path / 'three.npz')
  recordings.write(
    path, dataclasses.replace(whole, checkpoints=whole.checkpoints[:3])
  )
  with pytest.raises(ValueError, match='Assault: no checkpoint 1 is recorded'):
    replay(path, games='Assault', checkpoints=(1,), progress=False)


def test_what_is_shipped_can_be_read():
  shipped = recordings.packaged()
  assert sum(len(path.read_bytes()) for path in shipped.values()) <= 2e6
  for name, path in shipped.items():
    found = recordings.load(path)
    # Of another run than the first, its number stands behind the game.
    game, _, run = name.partition('_')
    assert found.games == (game,)
    assert {some.run for some in found.checkpoints} == {int(run or 1)}


@pytest.mark.slow
def test_the_script_verifies_a_part(collected, launch):
  done = launch(
    'collect',
    f'--replay={collected.path}',
    '--config.games=Assault',
    '--config.replay.checkpoints=(1,)',
    '--config.replay.steps_per_checkpoint=30',
    '--noprogress',
  )
  assert done.returncode == 0, done.stderr
  (line,) = done.stdout.splitlines()
  assert line.startswith('Assault checkpoint_01 (epsilon 1): 1 episodes (0')
