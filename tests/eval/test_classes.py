"""Named classes are counted once each, and stand beside the commonest."""

import json
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.data.episodes import Episode, encode_png
from jowa_jax.eval import classes
from jowa_jax.methods.base import Answers, BatchSpec


def episode(actions, number=0):
  return Episode(
    game='Freeway',
    task=games.task_id('Freeway'),
    run=1,
    checkpoint=0,
    episode_id=number,
    frames=[encode_png(np.zeros((84, 84), np.uint8))] * len(actions),
    actions=np.array(actions, np.uint8),
    rewards=np.zeros(len(actions), np.int8),
    score=0.0,
    terminated=True,
    digest=b'',
  )


def always(action):
  """An agent that names one action, and of returns nothing that counts."""

  def answers(variables, segments):
    named = jnp.full_like(segments.actions, variables)
    nothing = jnp.zeros_like(segments.mask).at[:, 0].set(segments.mask[:, 0])
    return {
      'policy': Answers(named, segments.actions, segments.mask),
      'returns': Answers(named * 0, segments.actions * 0, nothing),
    }

  method = SimpleNamespace(spec=BatchSpec(3), answers=answers)
  config = {'method': 'cloner', 'data': {}}
  return SimpleNamespace(method=method, variables=action, config=config)


def test_every_step_is_judged_once(tmp_path):
  before = [episode([2, 2, 5])]
  held_out = [episode([2, 5, 5, 0], 1), episode([5] * 3 * 40, 2)]
  found = classes.judge(always(5), before, held_out, tmp_path)
  policy = found['Freeway']['policy']
  assert policy['count'] == 124
  assert policy['accuracy'] == pytest.approx(122 / 124)
  assert policy['commonest_accuracy'] == pytest.approx(1 / 124)
  # Two segments of the first episode, 40 of the second.
  assert found['Freeway']['returns']['count'] == 42
  assert json.loads((tmp_path / classes.CLASSES).read_text()) == found
  told = classes.describe('Freeway', found['Freeway'])
  assert 'policy right 98.4%, the commonest 0.8%' in told


def test_what_names_nothing(tmp_path):
  agent = always(5)
  with pytest.raises(ValueError, match='held'):
    classes.judge(agent, [episode([2])], [], tmp_path)
  agent.method.answers = None
  with pytest.raises(ValueError, match='cloner names no classes'):
    classes.judge(agent, [episode([2])], [episode([2], 1)], tmp_path)
