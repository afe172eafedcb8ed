"""Tells of a game: its number, its legal actions and its variants.

python -m launch.inspect_game Freeway
"""

from jowa_jax import games
from jowa_jax.envs import ale
from launch import common

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


def main(name: str) -> None:
  print(describe(name))


if __name__ == '__main__':
  common.run(main, argument='one game, such as Freeway')
