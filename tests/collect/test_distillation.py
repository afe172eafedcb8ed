"""Networks that play from frames, and how memory's teach them."""

import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.collect import distillation, networks, recordings
from jowa_jax.collect.collect import collect
from jowa_jax.collect.distillation import StudentConfig, distill
from jowa_jax.collect.networks import (
  FrameNetwork,
  MemoryNetwork,
  NetworkPolicy,
)
from jowa_jax.data.episodes import DataError
from jowa_jax.envs import ale
from tests.collect.test_networks import ACTIONS, GAME, random_network


def frame_network(seed=0, **changes):
  """Of two convolutions, [2, 84, 84] -> [20, 20, 3] -> [9, 9, 4] -> 3."""
  rng = np.random.default_rng(seed)

  def drawn(*shape):
    return rng.normal(size=shape).astype(np.float32)

  attributes = dict(
    game=GAME,
    actions=ACTIONS,
    decisions=7,
    trained_by='a test',
    strides=(4, 2),
    kernels=(drawn(8, 8, 2, 3), drawn(4, 4, 3, 4)),
    kernel_biases=(drawn(3), drawn(4)),
    weights=(drawn(5, 9 * 9 * 4), drawn(3, 5)),
    biases=(drawn(5), drawn(3)),
  )
  return FrameNetwork(**attributes | changes)


def test_logits_are_those_of_convolutions_and_a_perceptron():
  network = frame_network()
  frames = np.random.default_rng(1).integers(0, 256, (2, 84, 84), np.uint8)
  values = frames.transpose(1, 2, 0) / 255.0
  for stride, kernel, bias, size in zip(
    network.strides,
    network.kernels,
    network.kernel_biases,
    (20, 9),
    strict=True,
  ):
    width, outputs = len(kernel), np.zeros((size, size, len(bias)))
    for y in range(size):
      for x in range(size):
        part = values[y * stride :, x * stride :][:width, :width]
        outputs[y, x] = (part[..., None] * kernel).sum((0, 1, 2)) + bias
    values = np.maximum(outputs, 0)
  values = values.ravel()
  values = np.maximum(network.weights[0] @ values + network.biases[0], 0)
  values = network.weights[1] @ values + network.biases[1]
  np.testing.assert_allclose(network.logits(frames), values, rtol=1e-3)


class _Seen(FrameNetwork):
  """Notes what it is shown, and prefers its second action."""

  def logits(self, seen):
    self.shown.append(seen.copy())
    return np.array([0.0, 1.0, 0.5], np.float32)


def test_it_sees_the_frames_after_the_last_two_decisions():
  network = _Seen(**frame_network().__dict__)
  object.__setattr__(network, 'shown', [])
  env = ale.AleEnv(GAME)
  policy = NetworkPolicy(network, 0.0, np.random.default_rng(0))
  frames = []
  for t in range(30):
    if t in (0, 29):
      frame = env.reset()
    frames.append(frame)
    action = games.LEGAL_ACTIONS[GAME][policy(env, t in (0, 29))]
    assert action == ACTIONS[1]
    frame = env.step(action).frame
  for t, shown in enumerate(network.shown):
    before = frames[t] if t in (0, 29) else frames[t - 1]
    np.testing.assert_array_equal(shown, [before, frames[t]])
  assert len({frame.tobytes() for frame in frames}) > 2


def test_a_file_gives_it_back(tmp_path):
  network = frame_network()
  networks.save(tmp_path / 'a.npz', network)
  found = networks.load(tmp_path / 'a.npz')
  assert isinstance(found, FrameNetwork)
  assert found.digest == network.digest != frame_network(1).digest
  assert (found.game, found.actions, found.strides) == (GAME, ACTIONS, (4, 2))
  frames = np.full((2, 84, 84), 9, np.uint8)
  assert (found.logits(frames) == network.logits(frames)).all()


@pytest.mark.parametrize(
  'changes, told',
  [
    (dict(strides=(4,)), 'layers of'),
    (dict(strides=(4, 0)), 'a kernel of 4 by 0'),
    (dict(kernels=(np.zeros((8, 8, 1, 3)), np.zeros((4, 4, 3, 4)))), 'on 2'),
    (dict(weights=(np.zeros((5, 9)), np.zeros((3, 5)))), 'layers of'),
    (dict(actions=(0, 2)), '3.* for 2 actions'),
  ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path, changes, told):
  networks.save(tmp_path / 'a.npz', frame_network(**changes))
  with pytest.raises(DataError, match=rf'a\.npz .*{told}'):
    networks.load(tmp_path / 'a.npz')


def teacher():
  """Its answers change as the game goes on."""
  env = ale.AleEnv(GAME)
  env.reset()
  plain = random_network(3)
  changed = dict(
    mean=np.tile(env.memory, 2).astype(np.float32),
    deviation=np.full(256, 8, np.float32),
    biases=tuple(0 * bias for bias in plain.biases),
  )
  return MemoryNetwork(**plain.__dict__ | changed)


TINY = StudentConfig(
  rounds=2,
  decisions=120,
  steps=30,
  final_steps=60,
  batch_size=16,
  environments=3,
  max_episode_steps=50,
)


@pytest.fixture(scope='module')
def taught(tmp_path_factory):
  """A student's file, its rounds, and its learner and games as they ended."""
  kept = []

  class Learner(distillation._Learner):
    def __init__(self, *args):
      super().__init__(*args)
      kept.append(self)

    def learn(self, games, steps):
      kept.append(games)
      return super().learn(games, steps)

  path = tmp_path_factory.mktemp('student') / 'student.npz'
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(distillation, '_Learner', Learner)
    rounds = distill(TINY, teacher(), path)
  return path, rounds, kept[0], kept[-1]


def test_what_is_taught_is_what_plays(taught):
  path, _, learner, games_seen = taught
  network = networks.load(path)
  assert (network.game, network.actions) == (GAME, ACTIONS)
  assert teacher().digest in network.trained_by
  rows = np.arange(3, games_seen.count, 7)
  pairs = games_seen.pairs(rows)
  chosen = [network.logits(np.moveaxis(x, -1, 0)).argmax() for x in pairs]
  assert np.mean(chosen == learner.best(pairs)) > 0.98
  assert learner._step._cache_size() == 1
  assert learner._best._cache_size() <= 2  # of the games, and of this test


def test_answers_are_the_teachers_on_what_was_seen(taught):
  _, rounds, _, seen = taught
  # A round of the teacher is twice as long.
  assert seen.count == networks.load(taught[0]).decisions == 4 * 120
  # 160 decisions of each of three games: cut off after 50.
  assert seen.firsts[: seen.count].reshape(-1, 3).nonzero()[0].tolist() == [
    first for first in (0, 50, 100, 150) for _ in range(3)
  ]
  assert [len(some.scores) for some in rounds] == [3, 3]
  # The answers to first looks, which are the same in every episode.
  env = ale.AleEnv(GAME)
  frame = env.reset()
  expected = teacher().logits(np.stack([env.memory] * 2))
  for row in np.flatnonzero(seen.firsts):
    np.testing.assert_array_equal(seen.frames[row], frame)
    np.testing.assert_allclose(seen.answers[row], expected, rtol=1e-4)
    pair = seen.pairs(np.array([row]))[0]
    np.testing.assert_array_equal(pair[..., 0], pair[..., 1])
  # Later ones follow from the game before them.
  pair = seen.pairs(np.array([3 * 20 + 1]))[0]
  np.testing.assert_array_equal(pair[..., 0], seen.frames[3 * 19 + 1])
  assert seen.answers.shape[1] == len(ACTIONS)


def test_a_student_learns_its_teachers_answers(taught):
  _, _, learner, seen = taught
  rows = np.arange(seen.count)
  answers = seen.answers[rows].argmax(-1)
  agreement = np.mean(learner.best(seen.pairs(rows)) == answers)
  commonest = np.bincount(answers).max() / len(answers)
  assert commonest < 0.9 and agreement > commonest


@pytest.mark.slow
def test_equal_seeds_teach_equal_students(taught, tmp_path):
  distill(TINY, teacher(), tmp_path / 'again.npz')
  again = networks.load(tmp_path / 'again.npz')
  assert again.digest == networks.load(taught[0]).digest


def test_its_play_is_recorded(taught, tmp_path):
  folder = tmp_path / 'players' / GAME
  folder.mkdir(parents=True)
  (folder / 'checkpoint_00.npz').write_bytes(taught[0].read_bytes())
  record = tmp_path / 'play.npz'
  collect(
    *(None, GAME, (0.5, 0.0), 20),
    players=tmp_path / 'players',
    record=record,
    progress=False,
    num_processes=1,
  )
  found = recordings.load(record).checkpoints
  assert {x.settings['network']['digest'] for x in found} == {
    networks.load(taught[0]).digest
  }
  assert set(np.unique(found[1].actions)) <= set(ACTIONS)


@pytest.mark.parametrize(
  'wrong, told',
  [
    (dict(rounds=0), 'rounds=0 must be at least 1'),
    (dict(decisions=15), 'decisions=15 leave some of 16 environments'),
    (dict(teacher_epsilon=-0.1), 'teacher_epsilon=-0.1 is no probability'),
  ],
)
def test_what_cannot_be_taught(wrong, told):
  with pytest.raises(ValueError, match=told):
    StudentConfig(**wrong)
