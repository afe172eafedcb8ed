"""Starting a run from parameters of another."""

import contextlib
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from jowa_jax import games as games_lib
from jowa_jax.checkpoint.manager import CheckpointError, Checkpoints
from jowa_jax.checkpoint.packed import PackedAgent, is_packed
from jowa_jax.checkpoint.run_directory import RunDirectory
from jowa_jax.checkpoint.task_rows import Path, row_games, rows_by_game
from jowa_jax.methods.adaptation import names_to_take
from jowa_jax.methods.base import Variables
from jowa_jax.types import Params


def open_run(path: str | pathlib.Path) -> Checkpoints | PackedAgent:
  """Opens a run's checkpoints, or a packed agent, to be read.

  Args:
    path: the run's directory, or its `checkpoints` directory; or a packed
      agent's file, or 'pretrained' for the one that the package ships.

  Raises:
    CheckpointError: there are none.
  """
  if is_packed(path):
    return PackedAgent(path)
  inner = RunDirectory(path).checkpoints
  return Checkpoints(inner if inner.is_dir() else path, create=False)


def warm_start(
  variables: Variables,
  shardings: Variables,
  *,
  checkpoints: str,
  params: Sequence[str] = (),
  step: int | None = None,
  games: Sequence[str] = games_lib.GAMES,
  tables: Collection[Path] = (),
  starts: Mapping[str, str | None] | None = None,
  config: Mapping[str, Any] | None = None,
) -> Variables:
  """Variables with top-level parameters taken from a checkpoint.

  Args:
    variables: fresh ones.
    shardings: where they go.
    checkpoints: of another run, see `open_run`.
    params: top-level names; all if empty, see `adaptation.names_to_take`.
    step: which checkpoint; default the latest.
    games: of the run that starts.
    tables: of the parameters, those with a row for every game; their rows are
      taken by the names of the games, see `task_rows`.
    starts: games whose rows some of `games` start from, see
      `task_rows.origins`; the others keep their own.
    config: of the run that starts.

  Raises:
    CheckpointError: there is no checkpoint, a name is not in both, shapes
      differ, or a game has no row.
  """
  unknown = sorted(set(params) - set(variables.params))
  if unknown:
    raise CheckpointError(
      f'init_from.params={tuple(params)} must name some of '
      f'{sorted(variables.params)}, or none for all of them'
    )
  names = set(params or variables.params)
  tables = [path for path in tables if path[0] in names]
  if starts and not tables:
    raise CheckpointError(
      'init_from.task_row is set, but no parameter that is taken has a row for '
      f'every game, of {sorted(names)}: set init_from.task_row=None'
    )
  with contextlib.closing(open_run(checkpoints)) as source:
    rows = source.shapes(step)
    template = _with_rows(variables, tables, rows)
    theirs = source.meta(step).get('config', {})
    try:
      taking = names_to_take(
        params, variables.params, config or {}, theirs, str(source.directory)
      )
    except ValueError as error:
      raise CheckpointError(str(error)) from error
    taken = _restore(source, template, shardings, taking, step)
  their_games = theirs.get('data', {}).get('games', ())
  if their_games:
    their_games = games_lib.parse_games(their_games)
  flat, fresh, places = map(
    traverse_util.flatten_dict, (taken, variables.params, shardings.params)
  )
  for path in tables:
    try:
      flat[path] = _take_rows(
        *(flat[path], their_games, fresh[path], games),
        *(starts or {}, places[path]),
      )
    except ValueError as error:
      raise CheckpointError(
        f'{checkpoints}: {"/".join(path)}: {error}'
      ) from error
  taken = traverse_util.unflatten_dict(flat)
  # Slow copies start equal to what they are copies of.
  copies = {
    name: jax.tree.map(jnp.copy, value)
    for name, value in taken.items()
    if name in variables.targets
  }
  return variables.replace(
    params={**variables.params, **taken},
    targets={**variables.targets, **copies},
  )


def _with_rows(
  variables: Variables,
  tables: Collection[Path],
  shapes: Mapping[str, tuple[int, ...]],
) -> Variables:
  """Variables whose tables have as many rows as a checkpoint's."""
  params = traverse_util.flatten_dict(variables.params)
  for path in tables:
    found = shapes.get('/'.join(('params', *path)))
    if found:
      shape = (*found[:1], *params[path].shape[1:])
      params[path] = jax.ShapeDtypeStruct(shape, params[path].dtype)
  return variables.replace(params=traverse_util.unflatten_dict(params))


def _take_rows(table, their_games, fresh, our_games, starts, place):
  """A fresh table filled, where its rows are not all the same games."""
  theirs = row_games(len(table), their_games)
  ours = row_games(len(fresh), our_games)
  if theirs == ours and starts.keys().isdisjoint(ours):
    return table
  take = jax.jit(
    lambda table, fresh: rows_by_game(table, theirs, fresh, ours, starts),
    out_shardings=place,
  )
  return take(table, fresh)


def _restore(
  source: Checkpoints | PackedAgent,
  variables: Variables,
  shardings: Variables,
  names: Collection[str],
  step: int | None,
) -> dict[str, Params]:
  """The named parameters of a checkpoint."""
  template = Variables(
    params={name: variables.params[name] for name in names},
    targets={},
    extras={},
  )
  places = template.replace(
    params={name: shardings.params[name] for name in names}
  )
  return source.restore_variables(template, places, step, partial=True).params
