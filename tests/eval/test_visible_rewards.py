"""Rewards that frames show coming are found, and those of chance are not."""

import dataclasses

import numpy as np
import pytest

from jowa_jax.data.episodes import DataError, Episode, encode_png
from jowa_jax.eval.visible_rewards import describe, visible_rewards


def play(rewards, number, seen):
  """An episode whose frames show, or do not, what the next reward is."""
  frames = np.zeros((len(rewards), 84, 84), np.uint8)
  if seen:
    frames[:, 20:60, 20:60] = 200 * (rewards != 0)[:, None, None]
  return Episode(
    game='Pong',
    task=44,
    run=1,
    checkpoint=0,
    episode_id=number,
    frames=[encode_png(frame) for frame in frames],
    actions=np.zeros(len(rewards), np.uint8),
    rewards=rewards,
    score=float(rewards.sum()),
    terminated=True,
    digest=bytes(16),
  )


def some(seen):
  rng = np.random.default_rng(0)
  return [
    play((rng.random(60) < 0.2).astype(np.int8), number, seen)
    for number in range(5)
  ]


@pytest.mark.slow
def test_what_frames_show_is_found():
  found = visible_rewards(some(True), steps=30, batch_size=16)
  assert found['recall_at_half'] == 1 and found['average_precision'] == 1
  assert found['decisions'] == 60 and 0.1 < found['share'] < 0.3
  assert '1.00 of the rewards are seen coming' in describe('Pong', found)


@pytest.mark.slow
def test_what_they_do_not_show_is_not():
  found = visible_rewards(some(False), steps=3, batch_size=16)
  # All decisions score alike: no threshold parts them.
  assert found['average_precision'] == pytest.approx(found['share'])
  assert found['recall_at_half'] == 0


def test_what_cannot_be_judged():
  episodes = some(False)
  with pytest.raises(DataError, match='Pong has one episode'):
    visible_rewards(episodes[:1])
  blind = [dataclasses.replace(e, missing=('rewards',)) for e in episodes]
  with pytest.raises(DataError, match='Pong: rewards are not known'):
    visible_rewards(blind)
  never = [play(np.zeros(9, np.int8), number, False) for number in range(3)]
  with pytest.raises(DataError, match='18 decisions for training, 0 have a'):
    visible_rewards(never)
