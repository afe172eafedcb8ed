"""What is told of a game."""

import pytest

from launch import inspect_game


def test_a_games_variants_are_listed():
  lines = inspect_game.describe('freeway').splitlines()
  assert lines[0] == ('Freeway: game 23 of 60, 3 legal actions: NOOP, UP, DOWN')
  names = ' '.join(lines[3:]).split()
  assert len(names) == 16
  assert (names[0], names[-1]) == ('Freeway@m0d0', 'Freeway@m7d1')
  # The default is the first, which is not always 0.
  assert 'modes 22, 86; difficulties 0;' in inspect_game.describe('Centipede')


def test_an_unknown_game_is_refused(capsys):
  with pytest.raises(SystemExit) as error:
    inspect_game.main(['inspect_game', 'Chess'])
  assert error.value.code == 2
  assert "Unknown game 'Chess'" in capsys.readouterr().err
