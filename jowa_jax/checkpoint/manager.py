"""Checkpoints of a run: variables, optimizer state and what they belong to.

A checkpoint is one Orbax composite of three items: `variables`, `opt_state`
and `meta` (step, stage, config and data identity as JSON). Acting needs the
first and last; imported ones have no `opt_state`.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import preservation_policy

from jowa_jax.methods.base import Variables

VARIABLES, OPT_STATE, META = 'variables', 'opt_state', 'meta'


class CheckpointError(ValueError):
  """A checkpoint that is missing or does not fit."""


class DamagedCheckpointError(CheckpointError):
  """A checkpoint that cannot be read."""


@dataclasses.dataclass(frozen=True)
class Keep:
  """Which checkpoints stay when another is saved.

  Attributes:
    latest: number of the newest checkpoints that stay.
    every: those of steps that this divides; 0 for none.
    best_metric: the one that is best by this metric; empty for none.
    best_mode: 'min' or 'max'.
  """

  latest: int
  every: int = 0
  best_metric: str = ''
  best_mode: str = 'min'

  def __post_init__(self):
    if self.latest < 1 or self.every < 0:
      raise ValueError(
        f'latest={self.latest} must be at least 1 and every={self.every} at '
        'least 0'
      )
    if self.best_mode not in ('min', 'max'):
      raise ValueError(f'best_mode={self.best_mode!r} is not min or max')

  def options(self) -> dict[str, Any]:
    """Orbax's names for it."""
    policies = [preservation_policy.LatestN(self.latest)]
    if self.every:
      policies.append(preservation_policy.EveryNSteps(self.every))
    if not self.best_metric:
      return dict(
        preservation_policy=preservation_policy.AnyPreservationPolicy(policies)
      )

    def metric(metrics: Mapping[str, float]) -> float:
      return metrics[self.best_metric]

    policies.append(
      preservation_policy.BestN(
        get_metric_fn=metric,
        reverse=self.best_mode == 'min',
        n=1,
        keep_checkpoints_without_metrics=False,
      )
    )
    return dict(
      preservation_policy=preservation_policy.AnyPreservationPolicy(policies),
      best_fn=metric,
      best_mode=self.best_mode,
    )


def _abstract(tree: Any, shardings: Any) -> Any:
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    tree,
    shardings,
  )


class Checkpoints:
  """The checkpoints in one directory."""

  def __init__(
    self,
    directory: str | pathlib.Path,
    keep: Keep | None = None,
    create: bool = True,
  ):
    """Opens the directory.

    Args:
      directory: of the checkpoints.
      keep: which stay; None keeps all.
      create: make the directory if it is not there.

    Raises:
      CheckpointError: the directory is not there, and not to be made.
    """
    self._directory = epath.Path(directory).resolve()
    if not create and not self._directory.is_dir():
      raise CheckpointError(
        f'{self._directory} does not exist: train first, or name the '
        '`checkpoints` directory of a run'
      )
    self._manager = ocp.CheckpointManager(
      self._directory,
      item_handlers={
        VARIABLES: ocp.PyTreeCheckpointHandler(),
        OPT_STATE: ocp.StandardCheckpointHandler(),
        META: ocp.JsonCheckpointHandler(),
      },
      options=ocp.CheckpointManagerOptions(
        enable_async_checkpointing=True,
        create=create,
        **(keep.options() if keep else {}),
      ),
    )

  @property
  def directory(self) -> pathlib.Path:
    return pathlib.Path(self._directory)

  def latest_step(self) -> int | None:
    return self._manager.latest_step()

  def steps(self) -> list[int]:
    """The steps of all checkpoints, the latest first."""
    return sorted(self._manager.all_steps(), reverse=True)

  def set_aside(self, step: int) -> pathlib.Path:
    """Moves a checkpoint out of the way; returns where it is now."""
    source = self._directory / str(step)
    aside = self._directory.parent / 'damaged_checkpoints'
    target, copies = aside / str(step), 0
    while target.exists():
      copies += 1
      target = aside / f'{step}_{copies}'
    multihost_utils.sync_global_devices('a checkpoint is to be set aside')
    if jax.process_index() == 0:
      aside.mkdir(parents=True, exist_ok=True)
      source.rename(target)
    multihost_utils.sync_global_devices('a checkpoint is set aside')
    self._manager.reload()
    return pathlib.Path(target)

  def save(
    self,
    step: int,
    variables: Variables,
    opt_state: Any | None,
    meta: Mapping[str, Any],
    metrics: Mapping[str, float] | None = None,
  ):
    """Saves in the background; Orbax makes a checkpoint visible when whole.

    Args:
      step: steps taken.
      variables: of the run.
      opt_state: of the stage; None where nothing has been trained yet.
      meta: what JSON can hold.
      metrics: with the one that `Keep` names, if it was measured.
    """
    items = {
      VARIABLES: ocp.args.PyTreeSave(as_dict(variables)),
      META: ocp.args.JsonSave(dict(meta)),
    }
    if opt_state is not None:
      items[OPT_STATE] = ocp.args.StandardSave(opt_state)
    self._manager.save(step, metrics=metrics, args=ocp.args.Composite(**items))

  def meta(self, step: int | None = None) -> dict[str, Any]:
    """The `meta` of a checkpoint, the latest by default.

    Raises:
      CheckpointError: there is none.
    """
    return self._restore(self._find(step), META, ocp.args.JsonRestore())

  def shapes(self, step: int | None = None) -> dict[str, tuple[int, ...]]:
    """Shapes of a checkpoint's variables by name, such as 'params/a/kernel'.

    Raises:
      CheckpointError: there is none.
    """
    step = self._find(step)
    with self._naming_damage(step):
      metadata = self._manager.item_metadata(step)[VARIABLES]
      if metadata is None:
        raise FileNotFoundError(f'it has no {VARIABLES}')
      return _shapes(metadata.tree)

  def restore_variables(
    self,
    template: Variables,
    shardings: Variables,
    step: int | None = None,
    partial: bool = False,
  ) -> Variables:
    """Restores variables alone.

    Args:
      template: of (abstract) arrays.
      shardings: where they go.
      step: default the latest.
      partial: whether the checkpoint may hold more than `template`.

    Raises:
      CheckpointError: there is none, or its arrays have other names or
        shapes; the message lists them.
    """
    step = self._find(step)
    wanted = as_dict(_abstract(template, shardings))
    self._check_fit(step, wanted, partial)
    restore = ocp.args.PyTreeRestore(
      wanted,
      restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
      partial_restore=partial,
    )
    restored = self._restore(step, VARIABLES, restore)
    return Variables(**{**EMPTY, **restored})

  def restore_opt_state(
    self, template: Any, shardings: Any, step: int | None = None
  ) -> Any:
    """Restores the optimizer state of the stage the checkpoint was made in.

    Raises:
      CheckpointError: there is none, or it is of another optimizer.
    """
    step, wanted = self._find(step), _abstract(template, shardings)
    with self._naming_damage(step):
      metadata = self._manager.item_metadata(step)[OPT_STATE]
      if metadata is None:
        raise FileNotFoundError(f'it has no {OPT_STATE}')
    # By shapes alone: Orbax names what optax keeps in its own way.
    shapes = (sorted(_shapes(tree).values()) for tree in (metadata, wanted))
    if len(set(map(tuple, shapes))) > 1:
      raise CheckpointError(
        f'Checkpoint {step} in {self._directory} holds the state of another '
        "optimizer, or of another stage: restore the config's stages, or take "
        'the checkpoint as init_from of a new run'
      )
    restore = ocp.args.StandardRestore(wanted)
    return self._restore(step, OPT_STATE, restore)

  def _restore(self, step: int, item: str, args: Any) -> Any:
    with self._naming_damage(step):
      restored = self._manager.restore(
        step, args=ocp.args.Composite(**{item: args})
      )
      return restored[item]

  @contextlib.contextmanager
  def _naming_damage(self, step: int) -> Iterator[None]:
    """Turns what Orbax raises on unreadable files into one clear error."""
    try:
      yield
    except CheckpointError:
      raise
    except (ValueError, KeyError, OSError) as error:
      missing = isinstance(error, FileNotFoundError | NotADirectoryError)
      if isinstance(error, OSError) and not missing:
        raise  # It may be read another time.
      raise DamagedCheckpointError(
        f'The checkpoint of step {step} in {self._directory} is damaged, '
        'incomplete or of another version: move its directory away to go on '
        f'from the one before it ({type(error).__name__}: {error})'
      ) from error

  def _find(self, step: int | None) -> int:
    steps = self._manager.all_steps()
    if not steps:
      raise CheckpointError(
        f'No checkpoint in {self._directory}: train first, or name the '
        '`checkpoints` directory of a run'
      )
    if step is not None and step not in steps:
      raise CheckpointError(
        f'No checkpoint of step {step} in {self._directory}; there are '
        f'{sorted(steps)}'
      )
    return max(steps) if step is None else step

  def _check_fit(self, step: int, wanted: dict[str, Any], partial: bool):
    what = f'Checkpoint {step} in {self._directory}'
    check_shapes(what, self.shapes(step), _shapes(wanted), partial)

  def wait(self):
    """When everything saved is on disk."""
    self._manager.wait_until_finished()

  def close(self):
    self._manager.close()


def check_shapes(
  what: str,
  found: Mapping[str, tuple[int, ...]],
  expected: Mapping[str, tuple[int, ...]],
  partial: bool,
) -> None:
  """Checks that a checkpoint has the arrays that are to be restored.

  Args:
    what: the checkpoint, for messages.
    found: shapes by name, of the checkpoint.
    expected: shapes by name, of what is restored.
    partial: whether it may have others beside them.

  Raises:
    CheckpointError: an array is missing, or another; or is not expected.
  """
  names = expected.keys() if partial else found.keys() | expected.keys()
  faults = [
    f'{name}: found {found.get(name)}, expected {expected.get(name)}'
    for name in sorted(names)
    if found.get(name) != expected.get(name)
  ]
  if faults:
    shown = '\n  '.join(faults[:10])
    raise CheckpointError(
      f'{what} is of another model ({len(faults)} arrays differ); use the '
      f'config it was trained with:\n  {shown}'
    )


# Orbax does not store empty dicts, so they are left out and put back.
EMPTY: Mapping[str, Any] = {'params': {}, 'targets': {}, 'extras': {}}


def as_dict(variables: Variables) -> dict[str, Any]:
  """The parts of `variables` that hold something."""
  fields = {name: getattr(variables, name) for name in EMPTY}
  return {name: value for name, value in fields.items() if value}


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  leaves, _ = jax.tree_util.tree_flatten_with_path(
    tree, is_leaf=lambda x: hasattr(x, 'shape')
  )
  return {
    '/'.join(str(getattr(key, 'key', key)) for key in path): tuple(leaf.shape)
    for path, leaf in leaves
  }
