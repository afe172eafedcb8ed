"""Next steps foreseen: counts by hand, and with a real, small model."""

import jax
import numpy as np
import pytest

from jowa_jax.data.feed.dataset import SegmentDataset
from jowa_jax.eval import one_step
from jowa_jax.methods.base import Ratio
from tests.eval.small_agent import CONFIG, make_agent
from tests.eval.test_open_loop import episode

BLOCKS = CONFIG['backbone']['max_blocks']


@pytest.fixture(scope='module')
def agent():
  return make_agent()


def play(length, terminated=True):
  """Every fourth frame is another; rewards come often."""
  rng = np.random.default_rng(length)
  frames = rng.integers(0, 256, (length, 84, 84)).astype(np.uint8)
  frames = frames[np.arange(length) // 4 * 4]
  # One place changes at each step: the first.
  frames[:, 3, 5] = np.arange(length)
  rewards = rng.integers(-1, 2, length)
  return episode(frames, rewards, np.zeros(length), terminated=terminated)


def test_patches_that_stay():
  frames = np.zeros((1, 3, 84, 84), np.uint8)
  frames[0, 1:, 13, 14] = 1  # of the second patch
  frames[0, 2, 83, 83] = 1  # of the last
  same = np.asarray(one_step.same_patches(frames, 6))
  assert np.argwhere(~same).tolist() == [[0, 0, 1], [0, 1, 35]]


def test_every_step_counts_once(agent):
  episodes = [play(n) for n in (1, 3, 8, 9, 12, 30)]
  seen = []
  for batch, counted in one_step._batches(agent, episodes, 10**6, 4):
    assert counted.shape == (4, BLOCKS)
    rows, steps = np.nonzero(counted)
    seen += zip(
      batch.rewards[rows, steps].tolist(),
      (batch.t[rows] + steps).tolist(),
      strict=True,
    )
    # Half a segment stands before a step, or the whole episode.
    assert ((steps >= BLOCKS // 2) | (batch.t[rows] == 0)).all()
  every = [
    (float(reward), t)
    for e in episodes
    for t, reward in enumerate(e.rewards.tolist())
  ]
  assert sorted(seen) == sorted(every)
  few = list(one_step._batches(agent, episodes, 8, 4))
  assert sum(counted.sum() for _, counted in few) < 3 * BLOCKS


def test_counts_by_hand():
  one, zero = True, False
  seen = one_step.Foreseen(
    same_patches=np.array([[[one, one, zero, zero]], [[one] * 4]]),
    same_tokens=np.array([[[one, zero, zero, one]], [[zero] * 4]]),
    right_tokens=np.array([[[one, zero, one, zero]], [[one] * 4]]),
    rewards=np.array([[0.1, 0.8, 0.1], [0.1, 0.2, 0.7], [0.1, 0.6, 0.3]]),
    ends=np.array([0.1, 0.1, 0.9]),
  )
  tokens = one_step._count_tokens(seen, np.array([[True], [False]]))
  found = one_step._metrics(
    tokens,
    seen.rewards,
    np.array([0, 1, 1]),
    seen.ends,
    np.array([False, False, True]),
  )
  assert found == {
    'patch_change_share': 2 / 4,
    'token_change_share': 2 / 4,
    'token_flicker_share': 1 / 2,
    'one_step_token_accuracy': 2 / 4,
    'one_step_copy_token_accuracy': 2 / 4,
    'one_step_changed_token_accuracy': 1 / 2,
    'one_step_reward_share': pytest.approx(2 / 3),
    'one_step_reward_precision': 1,
    'one_step_reward_recall': 1 / 2,
    'one_step_reward_average_precision': 1,
    'one_step_reward_recall_at_half': 1,
    'one_step_reward_best_f1': 1,
    'one_step_reward_best_threshold': pytest.approx(0.4),
    'one_step_end_share': pytest.approx(1 / 3),
    'one_step_end_precision': 1,
    'one_step_end_recall': 1,
    'one_step_end_average_precision': 1,
    'one_step_end_recall_at_half': 1,
    'one_step_end_best_f1': 1,
    'one_step_end_best_threshold': 0.9,
  }


@pytest.mark.slow
def test_of_one_segment_it_is_what_training_measures(agent):
  played = play(BLOCKS)
  found = one_step.one_step(agent, [played], batch_size=2)['Pong']
  batch = SegmentDataset([played], BLOCKS, BLOCKS).batch(np.array([0]))
  metrics = jax.jit(agent.method.evaluate)(agent.variables, batch)
  for ours, theirs in (
    ('token_accuracy', 'token_accuracy'),
    ('copy_token_accuracy', 'copy_accuracy'),
    ('changed_token_accuracy', 'changed_token_accuracy'),
  ):
    value = metrics[f'world/{theirs}']
    if isinstance(value, Ratio):
      value = value[0] / value[1]
    assert found[f'one_step_{ours}'] == pytest.approx(float(value))
  for name in ('recall', 'precision'):
    part, whole = map(float, metrics[f'world/reward_{name}'])
    assert found.get(f'one_step_reward_{name}', 0.0) == pytest.approx(
      part / max(whole, 1)
    )
  # All patches change once in 7 steps, one of them in the other 6.
  patches = CONFIG['backbone']['tokens_per_frame']
  assert found['patch_change_share'] == pytest.approx(
    (patches + 6) / (7 * patches)
  )
  assert all(type(value) is float for value in found.values())
