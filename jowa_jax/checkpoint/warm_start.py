"""Starting a run from parameters of another."""

import contextlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jowa_jax.checkpoint.manager import CheckpointError, Checkpoints
from jowa_jax.checkpoint.packed import PackedAgent, is_packed
from jowa_jax.checkpoint.run_directory import RunDirectory
from jowa_jax.checkpoint.task_rows import set_task_rows
from jowa_jax.methods.adaptation import BACKBONE, LORA
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
  rows: Mapping[int, int | None] | None = None,
  adaptation: Mapping[str, Any] | None = None,
) -> Variables:
  """Returns variables with top-level parameters taken from a checkpoint.

  Args:
    variables: fresh ones.
    shardings: where they go.
    checkpoints: of another run, see `open_run`.
    params: top-level names, such as ('tokenizer',); all if empty, but for
      adapters that the checkpoint has none of.
    step: which checkpoint; default the latest.
    rows: of the task tables that start from others, see `task_rows`.
    adaptation: that section of the config of `variables`.

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
  with contextlib.closing(open_run(checkpoints)) as source:
    taken = _restore(source, variables, shardings, params, step, adaptation)
  if rows and BACKBONE not in taken:
    raise CheckpointError(
      'init_from.task_row is set, but no backbone is taken, only '
      f'init_from.params={tuple(params)}'
    )
  if rows:
    try:
      backbone = set_task_rows(
        taken[BACKBONE],
        variables.params[BACKBONE],
        rows,
        shardings.params[BACKBONE],
      )
    except ValueError as error:
      raise CheckpointError(f'{checkpoints}: {error}') from error
    taken = {**taken, BACKBONE: backbone}
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


def _restore(
  source: Checkpoints | PackedAgent,
  variables: Variables,
  shardings: Variables,
  params: Sequence[str],
  step: int | None,
  adaptation: Mapping[str, Any] | None,
) -> dict[str, Params]:
  """Returns the parameters of a checkpoint, see `warm_start`."""
  theirs = source.meta(step).get('config', {}).get('adaptation', {})
  if params and BACKBONE not in params and LORA in params:
    raise CheckpointError(
      f'init_from.params={tuple(params)}: adapters belong to a backbone, take '
      f'{BACKBONE!r} too'
    )
  names = set(params or variables.params) - {LORA}
  if theirs.get('mode') == LORA and BACKBONE in names:
    # The backbone without its adapters would be another agent's.
    if theirs != adaptation:
      raise CheckpointError(
        f'init_from.checkpoints={source.directory} is a run with low-rank '
        f'adapters: set the section adaptation to theirs, {theirs}, or merge '
        'them by launch.export_checkpoint and launch.import_checkpoint'
      )
    names.add(LORA)
  template = Variables(
    params={name: variables.params[name] for name in names},
    targets={},
    extras={},
  )
  places = template.replace(
    params={name: shardings.params[name] for name in names}
  )
  return source.restore_variables(template, places, step, partial=True).params
