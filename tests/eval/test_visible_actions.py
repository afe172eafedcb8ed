"""Actions that frames, or their tokens, give a reason for are told."""

import dataclasses

import numpy as np
import pytest

from jowa_jax.data.episodes import DataError, encode_png
from jowa_jax.eval.visible_actions import describe, visible_actions
from tests.eval.test_visible_rewards import play


def some(seen):
  """Episodes of actions 1 and 2, which frames show, or do not."""
  rng = np.random.default_rng(0)
  episodes = []
  for number in range(5):
    actions = rng.integers(1, 3, 60).astype(np.uint8)
    frames = np.zeros((60, 84, 84), np.uint8)
    if seen:
      frames[:, 20:60, 20:60] = 200 * (actions == 2)[:, None, None]
    episodes.append(
      dataclasses.replace(
        play(np.zeros(60, np.int8), number, False),
        actions=actions,
        frames=[encode_png(frame) for frame in frames],
      )
    )
  return episodes


def bright(frames):
  """A tokenizer of two tokens: whether the middle is lit, and nothing."""
  lit = (frames[:, 40, 40] > 0).astype(np.int32)
  return np.stack([lit, np.zeros_like(lit)], axis=1)


def dark(frames):
  """One that loses what matters."""
  return 0 * bright(frames)


@pytest.mark.slow
def test_what_frames_and_tokens_show_is_told():
  found = visible_actions(some(True), bright, 2, steps=60, batch_size=16)
  assert found['from_frames'] == found['from_tokens'] == 1
  assert found['decisions'] == 60 and 0.3 < found['commonest'] < 0.7
  told = describe('Pong', found)
  assert '1.000 of the actions are told from two frames, 1.000 from' in told


@pytest.mark.slow
def test_what_tokens_lose_is_not_told_from_them():
  found = visible_actions(some(True), dark, 2, steps=60, batch_size=16)
  assert found['from_frames'] == 1
  # The same answer everywhere.
  share = found['commonest']
  assert found['from_tokens'] in (share, pytest.approx(1 - share))


@pytest.mark.slow
def test_what_frames_do_not_show_is_not_told():
  found = visible_actions(some(False), steps=30, batch_size=16)
  assert 'from_tokens' not in found
  share = found['commonest']
  assert found['from_frames'] in (share, pytest.approx(1 - share))


def test_what_cannot_be_judged():
  episodes = some(False)
  with pytest.raises(DataError, match='Pong has one episode'):
    visible_actions(episodes[:1])
  blind = [dataclasses.replace(e, missing=('actions',)) for e in episodes]
  with pytest.raises(DataError, match='Pong: actions are not known'):
    visible_actions(blind)
