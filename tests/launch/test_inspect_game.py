"""What is told of a game."""

import subprocess
import sys

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


@pytest.mark.parametrize(
  'names, said',
  [
    (['Chess'], "Unknown game 'Chess'"),
    pytest.param(
      *([], 'name one game, such as Freeway; there are 0'),
      marks=pytest.mark.slow,
    ),
    pytest.param(
      *(['Pong', 'Freeway'], "there are 2 arguments: ['Pong', 'Freeway']"),
      marks=pytest.mark.slow,
    ),
  ],
)
def test_anything_but_one_game_is_refused(names, said, launch):
  done = launch('inspect_game', *names)
  assert done.returncode == 2
  assert said in done.stderr
  assert done.stderr.count('\n') == 1


@pytest.mark.slow
def test_a_reader_may_stop_early():
  command = [sys.executable, '-m', 'launch.inspect_game', 'Freeway']
  process = subprocess.Popen(
    command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
  )
  process.stdout.close()
  assert process.stderr.read() == b''
  assert process.wait() == 0
