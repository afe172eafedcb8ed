"""Which row of the task embedding tables a game's own row starts from.

Facts, section 1: the released program fine-tunes a game under a related
game's id, legal actions included. Here a game keeps its id and its legal
actions, and its rows start as copies of the related game's.
"""

from collections.abc import Callable, Mapping, Sequence

import jax

from jowa_jax import games as games_lib
from jowa_jax.types import Params

NEW, RELATED = 'new', 'related'
_TABLES = ('observation_task_embedding', 'action_task_embedding')


def check_source(source: str | None) -> None:
  """Raises ValueError unless `task_rows` understands the source."""
  if source and source not in (NEW, RELATED):
    try:
      games_lib.check_game(source)
    except ValueError as error:
      raise ValueError(
        f'task_row={source!r} is neither {RELATED!r}, {NEW!r} nor a game: '
        f'{error}'
      ) from error


def task_rows(
  names: Sequence[str], source: str | None
) -> dict[int, int | None]:
  """Returns by task id which row each game starts from, None for a fresh one.

  Args:
    names: the games.
    source: 'related' for the row of `games.RELATED_GAMES`, where there is one;
      'new'; a game, for its row; or None or '': every game keeps its own.
  """
  check_source(source)
  rows = {}
  for name in names:
    origin = name
    if source == RELATED:
      origin = games_lib.RELATED_GAMES.get(name, name)
    elif source:
      origin = source
    if origin != name:
      fresh = origin == NEW
      rows[games_lib.task_id(name)] = (
        None if fresh else games_lib.task_id(origin)
      )
  return rows


def set_task_rows(
  backbone: Params,
  fresh: Params,
  rows: Mapping[int, int | None],
  shardings: Params,
) -> Params:
  """Returns the backbone with some rows of both task tables replaced.

  All rows are read before any is written.

  Args:
    backbone: parameters, pretrained.
    fresh: of the same shapes, of which new rows are taken.
    rows: see `task_rows`.
    shardings: of the backbone.

  Raises:
    ValueError: the backbone is not told the game.
  """
  missing = [name for name in _TABLES if name not in backbone]
  if missing:
    raise ValueError(
      f'there is no table {missing[0]} whose rows could be set '
      '(backbone.task_embedding=False): set init_from.task_row=None'
    )

  def fill(table: jax.Array, new: jax.Array) -> jax.Array:
    values = {
      row: new[row] if origin is None else table[origin]
      for row, origin in rows.items()
    }
    for row, value in values.items():
      table = table.at[row].set(value)
    return table

  def place(name: str) -> Callable:
    return jax.jit(fill, out_shardings=shardings[name])

  tables = {name: place(name)(backbone[name], fresh[name]) for name in _TABLES}
  return {**backbone, **tables}
