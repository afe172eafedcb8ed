"""An agent loaded from a checkpoint."""

import json
import shutil

import numpy as np
import pytest

import jowa_jax
from jowa_jax import games
from jowa_jax.checkpoint.manager import CheckpointError
from jowa_jax.data.feed import statistics
from jowa_jax.data.store import stored
from jowa_jax.eval import quality
from jowa_jax.train.run import Run
from tests import compilations
from tests.train import helpers


@pytest.fixture(scope='module')
def run_dir(atari_data_dir, tmp_path_factory):
  config = helpers.tiny_config(
    atari_data_dir, steps=(0, 4), backbone__max_blocks=4
  )
  directory = tmp_path_factory.mktemp('run')
  Run(config, directory).train(progress=False)
  return directory


@pytest.fixture(scope='module')
def agent(run_dir):
  return jowa_jax.load(run_dir)


def frames(count, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (count, 84, 84)).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(
  'options',
  [
    {},
    dict(planner='beam', horizon=1),
    dict(planner='mcts', horizon=1, num_simulations=2),
  ],
)
def test_acts_legally_for_several_games_and_compiles_once(agent, options):
  names = ['Assault', 'Carnival', 'Assault']
  with compilations.counted() as compiled:
    agent.begin(names, epsilon=0.5, **options)
    for step in range(3):
      actions = agent.act(frames(3, step))
      assert actions.dtype == np.int32
      for game, action in zip(names, actions, strict=True):
        assert action in games.LEGAL_ACTIONS[game]
  assert compiled['act'] == 1


@pytest.mark.slow
def test_same_seed_same_actions(agent):
  def play(game):
    agent.begin([game] * 2, seed=3, epsilon=0.5)
    return [agent.act(frames(2, step)).tolist() for step in range(3)]

  assert play('Assault') == play('Assault')
  # A variant is played as its game.
  assert play('Assault@m0d0') == play('Assault')


def test_load_finds_the_run_and_its_checkpoints(run_dir, agent):
  assert agent.step == 4
  inner = jowa_jax.load(run_dir / 'checkpoints', step=4)
  np.testing.assert_array_equal(
    inner.variables.params['tokenizer']['codebook'],
    agent.variables.params['tokenizer']['codebook'],
  )
  assert inner.config == json.loads((run_dir / 'config.json').read_text())


def test_errors(agent, run_dir, tmp_path):
  fresh = jowa_jax.load(run_dir)
  with pytest.raises(ValueError, match='agent.begin'):
    fresh.act(frames(1))
  agent.begin(['Assault'])
  with pytest.raises(ValueError, match=r'\(1, 84, 84\)'):
    agent.act(frames(2))
  with pytest.raises(ValueError, match='Asault'):
    agent.begin(['Asault'])
  with pytest.raises(CheckpointError, match='does not exist'):
    jowa_jax.load(tmp_path / 'none')
  with pytest.raises(CheckpointError, match='No checkpoint of step 3'):
    jowa_jax.load(run_dir, step=3)
  assert not (tmp_path / 'none').exists()


def test_a_damaged_checkpoint_is_an_error(run_dir, tmp_path):
  broken = tmp_path / 'run'
  shutil.copytree(run_dir, broken)
  for path in (broken / 'checkpoints' / '4' / 'variables').rglob('*'):
    if path.is_file():
      path.write_bytes(path.read_bytes()[:10])
  with pytest.raises(CheckpointError, match='step 4.*damaged'):
    jowa_jax.load(broken)


@pytest.mark.slow
def test_model_quality_on_real_episodes(agent, full_episodes_dir):
  episodes = stored.load_episodes(full_episodes_dir, ('Carnival',))
  medians = statistics.compute(['median_frames'], episodes)['median_frames']
  metrics, pictures = quality.reconstruct(agent, episodes, medians, 16)[
    'Carnival'
  ]
  assert pictures.frames.shape == pictures.reconstructions.shape
  moving = np.abs(pictures.frames.astype(int) - pictures.median.astype(int))
  assert metrics['moving_pixel_error'] > 0 and moving.any()
  assert 1 <= metrics['perplexity'] <= metrics['codes_used'] <= 32

  metrics, pictures = quality.dream(agent, episodes, 2, 8)['Carnival']
  for others in (pictures.dreamed, pictures.reconstructed):
    assert others.shape == pictures.real.shape
    np.testing.assert_array_equal(pictures.real[:, 0], others[:, 0])
  tokens = agent.tokenizer.encode(agent.variables, pictures.real[:, 1:])
  kept = np.asarray(agent.tokenizer.decode(agent.variables, tokens))
  apart = np.abs(pictures.reconstructed[:, 1:].astype(int) - kept)
  assert apart.max() <= 1 and kept.std() > 0
  changed = metrics['changed_token_share']
  assert metrics['copy_token_accuracy'] == pytest.approx(1 - changed)
  right = metrics['token_accuracy']
  assert right == pytest.approx(
    changed * metrics['changed_token_accuracy']
    + (1 - changed) * (1 - metrics['false_change_share'])
  )


def test_majority_accuracy(full_episodes_dir):
  episodes = stored.load_episodes(full_episodes_dir, ('Carnival',))
  accuracy = quality.majority_accuracy(episodes[:1], episodes[1:])
  counts = np.bincount(episodes[0].actions)
  others = np.concatenate([e.actions for e in episodes[1:]])
  assert accuracy == {'Carnival': np.mean(others == counts.argmax())}
