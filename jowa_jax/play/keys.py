"""What is pressed, as an action of the game."""

from jowa_jax import games as games_lib

UP, DOWN, LEFT, RIGHT, FIRE = (1 << bit for bit in range(5))
# As actions are named: up or down, left or right, fire.
_WORDS = ((UP, 'UP'), (DOWN, 'DOWN'), (LEFT, 'LEFT'), (RIGHT, 'RIGHT'))
_VERTICAL, _HORIZONTAL = UP | DOWN, LEFT | RIGHT


def action_of(keys: int, legal: tuple[int, ...]) -> int:
  """The legal action that is closest to the keys held.

  Opposite keys cancel out. Where a game does not know all of them together,
  fire is left out first, then one of the directions.

  Args:
    keys: a sum of `UP`, `DOWN`, `LEFT`, `RIGHT` and `FIRE`.
    legal: the game's actions, of the shared 18.
  """
  for both in (_VERTICAL, _HORIZONTAL):
    if keys & both == both:
      keys &= ~both
  for left_out in (
    *(0, FIRE, _VERTICAL, _HORIZONTAL),
    *(FIRE | _VERTICAL, FIRE | _HORIZONTAL, _VERTICAL | _HORIZONTAL),
  ):
    action = games_lib.ACTION_NAMES.index(_name(keys & ~left_out))
    if action in legal and (action or not keys):
      return action
  return 0


def _name(keys: int) -> str:
  directions = ''.join(word for bit, word in _WORDS if keys & bit)
  return (directions + ('FIRE' if keys & FIRE else '')) or 'NOOP'
