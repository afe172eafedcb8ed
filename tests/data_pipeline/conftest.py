"""Small episodes whose every frame is known."""

import cv2
import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.data.episodes import Episode


@pytest.fixture(scope='session')
def make_episode():
  """Returns a function that makes an episode of given length."""

  def make(
    length, game='Assault', checkpoint=0, number=0, terminated=True, run=1
  ):
    rng = np.random.default_rng((length, number))
    frames = rng.integers(0, 256, (length, 84, 84), np.uint8)
    rewards = rng.integers(-1, 2, length).astype(np.int8)
    return Episode(
      game=game,
      task=games.task_id(game),
      run=run,
      checkpoint=checkpoint,
      episode_id=number,
      frames=[cv2.imencode('.png', frame)[1].tobytes() for frame in frames],
      actions=rng.choice(games.LEGAL_ACTIONS[game], length).astype(np.uint8),
      rewards=rewards,
      score=float(rewards.sum() * 10),
      terminated=terminated,
      digest=rng.bytes(16),
    )

  return make
