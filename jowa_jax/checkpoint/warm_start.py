"""Starting a run from parameters of another."""

import contextlib
import pathlib
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from jowa_jax.checkpoint.manager import CheckpointError, Checkpoints
from jowa_jax.checkpoint.task_rows import set_task_rows
from jowa_jax.methods.base import Variables


def open_run(path: str | pathlib.Path) -> Checkpoints:
  """Opens a run's checkpoints to be read.

  Args:
    path: the run's directory, or its `checkpoints` directory.

  Raises:
    CheckpointError: there are none.
  """
  inner = pathlib.Path(path) / 'checkpoints'
  return Checkpoints(inner if inner.is_dir() else path, create=False)


def warm_start(
  variables: Variables,
  shardings: Variables,
  *,
  checkpoints: str,
  params: Sequence[str] = (),
  step: int | None = None,
  rows: Mapping[int, int | None] | None = None,
) -> Variables:
  """Returns variables with top-level parameters taken from a checkpoint.

  Args:
    variables: fresh ones.
    shardings: where they go.
    checkpoints: directory of another run, or of its checkpoints.
    params: top-level names, such as ('tokenizer',); all if empty.
    step: which checkpoint; default the latest.
    rows: of the task tables that start from others, see `task_rows`.

  Raises:
    CheckpointError: there is no checkpoint, a name is not in both, or shapes
      differ.
  """
  unknown = sorted(set(params) - set(variables.params))
  if unknown:
    raise CheckpointError(
      f'init_from.params={tuple(params)} must name some of '
      f'{sorted(variables.params)}, or none for all of them'
    )
  params = tuple(params) or tuple(variables.params)
  if rows and 'backbone' not in params:
    raise CheckpointError(
      f'init_from.task_row is set, but init_from.params={params} takes no '
      'backbone'
    )
  template = Variables(
    params={name: variables.params[name] for name in params},
    targets={},
    extras={},
  )
  places = template.replace(
    params={name: shardings.params[name] for name in params}
  )
  with contextlib.closing(open_run(checkpoints)) as source:
    taken = source.restore_variables(template, places, step, partial=True)
  taken = taken.params
  if rows:
    try:
      backbone = set_task_rows(
        taken['backbone'],
        variables.params['backbone'],
        rows,
        shardings.params['backbone'],
      )
    except ValueError as error:
      raise CheckpointError(f'{checkpoints}: {error}') from error
    taken = {**taken, 'backbone': backbone}
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
