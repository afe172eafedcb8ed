"""Dreamed environments by name."""

import gymnasium
import numpy as np
import pytest

from jowa_jax.data.episodes import DataError
from jowa_jax.envs.ale import AleEnv
from jowa_jax.play import dreams

GAME = 'Carnival'
NAME = 'jowa_jax.play:jowa/Dream-v0'


@pytest.mark.slow
def test_one_and_many_are_made_by_name(programs):
  options = dict(
    checkpoint=programs.agent, game=GAME, num_contexts=4, horizon=3
  )
  with gymnasium.make(NAME, **options) as env:
    frame, _ = env.reset(seed=1)
    assert frame.shape == (84, 84) and frame.dtype == np.uint8
  envs = gymnasium.make_vec(NAME, num_envs=3, **options)
  frames, _ = envs.reset(seed=1)
  assert frames.shape == (3, 84, 84)
  np.testing.assert_array_equal(frames[0], frame)
  ended = [envs.step(envs.action_space.sample()) for _ in range(3)][-1]
  assert (ended[2] | ended[3]).all()


@pytest.mark.slow
def test_contexts_are_of_real_play():
  found = dreams.played_contexts(GAME, 6, 3)
  assert found.frames.shape == (6, 3, 84, 84) and found.actions.shape == (6, 3)
  env = AleEnv(GAME)
  np.testing.assert_array_equal(found.frames[0, 0], env.reset())
  for step in (0, 1):
    frame = env.step(int(found.actions[0, step])).frame
    np.testing.assert_array_equal(found.frames[0, step + 1], frame)
  again = dreams.played_contexts(GAME, 6, 3)
  np.testing.assert_array_equal(found.frames, again.frames)


def test_contexts_of_a_data_set(atari_data_dir):
  found = dreams.stored_contexts(atari_data_dir, GAME, 5, 4)
  assert found.frames.shape == (5, 4, 84, 84) and found.frames.std() > 1
  assert found.actions.shape == (5, 4) and found.actions.dtype == np.int32
  with pytest.raises(DataError, match='has 500 frames'):
    dreams.stored_contexts(atari_data_dir, GAME, 5, 500)


def test_what_cannot_be(programs):
  with pytest.raises(ValueError, match='not trained on Pong'):
    dreams.make(checkpoint=programs.agent, game='Pong')
  with pytest.raises(ValueError, match='num_contexts=0'):
    dreams.make(checkpoint=programs.agent, game=GAME, num_contexts=0)
