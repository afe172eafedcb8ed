"""Numbers as people read them."""

from collections.abc import Callable

DASH = '–'


def number(value: float, decimals: int) -> str:
  """Writes a number for people: grouped thousands, a true minus sign."""
  if abs(value) >= 1000:
    decimals = 0
  return f'{value:,.{decimals}f}'.replace('-', '−')


def significant(value: float, digits: int = 3) -> str:
  """Like `number`, with so many significant digits."""
  if value == 0 or abs(value) >= 1000:
    return number(value, 0)
  return f'{value:.{digits}g}'.replace('-', '−')


def optional(text: Callable[[float], str], value: float | None) -> str:
  return DASH if value is None else text(value)


def duration(seconds: float) -> str:
  """Writes seconds for people: 7.25 -> '7.2 s', 4000 -> '1 h 6 min'."""
  if seconds < 59.95:
    return f'{seconds:.1f} s'
  minutes, rest = divmod(round(seconds), 60)
  if minutes < 60:
    return f'{minutes} min {rest} s'
  return f'{minutes // 60} h {minutes % 60} min'
