"""Recordings that are damaged, edited or of another emulator are refused."""

import dataclasses
import json
import os
import pathlib

import numpy as np
import pytest

from jowa_jax.collect import recordings
from jowa_jax.collect.replay import ReplayError, _specs, replay
from tests.collect.recorded import STEPS


def _changed(path, **changes):
  """Changes the second checkpoint of a recording."""
  recording = recordings.load(path)
  checkpoints = list(recording.checkpoints)
  checkpoints[1] = dataclasses.replace(checkpoints[1], **changes)
  return dataclasses.replace(recording, checkpoints=tuple(checkpoints))


@pytest.mark.parametrize(
  'column',
  [
    'checksums',
    pytest.param('scores', marks=pytest.mark.slow),
    pytest.param('terminated', marks=pytest.mark.slow),
  ],
)
def test_another_outcome_is_refused(column, collected, tmp_path):
  values = getattr(recordings.load(collected.path).checkpoints[1], column)
  wrong = values.copy()
  wrong[1] = not wrong[1] if column == 'terminated' else wrong[1] + 1
  path, output = tmp_path / 'wrong.npz', tmp_path / 'data'
  recordings.write(path, _changed(collected.path, **{column: wrong}))
  message = 'wrong.npz: Carnival, run 1, checkpoint 1, episode 1 is not what'
  with pytest.raises(ReplayError, match=message) as error:
    replay(str(path), output, 'Carnival', num_processes=1, progress=False)
  assert f'expected {wrong[1]}, found {values[1]}' in str(error.value)
  assert os.listdir(tmp_path) == ['wrong.npz']


def test_an_episode_of_another_length_is_refused(collected):
  spec = _specs(collected.path, 0, False)[0]
  lengths = spec.recorded.lengths + np.array([1, -1], np.int32)
  longer = dataclasses.replace(spec.recorded, lengths=lengths)
  with pytest.raises(ReplayError, match='episode 0 .* decisions: expected'):
    dataclasses.replace(spec, recorded=longer).play(lambda done: None)


def _edited(data, tmp_path, contents=lambda contents: None, **columns):
  """Writes a recording that `recordings.write` would refuse."""
  path = tmp_path / 'edited.npz'
  with np.load(data) as stored:
    arrays = dict(stored)
  described = json.loads(arrays['contents'].tobytes())
  contents(described)
  arrays['contents'] = np.frombuffer(json.dumps(described).encode(), np.uint8)
  for name, change in columns.items():
    arrays[name] = change(arrays[name])
  np.savez_compressed(path, **arrays)
  return path


def _illegal(actions):
  actions = actions.copy()
  actions[STEPS + 3] = 17
  return actions


def _set(*names, value):
  def change(contents):
    for name in names[:-1]:
      contents = contents[name]
    contents[names[-1]] = value

  return change


_SETTINGS = ('checkpoints', 1, 'settings')
EDITS = {
  'no checkpoint': (dict(contents=_set('checkpoints', value=[])), 'damaged'),
  'fewer actions': (dict(actions=lambda column: column[:-1]), 'damaged'),
  'other actions': (
    dict(actions=lambda column: column.astype(np.int32)),
    'damaged',
  ),
  'no action': (
    dict(actions=_illegal),
    r'checkpoint 1, episode 0: the action 17 of decision 3 is not legal in Car',
  ),
  'no episode': (
    dict(lengths=lambda column: column * 2),
    'has 500 actions for episodes of 1000 decisions',
  ),
  'no game': (
    dict(contents=_set(*_SETTINGS, 'game', value='Tetris')),
    "Unknown game 'Tetris'",
  ),
  'no run': (
    dict(contents=_set(*_SETTINGS, 'run', value='one')),
    "setting run of a checkpoint is 'one'",
  ),
  'other ale-py': (
    dict(contents=_set('ale_py', value='0.9')),
    r'with ale-py 0.9, and .* is installed: pip install ale-py==0.9',
  ),
  'another format': (dict(contents=_set('version', value=9)), 'version 9'),
}


@pytest.mark.parametrize('edit', EDITS)
def test_an_edited_recording_is_refused(edit, collected, tmp_path):
  changes, message = EDITS[edit]
  path = _edited(collected.path, tmp_path, **changes)
  with pytest.raises(ValueError, match=f'edited.npz.*{message}') as error:
    replay(str(path), tmp_path / 'data', progress=False)
  assert '\n' not in str(error.value)
  assert os.listdir(tmp_path) == ['edited.npz']


@pytest.mark.slow
def test_another_version_can_be_tried(collected, tmp_path):
  path = _edited(collected.path, tmp_path, _set('ale_py', value='0.9'))
  (split, _) = replay(
    str(path), games='Assault', any_version=True, progress=False
  )
  assert split.steps == STEPS


def test_a_file_cut_short_is_refused_wherever_it_is_cut(collected, tmp_path):
  data, path = pathlib.Path(collected.path).read_bytes(), tmp_path / 'cut.npz'
  for stop in range(0, len(data), 41):
    path.write_bytes(data[:stop])
    with pytest.raises(ValueError, match='cut.npz is no recording, or one'):
      recordings.load(path)


@pytest.mark.parametrize(
  'arguments, message',
  [
    (dict(names='Tetris'), "no recording 'Tetris'.*shipped"),
    (dict(names=','), 'No recording is named'),
    (dict(games='Pong'), 'game Pong is not recorded, only Assault, Carnival'),
    (dict(checkpoints=(0, 2)), 'checkpoint 2 is not recorded, only 0, 1'),
    (dict(steps_per_checkpoint=-1), 'steps_per_checkpoint is -1'),
    (dict(num_processes=-1), 'num_processes is -1'),
  ],
)
def test_bad_arguments(arguments, message, collected, tmp_path):
  arguments = {'names': collected.path, **arguments}
  with pytest.raises(ValueError, match=message):
    replay(output=tmp_path / 'data', progress=False, **arguments)
  assert not os.listdir(tmp_path)


def test_one_checkpoint_in_two_recordings_is_refused(collected, tmp_path):
  copy = tmp_path / 'copy.npz'
  copy.write_bytes(pathlib.Path(collected.path).read_bytes())
  with pytest.raises(ValueError, match='checkpoint 0 is in .* and in .*copy'):
    replay(f'{collected.path}, {copy}', tmp_path / 'data', progress=False)
