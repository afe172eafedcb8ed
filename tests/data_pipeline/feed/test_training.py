"""What a training run reads, on real play."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.data.episodes import DataError
from jowa_jax.data.feed import statistics
from jowa_jax.data.feed.training import DataConfig, TrainingData
from jowa_jax.data.store import stored
from jowa_jax.methods.base import BatchSpec
from jowa_jax.types import OPTIONAL_FIELDS

GAMES = ('Assault', 'Carnival')


def _spec(length):
  return BatchSpec(
    length, fields=OPTIONAL_FIELDS, statistics=('median_frames',)
  )


def _data(directory, held_out=0.0, length=8, batch_size=4, seed=0, **options):
  config = DataConfig(
    str(directory), GAMES, held_out_fraction=held_out, **options
  )
  return TrainingData(config, _spec(length), batch_size, seed)


@pytest.fixture(scope='module')
def split(atari_data_dir):
  return _data(atari_data_dir, held_out=0.3)


def _batches(data, start, stop):
  return list(data.batches(start, stop, put=lambda batch: batch))


def _assert_same(ours, theirs):
  for name in ('observations', 'actions', 'rewards', 'ends', 'mask', 'task'):
    np.testing.assert_array_equal(
      getattr(ours, name), getattr(theirs, name), err_msg=name
    )


def test_batches_depend_on_the_seed_and_the_step_alone(atari_data_dir):
  data = _data(atari_data_dir)
  whole = _batches(data, 0, 6)
  assert len(whole) == 6
  # A run that resumes at step 3 reads with other objects.
  for ours, theirs in zip(
    _batches(_data(atari_data_dir), 3, 6), whole[3:], strict=True
  ):
    _assert_same(ours, theirs)
  (other,) = _batches(_data(atari_data_dir, seed=1), 0, 1)
  assert (other.observations != whole[0].observations).any()
  assert whole[0].observations.shape == (4, 8, 84, 84)
  assert whole[0].observations.dtype == np.uint8
  assert whole[0].actions.dtype == np.int32


def test_the_first_batches_are_those_of_every_machine(full_episodes_dir):
  """Play, files, order and decoding: a change of this hash changes every run.

  Random play in the emulator is the same everywhere, as are PNG and integers.
  """
  config = DataConfig(str(full_episodes_dir), ('Carnival',), stride=1)
  spec = BatchSpec(8, fields=frozenset({'return_to_go'}))
  data = TrainingData(config, spec, 16, seed=7)
  state = hashlib.sha256()
  for batch in _batches(data, 0, 3):
    for name in ('observations', 'actions', 'rewards', 'ends', 'mask'):
      state.update(np.ascontiguousarray(getattr(batch, name)).tobytes())
    state.update(batch.return_to_go.astype('<f4').tobytes())
  assert state.hexdigest()[:16] == 'a16e2592855a033a'


@pytest.mark.parametrize('padding', ['right', 'left'])
def test_four_processes_read_the_batches_of_one(atari_data_dir, padding):
  options = dict(padding=padding, game_weights=(1.0, 3.0))
  whole = _batches(_data(atari_data_dir, **options), 0, 5)
  shares = [
    list(
      _data(atari_data_dir, **options).batches(
        0, 5, lambda batch: batch, process, 4
      )
    )
    for process in range(4)
  ]
  for step, batch in enumerate(whole):
    for name in ('observations', 'actions', 'mask', 'task', 't', 'episode_id'):
      parts = [getattr(share[step], name) for share in shares]
      assert {len(part) for part in parts} == {1}
      np.testing.assert_array_equal(
        np.concatenate(parts), getattr(batch, name), err_msg=name
      )


def test_weights_of_games(atari_data_dir):
  data = _data(atari_data_dir, batch_size=40, game_weights=(3.0, 1.0))
  (batch,) = _batches(data, 0, 1)
  assault = batch.task == games.task_id('Assault')
  assert assault.mean() == 0.75
  for options in (
    dict(game_weights=(1.0,)),
    dict(game_weights=(1.0, 1.0), balance_games=True),
  ):
    with pytest.raises(ValueError, match='one weight for each of'):
      _data(atari_data_dir, **options)


@pytest.fixture
def one_game_without_rewards(atari_data_dir, monkeypatch):
  """Carnival's are as they were played, those of Assault are 0."""
  load = stored.load_episodes

  def change(*args):
    return [
      dataclasses.replace(episode, rewards=episode.rewards * 0)
      if episode.game == 'Assault'
      else episode
      for episode in load(*args)
    ]

  monkeypatch.setattr(stored, 'load_episodes', change)
  return atari_data_dir


def test_a_share_of_segments_with_rewards(one_game_without_rewards, caplog):
  options = dict(batch_size=40, length=3, stride=2, balance_games=True)
  data = _data(one_game_without_rewards, reward_share=0.5, **options)
  (record,) = caplog.records
  assert 'data.reward_share=0.5: no segment of Assault' in record.getMessage()
  plain = _data(one_game_without_rewards, **options)
  carnival = games.task_id('Carnival')

  def rewarded(data):
    batches = _batches(data, 0, 5)
    # Each game as often as it would be.
    assert {(b.task == carnival).sum() for b in batches} == {20}
    rewards = np.concatenate([b.rewards[b.task == carnival] for b in batches])
    return rewards.any(1).mean()

  usual = plain.train.rewarded().mean() * 2
  assert 0 < usual < 0.5
  assert abs(rewarded(plain) - usual) < 0.1
  assert abs(rewarded(data) - (0.5 + 0.5 * usual)) < 0.1
  # The same data: a run may be begun anew with another share.
  assert data.identity == plain.identity


def test_four_processes_share_a_share(atari_data_dir):
  options = dict(reward_share=0.25, batch_size=8)
  (whole,) = _batches(_data(atari_data_dir, **options), 3, 4)
  parts = [
    list(_data(atari_data_dir, **options).batches(3, 4, lambda b: b, i, 4))
    for i in range(4)
  ]
  found = np.concatenate([part[0].t for part in parts])
  np.testing.assert_array_equal(found, whole.t)
  with pytest.raises(ValueError, match='reward_share=50.* from 0.001 to 1'):
    _data(atari_data_dir, reward_share=50)


def test_batches_pass_through_put_and_may_be_none(atari_data_dir):
  data = _data(atari_data_dir)
  shapes = list(data.batches(0, 2, put=lambda batch: batch.mask.shape))
  assert shapes == [(4, 8)] * 2
  assert _batches(data, 5, 5) == []


def test_batches_hold_legal_actions_of_their_games(atari_data_dir):
  seen = set()
  for batch in _batches(_data(atari_data_dir), 0, 8):
    legal = games.legal_mask()[batch.task]
    rows = np.arange(len(batch.task))[:, None]
    assert legal[rows, batch.actions][batch.mask].all()
    seen |= set(batch.task.tolist())
  assert seen == {games.task_id(game) for game in GAMES}


def test_balanced_batches_hold_games_equally_often(atari_data_dir):
  data = _data(atari_data_dir, balance_games=True)
  for batch in _batches(data, 0, 3):
    counts = np.unique(batch.task, return_counts=True)[1]
    assert counts.tolist() == [2, 2]


def test_held_out_episodes_are_not_trained_on(split):
  train = {episode.episode_id for episode in split.train.episodes}
  held_out = {episode.episode_id for episode in split.held_out.episodes}
  assert train and held_out and not train & held_out
  assert train | held_out == {e.episode_id for e in split.episodes}
  for batch in _batches(split, 0, 5):
    assert set(batch.episode_id.tolist()) <= train
  for batch in split.held_out_batches(3):
    assert set(batch.episode_id.tolist()) <= held_out


def test_segments_have_the_fields_that_are_asked_for(atari_data_dir):
  config = DataConfig(str(atari_data_dir), GAMES, held_out_fraction=0.3)
  for fields in (frozenset(), frozenset({'t'})):
    data = TrainingData(config, BatchSpec(8, fields=fields), 4, seed=0)
    for batch in (*_batches(data, 0, 1), *data.held_out_batches(1)):
      there = {name for name in OPTIONAL_FIELDS if batch[name] is not None}
      assert there == fields


def test_held_out_batches_are_fixed_and_spread(split):
  batches = split.held_out_batches(2)
  assert len(batches) == 2
  tasks = {games.task_id(game) for game in GAMES}
  for ours, theirs in zip(batches, split.held_out_batches(2), strict=True):
    _assert_same(ours, theirs)
    assert set(ours.task.tolist()) == tasks
  # No segment comes twice: they do not overlap.
  places = [
    (episode, t)
    for batch in batches
    for episode, t in zip(batch.episode_id, batch.t, strict=True)
  ]
  assert len(set(places)) == len(places) == 8
  many = split.held_out_batches(10_000)
  assert len(many) == split.held_out.num_segments // 4


@pytest.mark.parametrize(
  ('length', 'stride', 'apart'),
  [(4, 4, True), (4, 5, True), (4, 3, False), (1, 1, False)],
)
def test_says_that_segments_do_not_overlap(caplog, length, stride, apart):
  DataConfig('data', GAMES, stride=stride).warn_if_apart(length)
  assert ('data.stride=1 draws segments' in caplog.text) == apart


def test_few_held_out_segments_make_one_smaller_batch(atari_data_dir):
  data = _data(atari_data_dir, held_out=0.3, batch_size=10_000)
  (batch,) = data.held_out_batches(4)
  assert len(batch.task) == data.held_out.num_segments


def test_nothing_held_out(atari_data_dir):
  assert _data(atari_data_dir).held_out_batches(4) == []


def test_statistics_are_of_the_training_episodes(split):
  medians = split.statistics['median_frames']
  assert medians.shape == (60, 84, 84) and medians.dtype == np.uint8
  tasks = [games.task_id(game) for game in GAMES]
  assert all(medians[task].any() for task in tasks)
  assert not np.delete(medians, tasks, axis=0).any()


def test_statistics_that_nobody_names_are_not_computed(
  atari_data_dir, monkeypatch
):
  def refuse(episodes):
    raise AssertionError('not asked for')

  refused = statistics.STATISTICS['median_frames']._replace(of_game=refuse)
  monkeypatch.setitem(statistics.STATISTICS, 'median_frames', refused)
  config = DataConfig(str(atari_data_dir), GAMES)
  spec = BatchSpec(8, statistics=('action_counts',))
  assert set(TrainingData(config, spec, 4, 0).statistics) == {'action_counts'}
  with pytest.raises(AssertionError, match='not asked for'):
    TrainingData(config, _spec(8), 4, 0)


@pytest.mark.parametrize('padding', ['right', 'left'])
def test_windows_hold_the_steps_around_those_with_a_loss(
  atari_data_dir, padding
):
  """The same steps have a loss, in the same order, read in one go or not."""
  config = DataConfig(
    str(atari_data_dir),
    GAMES,
    stride=2,
    padding=padding,
    held_out_fraction=0.3,
    reward_share=0.5,
  )
  plain = BatchSpec(4, fields=OPTIONAL_FIELDS)
  window = plain._replace(history=3, lookahead=2)
  plain, window = (TrainingData(config, s, 16, 0) for s in (plain, window))
  batches = [
    (*_batches(d, 0, 3), *d.held_out_batches(2)) for d in (plain, window)
  ]
  cut = slice(3, 7)
  for ours, theirs in zip(*batches, strict=True):
    for name in ('observations', 'actions', 'rewards', 'ends', 'return_to_go'):
      assert theirs[name].shape[1] == 9
      np.testing.assert_array_equal(ours[name], theirs[name][:, cut], name)
    assert ours.train is None
    np.testing.assert_array_equal(ours.mask, theirs.train[:, cut])
    assert theirs.train.sum() == ours.mask.sum()
    np.testing.assert_array_equal(ours.t - 3, theirs.t)
    # What stands around them is there wherever the episode has it.
    lengths = {e.episode_id: len(e) for e in plain.episodes}
    for row, first in enumerate(theirs.t):
      places = first + np.arange(9)
      there = (0 <= places) & (places < lengths[int(theirs.episode_id[row])])
      assert theirs.mask[row].tolist() == there.tolist()
  assert 'history' not in plain.identity
  assert window.identity == {**plain.identity, 'history': 3, 'lookahead': 2}


def test_identity_is_json_and_tells_splits_apart(split, atari_data_dir):
  identity = json.loads(json.dumps(split.identity))
  assert identity == json.loads(
    json.dumps(_data(atari_data_dir, held_out=0.3).identity)
  )
  whole = _data(atari_data_dir)
  assert whole.identity['checksum'] != identity['checksum']
  assert set(whole.identity['games']) == set(GAMES)
  part = _data(atari_data_dir, checkpoints=(0,))
  assert {
    name for game in part.identity['games'].values() for name in game
  } == {'run_1/checkpoint_00'}


def test_no_directory_says_what_to_set():
  with pytest.raises(DataError, match='set data.directory'):
    _data('')


def test_missing_directory_is_named(tmp_path):
  with pytest.raises(DataError, match='nowhere'):
    _data(tmp_path / 'nowhere')


def test_game_that_is_not_there_is_named(atari_data_dir):
  config = DataConfig(str(atari_data_dir), ('Assault', 'Pong'))
  with pytest.raises(DataError, match='Pong'):
    TrainingData(config, BatchSpec(8), 4, 0)


def _manifest(directory, prepared, checkpoints):
  """The directory as launch.prepare_data with --checkpoints leaves it."""
  prepared.mkdir()
  for part in directory.iterdir():
    (prepared / part.name).symlink_to(part)
  text = json.dumps(
    {
      'request': {'games': GAMES, 'checkpoints': checkpoints},
      'versions': {},
      'games': {game: {'runs': {'run_1': {}}} for game in GAMES},
    }
  )
  (prepared / 'manifest.json').write_text(text)


def test_quality_and_transitions(atari_data_dir, tmp_path):
  """Of two checkpoints, the last fifth is the last one."""
  everything = _data(atari_data_dir)
  checkpoints = {'expert': {1}, 'suboptimal': {0, 1}, 'highly_suboptimal': {0}}
  for quality, wanted in checkpoints.items():
    data = _data(atari_data_dir, quality=quality)
    assert {e.checkpoint for e in data.episodes} == wanted
    assert data.train.num_segments <= everything.train.num_segments
  few = _data(atari_data_dir, quality='expert', transitions=100)
  for game in GAMES:
    assert 100 <= sum(len(e) for e in few.episodes if e.game == game) <= 120
  assert few.identity != everything.identity
  with pytest.raises(DataError, match='data.quality=expert.*5000 are wanted'):
    _data(atari_data_dir, quality='expert', transitions=5000)
  # What was drawn by quality before is not drawn by it again.
  _manifest(atari_data_dir, tmp_path / 'poor', 'highly_suboptimal')
  same = _data(tmp_path / 'poor', quality='highly_suboptimal')
  assert {e.checkpoint for e in same.episodes} == {0, 1}
  with pytest.raises(DataError, match='--checkpoints=highly_suboptimal'):
    _data(tmp_path / 'poor', quality='expert')


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (dict(quality='good'), "quality='good'.*expert"),
    (dict(quality='expert', checkpoints=(1,)), 'chooses the checkpoints'),
    (dict(transitions=-1), 'transitions is -1'),
  ],
)
def test_bad_draws_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    DataConfig('data', GAMES, **options)
