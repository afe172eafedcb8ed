"""Minari's data sets of ALE, written by Minari and read here, and back."""

import ale_py
import cv2
import gymnasium
import minari
import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.data.episodes import DataError
from jowa_jax.data.prepare import export
from jowa_jax.data.source import Split
from jowa_jax.data.sources.minari_sets import MinariSource
from jowa_jax.envs.ale import AleEnv
from tests.data_pipeline.sources import minari_play, raw_logs
from tests.data_pipeline.sources.minari_play import random_episode, spec_of

NAME = 'atari/pong/expert-v0'
SPLIT = Split('Pong', 1, 0)
SCREEN = (210, 160, 3)


def _frames(episode):
  return np.stack([raw_logs.decode(png) for png in episode.frames])


def _box(*shape, dtype=np.uint8):
  return gymnasium.spaces.Box(0, 255, shape, dtype)


@pytest.mark.parametrize('storage', export.STORAGES)
def test_reads_what_minari_writes(tmp_path, storage):
  written = [random_episode(9), random_episode(3, terminated=False)]
  spec = spec_of(game='PongNoFrameskip-v4', frameskip=4)
  minari_play.write(tmp_path, NAME, written, spec=spec, storage=storage)
  found = minari_play.read(tmp_path)
  assert list(found) == [SPLIT]
  for episode, (frames, actions, rewards, terminated) in zip(
    found[SPLIT], written, strict=True
  ):
    np.testing.assert_array_equal(_frames(episode), frames)
    np.testing.assert_array_equal(episode.actions, actions)
    np.testing.assert_array_equal(episode.rewards, rewards)
    assert (episode.actions.dtype, episode.rewards.dtype) == (np.int32, 'f4')
    assert episode.terminated is terminated
  source = MinariSource(str(tmp_path))
  (second,) = source.episodes(SPLIT, [1])
  np.testing.assert_array_equal(_frames(second), written[1][0])


@pytest.mark.parametrize(
  'shape, newest',
  [
    ((84, 84, 1), lambda o: o[..., 0]),
    ((4, 84, 84), lambda o: o[:, -1]),
    ((84, 84, 4), lambda o: o[..., -1]),
    ((210, 160), lambda o: o),
    (SCREEN, lambda o: np.stack([cv2.cvtColor(f, 7) for f in o])),
    ((2, *SCREEN), lambda o: np.stack([cv2.cvtColor(f, 7) for f in o[:, -1]])),
    ((84, 84, 3), lambda o: np.stack([cv2.cvtColor(f, 7) for f in o])),
  ],
)
def test_pictures_of_any_layout(tmp_path, shape, newest):
  assert cv2.COLOR_RGB2GRAY == 7
  written = random_episode(3, shape)
  minari_play.write(tmp_path, NAME, [written], space=_box(*shape))
  (episode,) = minari_play.read(tmp_path)[SPLIT]
  wanted = [
    cv2.resize(frame, (84, 84), interpolation=cv2.INTER_AREA)
    for frame in newest(written[0])
  ]
  np.testing.assert_array_equal(_frames(episode), wanted)


def _hold(env, actions, held):
  """Plays actions, each held for so many steps, until the game is over."""
  env.reset(seed=0)
  for action in actions:
    for _ in range(held):
      *_, terminated, truncated, _ = env.step(action)
      if terminated or truncated:
        return


@pytest.mark.slow
@pytest.mark.parametrize(
  'rules, held',
  [
    (dict(frameskip=1, obs_type='rgb'), 4),
    (dict(frameskip=1, obs_type='grayscale', full_action_space=True), 4),
    (dict(frameskip=2, obs_type='rgb'), 2),
    (dict(frameskip=4, obs_type='rgb'), 1),
  ],
)
def test_collected_play_is_what_is_played_here(
  tmp_path, monkeypatch, rules, held
):
  """Minari's own collector around ALE, beside our environment.

  Where frames are there to be joined, all pixels are the same.
  """
  monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path))
  gymnasium.register_envs(ale_py)
  env = gymnasium.make('ALE/Pong-v5', repeat_action_probability=0.0, **rules)
  collector = minari.DataCollector(env, jpeg_encoding=False)
  minimal = np.random.default_rng(0).integers(0, 6, 70)
  legal = np.array(games.LEGAL_ACTIONS['Pong'])
  full = rules.get('full_action_space', False)
  _hold(collector, legal[minimal] if full else minimal, held)
  collector.create_dataset('mine/first-v0')
  (episode,) = minari_play.read(tmp_path)[SPLIT]
  ours = AleEnv('Pong')
  frames, rewards = [ours.reset()], []
  for action in legal[minimal]:
    outcome = ours.step(int(action))
    frames.append(outcome.frame)
    rewards.append(outcome.reward)
  np.testing.assert_array_equal(episode.actions, minimal)
  np.testing.assert_array_equal(episode.rewards, rewards)
  assert any(rewards) and not episode.terminated
  if rules['frameskip'] == 1:
    np.testing.assert_array_equal(_frames(episode), frames)
  else:
    apart = np.abs(_frames(episode).astype(int) - np.array(frames, int))
    assert apart.mean() < 0.5


def test_episodes_of_a_frame_a_step_that_end_within_a_decision(tmp_path):
  frames, _, rewards, _ = random_episode(6)
  written = (frames, [2, 2, 2, 2, 5, 5], rewards, True)
  spec = spec_of(frameskip=1)
  path = minari_play.write(tmp_path, NAME, [written], spec=spec)
  (episode,) = minari_play.read(tmp_path)[SPLIT]
  assert episode.actions.tolist() == [2, 5] and episode.terminated
  assert episode.rewards.tolist() == [sum(rewards[:4]), sum(rewards[4:])]
  joined = [frames[0], frames[3:5].max(0), frames[5:7].max(0)]
  np.testing.assert_array_equal(_frames(episode), joined)
  # Played frame by frame, it has no decisions of four frames.
  minari_play.write(
    tmp_path / 'other',
    NAME,
    [(frames, [2, 2, 3, 2, 5, 5], rewards, True)],
    spec=spec,
  )
  with pytest.raises(DataError, match='other actions within a decision.*four'):
    minari_play.read(tmp_path / 'other')
  assert path.exists()


def test_wrappers_hold_actions_and_end_episodes(tmp_path, caplog):
  wrappers = [('AtariPreprocessing', {'frame_skip': 4})]
  spec = spec_of(frameskip=1, wrappers=wrappers)
  minari_play.write(tmp_path / 'a', NAME, [random_episode(5)], spec=spec)
  (episode,) = minari_play.read(tmp_path / 'a')[SPLIT]
  assert len(episode.actions) == 5 and episode.terminated
  wrappers[0][1]['terminal_on_life_loss'] = True
  spec = spec_of(frameskip=1, wrappers=wrappers)
  minari_play.write(tmp_path / 'b', NAME, [random_episode(5)], spec=spec)
  (episode,) = minari_play.read(tmp_path / 'b')[SPLIT]
  assert not episode.terminated
  assert 'end with a life' in caplog.text


def test_jpeg_is_read_as_it_is(tmp_path):
  """What Minari does with pictures unless it is told otherwise."""
  frames = np.zeros((4, *SCREEN), np.uint8)
  frames[:, 60:120, 40:100] = (200, 70, 20)
  written = (frames, [0, 1, 2], [0, 0, 1], True)
  for storage in export.STORAGES:
    root = tmp_path / storage
    minari_play.write(
      *(root, NAME, [written]),
      space=_box(*SCREEN),
      jpeg_encoding=True,
      storage=storage,
    )
    (episode,) = minari_play.read(root)[SPLIT]
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    wanted = [
      cv2.resize(f, (84, 84), interpolation=cv2.INTER_AREA) for f in grey
    ]
    apart = np.abs(_frames(episode).astype(int) - np.array(wanted, int))
    assert 0 < apart.mean() < 2


def test_runs_versions_and_games(tmp_path):
  one = [random_episode(3)]
  for number, name in enumerate(
    (
      'atari/pong/expert-v0',
      'atari/pong/expert-v1',
      'x/pong/run_7-v0',
      'x/pong/medium-v0',
      'atari/mspacman/expert-v0',
    )
  ):
    actions = 9 if 'mspacman' in name else 6
    minari_play.write(
      tmp_path, name, [random_episode(3 + number)], actions=actions
    )
  (tmp_path / '.hidden' / 'atari').mkdir(parents=True)
  found = minari_play.read(tmp_path)
  lengths = {split.run: len(e[0].actions) for split, e in found.items()}
  assert lengths == {1: 4, 2: 6, 7: 5}
  assert list(minari_play.read(tmp_path, 'MsPacman')) == [
    Split('MsPacman', 1, 0)
  ]
  with pytest.raises(DataError, match='no data set of Qbert.*MsPacman'):
    minari_play.read(tmp_path, 'Qbert')
  minari_play.write(tmp_path, 'D4RL/pen/human-v2', one)
  with pytest.raises(DataError, match=r'D4RL/pen/human \(no Atari game\)'):
    minari_play.read(tmp_path, 'Qbert')
  with pytest.raises(DataError, match='nowhere is no directory'):
    minari_play.read(tmp_path / 'nowhere')


def test_games_of_all_actions_and_illegal_ones(tmp_path):
  frames, _, rewards, _ = random_episode(4)
  legal = [4, 0, 12, 3]
  minari_play.write(
    tmp_path / 'a', NAME, [(frames, legal, rewards, True)], actions=18
  )
  (episode,) = minari_play.read(tmp_path / 'a')[SPLIT]
  minimal = np.array(games.LEGAL_ACTIONS['Pong'])
  assert minimal[episode.actions].tolist() == legal
  minari_play.write(
    tmp_path / 'b', NAME, [(frames, [0, 1, 2, 3], rewards, True)], actions=18
  )
  with pytest.raises(DataError, match=r'takes UP \(2\).*effect.*Pong'):
    minari_play.read(tmp_path / 'b')


RAM = gymnasium.spaces.Box(0, 255, (128,), np.uint8)
REFUSED = {
  'no pictures': (dict(space=RAM), 'observations are Box.*no pictures'),
  'floats': (dict(space=_box(84, 84, dtype=np.float32)), 'no pictures'),
  'another size': (dict(space=_box(64, 64)), 'no pictures'),
  'continuous': (
    dict(actions=gymnasium.spaces.Box(-1, 1, (3,))),
    'actions are Box.*neither the 18 of ALE nor the 6 minimal ones of Pong',
  ),
  'a wrapper of actions': (dict(actions=3), r'actions are Discrete\(3\)'),
  'from 1 on': (
    dict(actions=gymnasium.spaces.Discrete(6, start=1)),
    'start=1.*not known',
  ),
  'skip': (dict(spec=spec_of(frameskip=3)), 'frame skip of 3'),
  'any skip': (
    dict(spec=spec_of(frameskip=[2, 5])),
    r'frame skip of \(2, 5\).*steps of 1, 2 or 4',
  ),
  'mode': (dict(spec=spec_of(mode=1)), 'played in mode 1 of Pong'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_what_cannot_be_read_is_one_line(tmp_path, case):
  options, message = REFUSED[case]
  space = options.get('space', minari_play.GREY)
  frames = np.zeros((4, *space.shape), space.dtype)
  actions = options.get('actions')
  taken = np.ones(3, int)
  if isinstance(actions, gymnasium.spaces.Box):
    taken = np.zeros((3, 3), np.float32)
  path = minari_play.write(
    tmp_path, NAME, [(frames, taken, np.zeros(3), True)], **options
  )
  with pytest.raises(DataError, match=message) as raised:
    minari_play.read(tmp_path)
  assert str(path) in str(raised.value)


def _ends_early(path):
  """A set whose episode goes on after its end."""
  import h5py

  with h5py.File(path / 'main_data.hdf5', 'a') as file:
    file['episode_0/terminations'][1] = True


def _cut(path):
  file = path / 'main_data.hdf5'
  file.write_bytes(file.read_bytes()[:500])


def _fewer(path):
  import h5py

  with h5py.File(path / 'main_data.hdf5', 'a') as file:
    del file['episode_0/rewards']
    file['episode_0/rewards'] = np.zeros(2)


DAMAGES = {
  'an early end': (_ends_early, 'goes on after a terminal state.*again'),
  'a part': (_cut, 'is damaged, incomplete.*again'),
  'fewer rewards': (_fewer, '4 observations, 3 actions, 2 rewards.*again'),
  'metadata': (
    lambda path: (path / 'metadata.json').write_text('{'),
    'is damaged, incomplete.*again',
  ),
  'no id': (
    lambda path: (path / 'metadata.json').write_text('{}'),
    'is damaged.*dataset_id',
  ),
  'a later Minari': (
    lambda path: minari_play.change_metadata(path, minari_version='7.0'),
    'made by Minari 7.0, which Minari .* does not read',
  ),
  'a storage that is none': (
    lambda path: minari_play.change_metadata(path, data_format='zarr'),
    'zarr',
  ),
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_damage_is_named(tmp_path, damage):
  change, message = DAMAGES[damage]
  path = minari_play.write(tmp_path, NAME, [random_episode(3)])
  change(path)
  with pytest.raises(DataError, match=message) as raised:
    minari_play.read(tmp_path)
  assert str(path) in str(raised.value)
