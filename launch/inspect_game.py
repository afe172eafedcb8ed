"""Tells of a game: its number, its legal actions and its variants.

python -m launch.inspect_game Freeway
"""

import sys

from absl import app

from jowa_jax import games
from jowa_jax.envs import ale

# As many as a line of the list holds.
_WIDTH = 5


def describe(name: str) -> str:
  """What there is to know of a game.

  Args:
    name: as people write it.

  Raises:
    ValueError: there is no such game, or no ROM of it.
  """
  (game,) = games.parse_games([name])
  modes, difficulties = ale.switches(game)
  actions = [games.ACTION_NAMES[i] for i in games.LEGAL_ACTIONS[game]]
  variants = [f'{game}@m{m}d{d}' for m in modes for d in difficulties]
  lines = [
    f'{game}: game {games.task_id(game)} of {games.NUM_TASKS}, '
    f'{len(actions)} legal actions: {", ".join(actions)}',
    f'modes {", ".join(map(str, modes))}; difficulties '
    f'{", ".join(map(str, difficulties))}; the first of each is the default',
    'variants:',
  ]
  for first in range(0, len(variants), _WIDTH):
    lines.append('  ' + ' '.join(variants[first : first + _WIDTH]))
  return '\n'.join(lines)


def main(argv: list[str]) -> None:
  if len(argv) != 2:
    raise app.UsageError('name one game, such as Freeway')
  try:
    print(describe(argv[1]))
  except ValueError as error:
    print(f'inspect_game.py: error: {error}', file=sys.stderr)
    sys.exit(2)


if __name__ == '__main__':
  app.run(main)
