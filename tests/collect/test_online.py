"""Learning while playing: the replay on disk, and runs that are killed."""

import numpy as np
import pytest

from configs import finetune_online
from jowa_jax.collect.online import OnlineConfig, OnlineFeed
from jowa_jax.data.episodes import DataError
from jowa_jax.data.feed import replay as replay_lib
from jowa_jax.data.feed.dataset import SegmentDataset
from jowa_jax.data.feed.replay import Replay, Row
from jowa_jax.recipes import online
from jowa_jax.train.run import Run
from tests.train import helpers

VARIANT = 'Freeway@m1d0'


def row(value, terminated=(False, False), truncated=(False, False)):
  """A decision of two environments, whose frames are `value` and 1 more."""
  frames = np.stack([np.full((84, 84), value + env) for env in range(2)])
  return Row(
    frames.astype(np.uint8),
    np.array([2, 5]),
    np.array([value, -0.0]),
    np.array(terminated),
    np.array(truncated),
  )


def play(replay, count):
  """The first environment ends after 2 rows, the other is cut after 3."""
  for number in range(len(replay), count):
    replay.append(row(10 * number, (number == 1, False), (False, number == 2)))


def told(replay):
  """(environment, first frames' pixels, actions, ended) of all episodes."""
  found = []
  for episode in replay.episodes():
    frames = np.zeros((len(episode), 84, 84), np.uint8)
    episode.decode(0, len(episode), frames)
    pixels = frames[:, 5, 7].tolist()
    found.append((episode.run, pixels, len(episode), episode.terminated))
  return found


def test_a_replay_grows_and_is_restored(tmp_path):
  replay = Replay('Freeway', 2)
  play(replay, 2)
  replay.save(tmp_path)
  play(replay, 4)
  expected = [
    (0, [0, 10], 2, True),
    (1, [1, 11, 21], 3, False),
    (0, [20, 30], 2, False),
    (1, [31], 1, False),
  ]
  assert told(replay) == expected
  replay.save(tmp_path)
  replay.save(tmp_path)  # nothing new
  assert told(replay) == expected and replay.bounds == (0, 2, 4)
  names = sorted(path.name for path in tmp_path.iterdir())
  assert names == ['rows_000000000_000000002', 'rows_000000002_000000004']
  again = Replay('Freeway', 2)
  again.restore(tmp_path, (0, 2, 4))
  assert told(again) == expected
  # Back to the first part, and the same rows once more.
  again.restore(tmp_path, (0, 2))
  assert told(again) == [(0, [0, 10], 2, True), (1, [1, 11], 2, False)]
  play(again, 4)
  again.save(tmp_path)
  assert told(again) == expected
  (episode,) = (e for e in again.episodes() if e.terminated)
  assert episode.rewards.tolist() == [0, 1]  # clipped
  # A running episode's last steps have no target yet; an ended one's have.
  batch = SegmentDataset(again.episodes(), 1, 1, lookahead=1).batch([1, 7])
  np.testing.assert_array_equal(batch.ends[:, 0], [True, False])
  np.testing.assert_array_equal(batch.mask[:, 1], [False, False])


def test_a_part_that_cannot_be_written_leaves_the_replay(tmp_path, monkeypatch):
  replay = Replay('Freeway', 2)
  play(replay, 2)
  replay.save(tmp_path)
  play(replay, 4)
  before = told(replay)

  def full(*args, **kwargs):
    raise OSError(28, 'No space left on device')

  with monkeypatch.context() as patch:
    patch.setattr(replay_lib.np, 'save', full)
    with pytest.raises(OSError, match='No space left'):
      replay.save(tmp_path)
  assert [path.name for path in tmp_path.iterdir()] == [
    'rows_000000000_000000002'
  ]
  assert told(replay) == before
  replay.save(tmp_path)
  assert told(replay) == before


def test_a_damaged_part_is_named(tmp_path):
  replay = Replay('Freeway', 2)
  play(replay, 2)
  replay.save(tmp_path)
  with pytest.raises(DataError, match='rows_000000002_000000009 cannot be'):
    Replay('Freeway', 2).restore(tmp_path, (0, 2, 9))


def test_exploration_falls():
  config = OnlineConfig(
    random_decisions=10, epsilon_end=0.2, epsilon_decisions=4
  )
  found = [config.epsilon(number) for number in (0, 9, 10, 12, 14, 99)]
  np.testing.assert_allclose(found, [1, 1, 1, 0.6, 0.2, 0.2])
  with pytest.raises(ValueError, match='every=0'):
    OnlineConfig(every=0)


def run_of(workdir, **changes):
  """A run of 8 steps with saves every 4, and its feed."""
  config = finetune_online.get_config('smoke').to_dict()
  helpers.change(
    config,
    encoder__stage_sizes=(1,),
    encoder__stage_strides=(1,),
    encoder__pooling='mean',
    q_network__mlp_layers=1,
    online__max_frames=48,
    **changes,
  )
  config, settings = online.resolve(config, VARIANT, None)
  run = Run(config, workdir)
  return run, OnlineFeed(settings, VARIANT, run.method, 8, 0)


def learn(workdir, on_step=lambda step: None):
  run, feed = run_of(workdir)
  variables = run.train(progress=False, data=feed, on_step=on_step)
  return helpers.flat(variables), feed.replay


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('online') / 'run'
  return workdir, *learn(workdir)


class Killed(Exception):
  """As a process that is gone."""


def same(found, expected):
  variables, replay = found
  for path, value in expected[1].items():
    np.testing.assert_array_equal(variables[path], value, err_msg=path)
  assert told(replay) == told(expected[2])


@pytest.mark.slow
def test_it_plays_and_learns(whole):
  workdir, _, replay = whole
  # 8 random decisions, then 4 before each of 8 updates; episodes of 12.
  assert len(replay) == 8 + 8 * 4
  lengths = [len(e) for e in replay.episodes() if e.run == 0]
  assert lengths == [8, 12, 12, 8]
  records = helpers.read_metrics(workdir)
  assert [record['online/decisions'] for record in records] == [
    *(32.0, 48.0, 64.0, 80.0)
  ]
  # Logged with the next that is: episodes end in decisions 20 and 32.
  scored = [r['step'] for r in records if f'online/{VARIANT}' in r]
  assert scored == [4, 6]
  assert np.isfinite([record['loss/q'] for record in records]).all()


@pytest.mark.slow
@pytest.mark.parametrize('last', [3, 5, 7])  # checkpoints: steps 4 and 8
def test_a_killed_run_is_the_same_run(whole, last, tmp_path):
  def on_step(step):
    if step == last:
      raise Killed

  with pytest.raises(Killed):
    learn(tmp_path, on_step)
  same(learn(tmp_path), whole)


@pytest.mark.slow
@pytest.mark.parametrize('writer', ['save', 'savez'])
def test_killed_while_the_replay_is_written(
  whole, writer, tmp_path, monkeypatch
):
  def on_step(step):
    if step == 5:
      monkeypatch.setattr(replay_lib.np, writer, kill)

  def kill(*args, **kwargs):
    raise Killed

  with pytest.raises(Killed):
    learn(tmp_path, on_step)
  monkeypatch.undo()
  same(learn(tmp_path), whole)


def test_what_cannot_be_played(tmp_path):
  run, _ = run_of(tmp_path)
  with pytest.raises(ValueError, match='Freeway has no mode 9, but 0, 1, 2'):
    OnlineFeed(OnlineConfig(), 'Freeway@m9', run.method, 8, 0)
  with pytest.raises(ValueError, match='online.every'):
    run_of(tmp_path, online__every='often')


# That the replay itself stays whole, a quick test above says.
@pytest.mark.slow
@pytest.mark.parametrize('writer', ['save', 'savez'])
def test_a_full_disk_is_one_clear_line(whole, writer, tmp_path, monkeypatch):
  def on_step(step):
    if step == 5:
      monkeypatch.setattr(replay_lib.np, writer, fill)

  def fill(*args, **kwargs):
    raise OSError(28, 'No space left on device')

  with pytest.raises(OSError, match='feed: what was played until step 8 cann'):
    learn(tmp_path, on_step)
  monkeypatch.undo()
  parts = sorted(path.name for path in (tmp_path / 'feed').iterdir())
  assert parts[0].startswith('rows_') and not any('tmp' in x for x in parts)
  same(learn(tmp_path), whole)
