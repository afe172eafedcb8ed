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
from tests.collect.test_networks import ACTIONS, GAME, noting, random_network


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


def test_it_sees_the_frames_after_the_last_two_decisions():
  network, noted = noting(frame_network())
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
  assert len(noted) == len(frames) == 30
  for t, shown in enumerate(noted):
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
  # By which finished recordings know who played them.
  assert network.digest == '3ba5dc485cc164e82251e32235295f65'
  assert random_network().digest == '5f450db9fc93393267ad55eefc23eb0e'
  frames = np.full((2, 84, 84), 9, np.uint8)
  assert (found.logits(frames) == network.logits(frames)).all()


@pytest.mark.parametrize(
  'changes, told',
  [
    (dict(strides=(4,)), 'layers of'),
    (dict(strides=(4, 0)), 'width 4 with stride 0'),
    (dict(kernels=(np.zeros((85, 85, 2, 3)), np.zeros((4, 4, 3, 4)))), '85'),
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
  path, _, learner, seen = taught
  network = networks.load(path)
  assert (network.game, network.actions) == (GAME, ACTIONS)
  assert teacher().digest in network.trained_by
  pairs = seen.pairs(np.arange(3, seen.count, 7))
  played = [network.logits(np.moveaxis(pair, -1, 0)) for pair in pairs]
  taught_logits = distillation._Student(len(ACTIONS)).apply(
    learner.params, pairs
  )
  np.testing.assert_allclose(played, taught_logits, rtol=1e-3, atol=1e-3)
  assert len(set(np.argmax(played, -1))) > 1
  assert learner._step._cache_size() == 1
  # With the batch of the games alone.
  assert learner._best._cache_size() == 1


def test_rounds_are_of_the_length_that_was_asked_for(taught):
  path, rounds, _, seen = taught
  # A round of the teacher is twice as long.
  assert seen.count == networks.load(path).decisions == 4 * 120
  # 160 decisions of each of three games: cut off after 50.
  assert [len(some.scores) for some in rounds] == [3, 3]
  assert rounds[0].agreement < 1


def test_what_is_seen_and_answered_is_of_the_games_that_are_played():
  """Held against three environments that play the same."""
  answering = teacher()
  seen = distillation._Games(answering, TINY)
  envs = [ale.AleEnv(GAME) for _ in range(3)]
  frames = [[env.reset()] * 2 for env in envs]
  memories = [[env.memory] * 2 for env in envs]
  score, scores, answered = [0.0] * 3, [], []
  for t in range(110):
    rows = seen.look()
    pairs = seen.pairs(rows)
    for row, pair, shown, memory in zip(
      rows, pairs, frames, memories, strict=True
    ):
      np.testing.assert_array_equal(pair, np.stack(shown, -1))
      expected = answering.logits(np.stack(memory))
      np.testing.assert_allclose(
        seen.answers[row], expected, rtol=1e-4, atol=1e-4
      )
      answered.append(int(expected.argmax()))
    chosen = np.array([t % 3, (t // 7) % 3, 1])
    seen.decide(chosen, 0.0)
    for i, env in enumerate(envs):
      outcome = env.step(ACTIONS[chosen[i]])
      score[i] += outcome.reward
      frames[i] = [frames[i][1], outcome.frame]
      memories[i] = [memories[i][1], env.memory]
      if t % 50 == 49:
        scores.append(score[i])
        score[i] = 0.0
        frames[i], memories[i] = [env.reset()] * 2, [env.memory] * 2
  assert seen.scores == scores and len(scores) == 6
  assert len(set(answered)) > 1
  assert not np.array_equal(seen.frames[297], seen.frames[298])


@pytest.mark.parametrize('epsilon, least, most', [(0.0, 1, 1), (0.6, 0.5, 0.7)])
def test_epsilon_is_the_share_of_random_decisions(
  epsilon, least, most, monkeypatch
):
  seen = distillation._Games(teacher(), TINY)
  played = []
  monkeypatch.setattr(seen, '_step', lambda row, action: played.append(action))
  for _ in range(400):
    seen.decide(np.array([1, 1, 1]), epsilon)
  # A third of the random ones are what was chosen.
  assert least <= np.mean(np.array(played) == ACTIONS[1]) <= most
  assert set(played) == ({ACTIONS[1]} if not epsilon else set(ACTIONS))


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
  network = networks.load(taught[0])
  assert {x.settings['network']['digest'] for x in found} == {network.digest}
  # Without chance it is what the network prefers.
  env = ale.AleEnv(GAME)
  frames = [env.reset()] * 2
  for action in found[1].actions:
    preferred = int(network.logits(np.stack(frames)).argmax())
    assert action == ACTIONS[preferred]
    frames = [frames[1], env.step(int(action)).frame]


@pytest.mark.parametrize(
  'wrong, told',
  [
    (dict(rounds=0), 'rounds=0 must be at least 1'),
    (dict(decisions=15), 'decisions=15 leave some of 16 .* at least 16'),
    (dict(seed=-1), 'seed=-1 must not be negative'),
    (dict(learning_rate=0.0), 'learning_rate=0.0 must be above 0'),
    (dict(teacher_epsilon=-0.1), 'teacher_epsilon=-0.1 is no probability'),
  ],
)
def test_what_cannot_be_taught(wrong, told):
  with pytest.raises(ValueError, match=told):
    StudentConfig(**wrong)
