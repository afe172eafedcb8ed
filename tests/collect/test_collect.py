"""Collected data sets: their format, their truth, and restarts."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.collect import pieces, play, policies, recordings, replay
from jowa_jax.collect.collect import collect
from jowa_jax.data.store import formats, stored
from jowa_jax.data.tf_libraries import tfds
from jowa_jax.envs import ale


def _builder(data_dir, game):
  return tfds.builder_from_directory(formats.data_set_path(data_dir, game, 1))


def _episodes(data_dir, game, split):
  """Returns a split's episodes with all steps decoded and stacked."""
  dataset = _builder(data_dir, game).as_dataset(split=split)
  for episode in dataset:
    steps = list(tfds.as_numpy(episode['steps']))
    stacked = {key: np.stack([step[key] for step in steps]) for key in steps[0]}
    yield stacked, float(episode['episode_return'])


def test_has_the_format_of_rl_unplugged(atari_data_dir):
  from tensorflow_datasets.rl_unplugged import atari_utils

  for game in ('Assault', 'Carnival'):
    builder = _builder(atari_data_dir, game)
    assert sorted(builder.info.splits) == ['checkpoint_00', 'checkpoint_01']
    expected = atari_utils.features_dict()
    assert repr(builder.info.features) == repr(expected)
    assert builder.info.config_name == f'{game}_run_1'


def test_alignment_of_full_and_cut_episodes(full_episodes_dir):
  episodes = list(_episodes(full_episodes_dir, 'Carnival', 'checkpoint_00'))
  *full, cut = episodes
  assert len(full) >= 1
  for steps, total in episodes:
    length = len(steps['action'])
    np.testing.assert_array_equal(steps['is_first'], np.arange(length) == 0)
    np.testing.assert_array_equal(
      steps['is_last'], np.arange(length) == length - 1
    )
    assert total == np.clip(steps['reward'], -1, 1).sum()
    assert steps['reward'].max() > 1  # not clipped
  for steps, _ in full:
    assert steps['is_terminal'].sum() == 1 and steps['is_terminal'][-1]
    assert steps['action'][-1] == steps['reward'][-1] == 0
    assert steps['discount'].tolist()[-3:] == [1, 0, 0]
  assert not cut[0]['is_terminal'].any() and cut[0]['discount'].all()
  decisions = sum(len(steps['action']) for steps, _ in episodes) - len(full)
  assert decisions == 1000


@pytest.mark.parametrize('split', ['checkpoint_00', 'checkpoint_01'])
def test_stored_actions_replay_to_stored_frames(atari_data_dir, split):
  env = ale.AleEnv('Carnival')
  for steps, _ in _episodes(atari_data_dir, 'Carnival', split):
    frame = env.reset()
    for t, action in enumerate(steps['action']):
      np.testing.assert_array_equal(steps['observation'][t, ..., 0], frame)
      if steps['is_terminal'][t]:
        break
      outcome = env.step(games.LEGAL_ACTIONS['Carnival'][action])
      frame = outcome.frame
      assert steps['reward'][t] == outcome.reward


def _spec(checkpoint, epsilon, steps):
  return play.Checkpoint(
    'Carnival',
    1,
    checkpoint,
    epsilon,
    steps,
    0,
    0.0,
    policies.LookaheadConfig(),
  )


def test_played_checkpoint_survives_its_file(tmp_path):
  played = play.play(_spec(0, 1.0, 500))
  assert [episode.terminated for episode in played.episodes] == [True, False]
  play.save(tmp_path / 'piece.npz', played)
  assert os.listdir(tmp_path) == ['piece.npz']
  loaded = play.load(tmp_path / 'piece.npz')
  assert loaded.seconds == played.seconds
  for before, after in zip(played.episodes, loaded.episodes, strict=True):
    assert before.frames == after.frames
    assert before.terminated == after.terminated
    np.testing.assert_array_equal(before.actions, after.actions)
    np.testing.assert_array_equal(before.rewards, after.rewards)
  png = np.frombuffer(loaded.episodes[0].frames[0], np.uint8)
  env = ale.AleEnv('Carnival')
  np.testing.assert_array_equal(cv2.imdecode(png, 0), env.reset())


def test_episodes_of_at_most_so_many_decisions():
  spec = dataclasses.replace(_spec(0, 1.0, 250), max_episode_steps=100)
  episodes = play.play(spec).episodes
  assert [len(episode.actions) for episode in episodes] == [100, 100, 50]
  # Cut off, not over: the frame on which the last action was decided is last.
  assert [len(episode.frames) for episode in episodes] == [100, 100, 50]
  assert not any(episode.terminated for episode in episodes)
  recorded = recordings.of_played(spec, play.Played(episodes, 1.0))
  again = replay.Replay(recorded, 250, 'here', 'a test')
  replayed = again.play(lambda done: None)
  assert [e.frames for e in replayed.episodes] == [e.frames for e in episodes]
  assert spec.settings()['max_episode_steps'] == 100
  # Older recordings lack the setting.
  assert 'max_episode_steps' not in _spec(0, 1.0, 250).settings()


def test_finished_data_sets_are_not_played_again(atari_data_dir):
  path = pathlib.Path(formats.data_set_path(atari_data_dir, 'Assault', 1))
  before = {file.name: file.stat().st_mtime_ns for file in path.iterdir()}
  stats = collect(
    atari_data_dir, 'Assault', (1.0, 0.2), 120, num_processes=1, progress=False
  )
  after = {file.name: file.stat().st_mtime_ns for file in path.iterdir()}
  assert before == after
  record = json.loads((path / formats.RECORD).read_text())
  assert [split.steps for split in stats] == [120, 120]
  assert [split.seconds for split in stats] == [
    split['seconds'] for split in record['splits']
  ]
  with pytest.raises(ValueError, match='other settings: remove it'):
    collect(atari_data_dir, 'Assault', (1.0, 0.3), 120, progress=False)
  # Nothing but the data sets is left behind.
  assert set(os.listdir(atari_data_dir)) == {'jowa_atari', 'jowa_atari_frames'}


# 300 searched decisions keep a process busy for several seconds.
_ARGUMENTS = [
  '--config.games=Carnival',
  '--config.epsilons=(1.0, 0.0)',
  '--config.steps_per_checkpoint=300',
  '--config.num_processes=2',
]


def _children(pid):
  with open(f'/proc/{pid}/task/{pid}/children') as file:
    return [int(child) for child in file.read().split()]


def _wait(condition, seconds=60):
  deadline = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < deadline, 'waited in vain'
    time.sleep(0.05)


def _stop(output, number):
  """Collects until one checkpoint is played and another is, then signals."""
  process = subprocess.Popen(
    [sys.executable, '-m', 'launch.collect', f'--output={output}']
    + [*_ARGUMENTS, '--noprogress'],
    start_new_session=True,
    # A shell's background jobs ignore it, and so would what they start.
    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
  )
  work = output / '.jowa_atari_pieces' / 'Carnival_run_1'
  _wait(lambda: list(work.glob('checkpoint_00-????????????.npz')))
  workers = _children(process.pid)
  assert len(workers) >= 2
  if number == signal.SIGINT:
    os.killpg(process.pid, number)  # as Ctrl-C does
  else:
    process.send_signal(number)
  assert process.wait(timeout=30)
  _wait(lambda: not any(os.path.exists(f'/proc/{pid}') for pid in workers))
  assert os.listdir(output) == [work.parent.name]
  return work


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_ctrl_c_stops_at_once(tmp_path):
  _stop(tmp_path, signal.SIGINT)


@pytest.mark.slow
def test_one_process_plays_what_becomes_one_data_set(tmp_path):
  spec = _spec(0, 1.0, 50)
  arguments = (tmp_path, 'Carnival', (1.0,), 50)
  with pieces.owned(tmp_path, [[spec]]):
    with pytest.raises(OSError, match='in use by process'):
      collect(*arguments, num_processes=1, progress=False)
    # Another game's is another's to play.
    collect(tmp_path, 'Pong', (1.0,), 50, num_processes=1, progress=False)
  collect(*arguments, num_processes=1, progress=False)
  assert set(os.listdir(tmp_path)) == {'jowa_atari', 'jowa_atari_frames'}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_continues_after_a_kill(tmp_path):
  work = _stop(tmp_path, signal.SIGKILL)
  (piece,) = work.glob('checkpoint_0*.npz')
  seconds = play.load(piece).seconds
  stats = collect(
    tmp_path, 'Carnival', (1.0, 0.0), 300, num_processes=2, progress=False
  )
  assert stats[0].seconds == round(seconds, 3)  # not played again
  assert set(os.listdir(tmp_path)) == {'jowa_atari', 'jowa_atari_frames'}
  # The same play as one that was never killed.
  (steps, _), *_ = _episodes(tmp_path, 'Carnival', 'checkpoint_01')
  whole = play.play(_spec(1, 0.0, 40)).episodes[0]
  np.testing.assert_array_equal(steps['action'][:40], whole.actions)


@pytest.mark.parametrize(
  'arguments, message',
  [
    (dict(epsilons=()), 'epsilons is empty'),
    (dict(epsilons=(1.2,)), r'must be in \[0, 1\]'),
    (dict(steps_per_checkpoint=0), 'steps_per_checkpoint is 0'),
    (dict(num_processes=0), 'num_processes is 0'),
    (dict(max_episode_steps=-1), 'max_episode_steps is -1'),
    (dict(games='Tetris'), "Unknown game 'Tetris'"),
  ],
)
def test_bad_arguments(tmp_path, arguments, message):
  good = dict(games='Pong', epsilons=(1.0,), steps_per_checkpoint=5)
  with pytest.raises(ValueError, match=message):
    collect(tmp_path, **{**good, **arguments})
  assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
  'argument, message',
  [
    ('--config.games=Tetris', "Unknown game 'Tetris'"),
    ('--config.game=Pong', 'Did you mean "games"'),
    ('--config.run=one', 'one'),
    ('--config=configs/collect.py:huge', "Variant 'huge' is unknown"),
  ],
)
def test_launch_names_what_is_wrong(tmp_path, launch, argument, message):
  done = launch('collect', f'--output={tmp_path}', argument)
  assert done.returncode != 0
  assert message in done.stderr
  assert not os.listdir(tmp_path)


@pytest.mark.slow
def test_variants_are_collected_as_their_game(tmp_path):
  """Their play is of the game's name, and a recording plays it again."""
  settings = dict(epsilons=(1.0,), steps_per_checkpoint=40, progress=False)
  for name, run in (('Freeway', 1), ('Freeway@m1d0', 2)):
    record = tmp_path / f'{run}.npz'
    (stats,) = collect(
      tmp_path / 'data', name, run=run, record=record, **settings
    )
    assert (stats.game, stats.steps) == (name, 40)
  plain, variant = stored.load_episodes(tmp_path / 'data', 'Freeway')
  assert (plain.run, variant.run) == (1, 2) and variant.game == 'Freeway'
  frames = np.zeros((2, 40, 84, 84), np.uint8)
  for episode, out in zip((plain, variant), frames, strict=True):
    episode.decode(0, 40, out)
  assert (frames[0] != frames[1]).any(axis=(1, 2)).all()
  replay.replay(
    str(tmp_path / '2.npz'), tmp_path / 'again', 'Freeway@m1d0', progress=False
  )
  (again,) = stored.load_episodes(tmp_path / 'again', 'Freeway')
  assert again.digest == variant.digest
  with pytest.raises(ValueError, match='Freeway and Freeway@m1d0 would both'):
    collect(tmp_path, 'Freeway,Freeway@m1d0', **settings)
  with pytest.raises(ValueError, match='Freeway has no mode 9'):
    collect(tmp_path, 'Freeway@m9', num_processes=1, **settings)
