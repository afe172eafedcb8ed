"""Networks that play from memory, and files and play of all networks."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.collect import networks, recordings
from jowa_jax.collect.collect import collect
from jowa_jax.collect.networks import (
  MemoryNetwork,
  NetworkFile,
  NetworkPolicy,
)
from jowa_jax.collect.player_config import PlayerConfig
from jowa_jax.collect.replay import replay
from jowa_jax.data.episodes import DataError
from jowa_jax.envs import ale

GAME = 'Boxing'
ACTIONS = (0, 2, 5)


def random_network(seed=0, game=GAME, actions=ACTIONS):
  rng = np.random.default_rng(seed)
  sizes = [256, 16, 8, len(actions)]
  layers = list(zip(sizes[:-1], sizes[1:], strict=True))
  return MemoryNetwork(
    game=game,
    actions=actions,
    decisions=7,
    trained_by='a test',
    mean=rng.uniform(0, 255, 256).astype(np.float32),
    deviation=rng.uniform(1, 60, 256).astype(np.float32),
    weights=tuple(
      rng.normal(size=(after, before)).astype(np.float32)
      for before, after in layers
    ),
    biases=tuple(
      rng.normal(size=after).astype(np.float32) for _, after in layers
    ),
  )


def test_logits_are_those_of_a_perceptron():
  network = random_network()
  memory = np.random.default_rng(1).integers(0, 256, (2, 128), np.uint8)
  inputs = [
    min(max((float(byte) - float(mean)) / float(deviation), -5), 5)
    for byte, mean, deviation in zip(
      memory.ravel(), network.mean, network.deviation, strict=True
    )
  ]
  values = np.array(inputs)
  for layer, (weight, bias) in enumerate(
    zip(network.weights, network.biases, strict=True)
  ):
    values = weight.astype(float) @ values + bias
    if layer < 2:
      values[values < 0] = 0
  np.testing.assert_allclose(network.logits(memory), values, rtol=1e-4)


def noting(network):
  """The network, and what it is shown: it prefers its second action then."""
  shown = []

  class Noting(type(network)):
    def logits(self, seen):
      shown.append(seen.copy())
      return np.array([0.0, 1.0, 0.5], np.float32)

  return Noting(**network.__dict__), shown


def test_it_sees_the_memory_after_the_last_two_decisions():
  network, noted = noting(random_network())
  env = ale.AleEnv(GAME)
  policy = NetworkPolicy(network, 0.0, np.random.default_rng(0))
  memories = []
  for first in (True, False, False, True):
    if first:
      env.reset()
    memories.append(env.memory.copy())
    action = games.LEGAL_ACTIONS[GAME][policy(env, first)]
    assert action == ACTIONS[1]
    env.step(action)
  expected = [(0, 0), (0, 1), (1, 2), (3, 3)]
  for shown, (older, newer) in zip(noted, expected, strict=True):
    np.testing.assert_array_equal(shown, [memories[older], memories[newer]])
  assert not np.array_equal(memories[1], memories[2])


def test_epsilon_is_of_all_legal_actions():
  env = ale.AleEnv(GAME)
  env.reset()
  policy = NetworkPolicy(random_network(), 1.0, np.random.default_rng(0))
  counts = np.bincount([policy(env, t == 0) for t in range(3600)])
  assert counts.shape == (18,) and (abs(counts - 200) < 60).all()


def test_a_file_gives_it_back(tmp_path):
  network = random_network()
  networks.save(tmp_path / 'a.npz', network)
  found = networks.load(tmp_path / 'a.npz')
  assert found.digest == network.digest != random_network(1).digest
  assert (found.game, found.actions) == (GAME, ACTIONS)
  assert (found.decisions, found.trained_by) == (7, 'a test')
  memory = np.full((2, 128), 9, np.uint8)
  assert (found.logits(memory) == network.logits(memory)).all()


def _cut(path):
  path.write_bytes(path.read_bytes()[:-30])


def _something_else(path):
  np.savez(path, a=np.zeros(3))


def _illegal(path):
  networks.save(path, random_network(game='Freeway', actions=(0, 2, 7)))


def _misfit(path):
  network = random_network()
  fewer = dict(network.__dict__, actions=(0, 2))
  networks.save(path, MemoryNetwork(**fewer))


@pytest.mark.parametrize(
  'damage', [_cut, _something_else, _illegal, _misfit, lambda path: None]
)
def test_another_file_is_named(tmp_path, damage):
  path = tmp_path / 'a.npz'
  if damage in (_cut,):
    networks.save(path, random_network())
  damage(path)
  with pytest.raises(DataError, match=r'a\.npz'):
    networks.load(path)


def test_a_file_that_changed_is_refused(tmp_path):
  path = tmp_path / 'a.npz'
  networks.save(path, random_network())
  known = NetworkFile.of(path, GAME)
  assert known.read().digest == known.digest
  networks.save(path, random_network(1))
  with pytest.raises(DataError, match=r'a\.npz has changed'):
    known.read()
  with pytest.raises(DataError, match='learned to play Boxing, not Pong'):
    NetworkFile.of(path, 'Pong')


def _players(folder, count):
  folder.mkdir(parents=True)
  for index in range(count):
    networks.save(folder / f'checkpoint_{index:02d}.npz', random_network(index))


@pytest.mark.slow
def test_its_play_is_recorded_and_played_again(tmp_path):
  _players(tmp_path / 'players' / GAME, 2)
  options = dict(
    epsilons=(0.5, 0.0),
    steps_per_checkpoint=60,
    progress=False,
    num_processes=1,
    max_episode_steps=40,
    players=tmp_path / 'players',
  )
  record = tmp_path / 'play.npz'
  stats = collect(None, GAME, record=record, **options)
  assert [split.episodes for split in stats] == [2, 2]
  recording = recordings.load(record)
  for index, some in enumerate(recording.checkpoints):
    assert 'search' not in some.settings
    assert some.settings['network'] == {
      'digest': random_network(index).digest,
      'decisions': 7,
      'trained_by': 'a test',
    }
    chosen = set(np.unique(some.actions).tolist())
    assert chosen <= set(ACTIONS) if index else chosen - set(ACTIONS)
  played = replay(str(record), None, progress=False, num_processes=1)
  assert [split.steps for split in played] == [60, 60]
  # From elsewhere it is the same play.
  (tmp_path / 'players').rename(tmp_path / 'moved')
  again = collect(
    None, GAME, record=record, **options | {'players': tmp_path / 'moved'}
  )
  assert [split.steps for split in again] == [60, 60]


def test_one_network_plays_with_every_epsilon(tmp_path):
  _players(tmp_path / 'players' / GAME, 1)
  record = tmp_path / 'play.npz'
  collect(
    *(None, GAME, (0.5, 0.0), 20),
    players=tmp_path / 'players',
    record=record,
    progress=False,
    num_processes=1,
  )
  found = recordings.load(record).checkpoints
  assert [x.settings['epsilon'] for x in found] == [0.5, 0.0]
  digests = {x.settings['network']['digest'] for x in found}
  assert digests == {random_network(0).digest}


def test_a_network_is_wanted_for_each_epsilon(tmp_path):
  _players(tmp_path / GAME, 2)
  with pytest.raises(ValueError, match='holds 2 networks .* for 3 epsilons'):
    collect(tmp_path / 'out', GAME, (1.0, 0.5, 0.1), 10, players=tmp_path)
  assert not (tmp_path / 'out').exists()


needs_library = pytest.mark.skipif(
  importlib.util.find_spec('stable_baselines3') is None,
  reason="needs stable-baselines3: pip install '.[dream]'",
)


@pytest.mark.slow
@needs_library
def test_what_is_trained_is_what_plays(tmp_path):
  """Its checkpoints choose as the library's model does."""
  code = f"""
import json, pathlib
import numpy as np
from jowa_jax.stable_baselines import import_library
import_library('This test')
from jowa_jax.collect import network_training as training
from jowa_jax.collect import networks
made = []
class Kept(training.PPO):
  def __init__(self, *args, **options):
    super().__init__(*args, **options)
    made.append(self)
training.PPO = Kept
config = training.PlayerConfig(
  'Freeway', decisions=20_000, actions=(0, 2), checkpoints=3, environments=8
)
folder = pathlib.Path({str(tmp_path)!r})
scores = training.train(config, folder)
model = made[0]
memories = np.random.default_rng(0).integers(0, 256, (200, 2, 128), np.uint8)
seen = model.env.normalize_obs(memories.reshape(200, -1).astype(np.float32))
chosen, _ = model.predict(seen, deterministic=True)
last = networks.load(folder / 'checkpoint_02.npz')
print(json.dumps(dict(
  same=float(np.mean([last.logits(m).argmax() for m in memories] == chosen)),
  decisions=[networks.load(p).decisions for p in sorted(folder.iterdir())],
  episodes=len(scores),
)))
"""
  told = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  ).stdout
  found = json.loads(told.splitlines()[-1])
  # Of all 200 inputs, one may lie between two actions up to rounding.
  assert found['same'] > 0.99
  assert found['decisions'] == [1024, 10240, 20480]
  assert found['episodes'] >= 8


@pytest.mark.parametrize(
  'wrong, told',
  [
    (dict(actions=(0, 3)), r'\[3\] are not legal in Freeway'),
    (dict(decisions=0), 'decisions=0 must be at least 1'),
    (dict(epsilon=2.0), 'epsilon=2.0 is no probability'),
    (dict(decisions=6144), 'too few for 5 checkpoints .* at least 6145'),
  ],
)
def test_what_cannot_be_trained(wrong, told):
  with pytest.raises(ValueError, match=told):
    PlayerConfig('Freeway', **wrong)
