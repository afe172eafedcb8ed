"""A cloner is measured on the windows that it was trained on."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax.agent import Agent
from jowa_jax.eval import quality
from jowa_jax.losses.masked import masked_mean
from jowa_jax.methods.base import BatchSpec
from tests.eval.test_open_loop import episode

LENGTHS = (3, 8, 17)


def play(length):
  rng = np.random.default_rng(length)
  frames = rng.integers(0, 256, (length, 84, 84)).astype(np.uint8)
  rewards = rng.integers(0, 2, length)
  return episode(frames, rewards, rng.choice((0, 2), length))


EPISODES = [play(length) for length in LENGTHS]


def accuracy(spec, guess, padding='right', batch_size=4):
  """Of a method that guesses the actions of windows."""

  def evaluate(variables, segments):
    scored = segments.mask if segments.train is None else segments.train
    right = guess(segments) == segments.actions
    return {'policy/accuracy': masked_mean(right * 1.0, scored)}

  method = SimpleNamespace(spec=spec, evaluate=evaluate)
  config = {'method': 'guesses', 'data': {'padding': padding}}
  agent = Agent(config, method, None, 0)
  (found,) = quality.policy_accuracy(agent, EPISODES, batch_size).values()
  return found


@pytest.mark.parametrize('padding', ['right', 'left'])
def test_steps_around_a_window_are_read(padding):
  """What was done a step before, or will be a step after, at every step."""
  before = accuracy(
    BatchSpec(4, history=1), lambda x: jnp.roll(x.actions, 1, 1), padding
  )
  after = accuracy(
    BatchSpec(4, lookahead=1), lambda x: jnp.roll(x.actions, -1, 1), padding
  )
  # Where there is no such step, it reads as action 0.
  for found, kept in ((before, slice(0, -1)), (after, slice(1, None))):
    right = []
    for each in EPISODES:
      shifted = np.zeros_like(each.actions)
      shifted[1:] = each.actions[:-1]
      if kept.start:
        shifted = np.append(each.actions[1:], 0)
      right.append(shifted == each.actions)
    assert found == pytest.approx(np.concatenate(right).mean())


def test_fields_and_the_side_of_padding_are_its_own():
  spec = BatchSpec(4, fields=frozenset({'return_to_go', 't'}))

  def first(segments):
    """Right where the window begins in the episode, a return to come."""
    begun = (segments.t[:, None] >= 0) & (segments.return_to_go >= 0)
    return jnp.where(begun, segments.actions, -1)

  steps = sum(LENGTHS)
  assert accuracy(spec, first) == 1
  # Of 3 and 17 steps the first window has 3 and 1, and begins before them.
  assert accuracy(spec, first, 'left') == pytest.approx(1 - (3 + 1) / steps)


def test_every_step_counts_once_whatever_the_batch():
  def guess(segments):
    return jnp.full_like(segments.actions, 2)

  actions = np.concatenate([each.actions for each in EPISODES])
  for size in (1, 3, 16):
    found = accuracy(BatchSpec(4, history=2), guess, batch_size=size)
    assert found == pytest.approx((actions == 2).mean())


def test_what_clones_nothing_is_refused():
  method = SimpleNamespace(
    spec=BatchSpec(4), evaluate=lambda *_: {'q/td': jnp.zeros(())}
  )
  agent = Agent({'method': 'dreams', 'data': {}}, method, None, 0)
  with pytest.raises(ValueError, match='dreams evaluates no policy/accuracy'):
    quality.policy_accuracy(agent, EPISODES)
