"""Keys as actions."""

import itertools

import pytest

from jowa_jax import games
from jowa_jax.play.keys import DOWN, FIRE, LEFT, RIGHT, UP, action_of

ALL = tuple(range(games.NUM_ACTIONS))


@pytest.mark.parametrize(
  'keys, name',
  [
    (0, 'NOOP'),
    (FIRE, 'FIRE'),
    (UP | RIGHT | FIRE, 'UPRIGHTFIRE'),
    (DOWN | LEFT, 'DOWNLEFT'),
    (UP | DOWN | LEFT, 'LEFT'),
    (UP | DOWN | LEFT | RIGHT, 'NOOP'),
  ],
)
def test_all_actions(keys, name):
  assert action_of(keys, ALL) == games.ACTION_NAMES.index(name)


@pytest.mark.parametrize(
  'game, keys, name',
  [
    ('Freeway', UP | RIGHT | FIRE, 'UP'),
    ('Freeway', RIGHT, 'NOOP'),
    ('Qbert', RIGHT | FIRE, 'RIGHT'),
    ('Qbert', UP | RIGHT, 'RIGHT'),
    ('SpaceInvaders', UP | LEFT | FIRE, 'LEFTFIRE'),
    ('SpaceInvaders', UP | FIRE, 'FIRE'),
  ],
)
def test_what_a_game_does_not_know_is_left_out(game, keys, name):
  found = action_of(keys, games.LEGAL_ACTIONS[game])
  assert games.ACTION_NAMES[found] == name


def test_every_game_gets_legal_actions():
  for legal, keys in itertools.product(
    set(games.LEGAL_ACTIONS.values()), range(32)
  ):
    assert action_of(keys, legal) in legal
