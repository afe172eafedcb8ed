"""Configs of evaluations: the paper's, and those of the released scores."""

import json
import pathlib

import pytest

from configs import evaluate
from jowa_jax import games
from jowa_jax.configuration import build
from jowa_jax.envs.protocol import Protocol

SCORES = pathlib.Path(__file__).parents[1] / 'data' / 'scores'


def test_protocols():
  paper = evaluate.get_config()
  assert paper.is_locked
  # The defaults of `Protocol` are the paper's.
  assert build(Protocol, paper.protocol, '') == Protocol()
  sticky = build(Protocol, evaluate.get_config('sticky').protocol, '')
  assert sticky == Protocol(sticky_actions=0.25)
  assert set(paper.games) == set(games.PRETRAIN_GAMES)
  assert {settings.horizon for settings in paper.games.values()} == {2}


@pytest.mark.parametrize('size', ['40m', '70m', '150m'])
def test_released_settings(size):
  """Those that the released scores say they were made with."""
  path = SCORES / 'released_rollout_scores.json'
  released = json.loads(path.read_text())[f'JOWA_{size.upper()}']
  config = evaluate.get_config(f'released_{size}')
  assert build(Protocol, config.protocol, '').max_decisions == 108_000
  assert set(config.games) == set(released)
  for game, settings in released.items():
    assert config.games[game].to_dict() == {
      'width': settings['beam_width'],
      'horizon': settings['planning_horizon'],
      'context_length': settings['buffer_size'][0],
    }
