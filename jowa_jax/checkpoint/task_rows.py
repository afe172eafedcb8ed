"""Which row of the tables that have one for every game a game starts from.

The released program fine-tunes a game under a related game's id, legal actions
included. Here a game keeps its id and its legal actions, and its rows start as
copies of the related game's.

Such a table is any parameter whose first logical axis is `tasks`, an embedding
or the heads of every game. It has rows for all of `games.GAMES`, or for the
games of its run alone; either way in the order of `games.GAMES`.
"""

from collections.abc import Mapping, Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jowa_jax import games as games_lib
from jowa_jax.checkpoint.shapes import boxed_shapes
from jowa_jax.methods.base import Method

TASKS = 'tasks'
NEW, RELATED = 'new', 'related'

# Names from the top-level one to a parameter's own.
Path = tuple[str, ...]


def check_source(source: str | None) -> None:
  """Raises ValueError unless `origins` understands the source."""
  if source and source not in (NEW, RELATED):
    try:
      games_lib.check_game(source)
    except ValueError as error:
      raise ValueError(
        f'task_row={source!r} is neither {RELATED!r}, {NEW!r} nor a game: '
        f'{error}'
      ) from error


def origins(names: Sequence[str], source: str | None) -> dict[str, str | None]:
  """The games whose rows some games start from, None for fresh ones.

  Args:
    names: the games; those that keep their own rows are left out.
    source: 'related' for `games.RELATED_GAMES`, where there is one; 'new'; a
      game; or None or '': every game keeps its own.
  """
  check_source(source)
  found = {}
  for name in names:
    origin = name
    if source == RELATED:
      origin = games_lib.RELATED_GAMES.get(name, name)
    elif source:
      origin = source
    if origin != name:
      found[name] = None if origin == NEW else origin
  return found


def task_tables(method: Method) -> frozenset[Path]:
  """The parameters of a method that have a row for every game."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(
    boxed_shapes(method).params,
    is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned),
  )
  return frozenset(
    tuple(key.key for key in path)
    for path, leaf in leaves
    if isinstance(leaf, nn.LogicallyPartitioned) and leaf.names[0] == TASKS
  )


def row_games(rows: int, run_games: Sequence[str]) -> tuple[str, ...]:
  """The games of a table's rows.

  Args:
    rows: of the table.
    run_games: of the run that it belongs to.

  Raises:
    ValueError: it has rows neither for all games nor for those of the run.
  """
  everything = games_lib.GAMES
  for names in (everything, run_games):
    if rows == len(names):
      return tuple(sorted(names, key=everything.index))
  raise ValueError(
    f'a table of {rows} rows has them neither for all {len(everything)} games '
    f"nor for the run's {len(run_games)} ({', '.join(run_games)})"
  )


def rows_by_game(
  table: chex.Array,
  table_games: Sequence[str],
  fresh: chex.Array,
  fresh_games: Sequence[str],
  starts: Mapping[str, str | None],
) -> chex.Array:
  """A fresh table with the rows of another, by the names of the games.

  Args:
    table: [R, ...], pretrained.
    table_games: of its R rows.
    fresh: [S, ...], of the table to fill.
    fresh_games: of its S rows, and those of the result.
    starts: games whose rows some of `fresh_games` start from, None for a fresh
      one, see `origins`; the others start from their own.

  Returns:
    [S, ...].

  Raises:
    ValueError: a row that is asked for is not there, or shapes do not fit.
  """
  for what, names in ((table, table_games), (fresh, fresh_games)):
    if len(what) != len(names):
      raise ValueError(f'{len(what)} rows, but {len(names)} games')
  if table.shape[1:] != fresh.shape[1:]:
    raise ValueError(
      f'a row is {table.shape[1:]} there and {fresh.shape[1:]} here'
    )
  rows = []
  for name in fresh_games:
    origin = starts.get(name, name)
    if origin is not None and origin not in table_games:
      raise ValueError(
        f'no row of {origin} for {name} to start from; there are rows of '
        f'{", ".join(table_games)}: set init_from.task_row to {NEW!r}, '
        f'{RELATED!r} or one of these'
      )
    rows.append(-1 if origin is None else list(table_games).index(origin))
  rows = np.array(rows)
  is_fresh = (rows < 0).reshape(-1, *(1,) * (fresh.ndim - 1))
  return jnp.where(
    is_fresh, fresh, jnp.take(table, np.maximum(rows, 0), axis=0)
  )
