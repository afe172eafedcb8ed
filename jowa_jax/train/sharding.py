"""Where arrays live: a device mesh and rules from axis names to mesh axes.

Layout is configuration. Models name the axes of their parameters; `rules` map
those names to mesh axes, and a parameter whose dimension does not divide is
replicated along that axis.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jowa_jax.types import Params

Rules = Mapping[str, str | None]


def make_mesh(
  axes: Mapping[str, int], devices: Sequence[jax.Device] | None = None
) -> Mesh:
  """Returns a mesh over all devices.

  Args:
    axes: size of each mesh axis by name, in order; one may be -1, for what
      the others leave.
    devices: default all.

  Raises:
    ValueError: the sizes do not multiply to the number of devices.
  """
  devices = jax.devices() if devices is None else list(devices)
  sizes = dict(axes)
  free = [name for name, size in sizes.items() if size == -1]
  taken = math.prod(size for size in sizes.values() if size != -1)
  if len(free) == 1 and len(devices) % taken == 0:
    sizes[free[0]] = len(devices) // taken
  if math.prod(sizes.values()) != len(devices) or min(sizes.values()) < 1:
    raise ValueError(
      f'mesh.axes {dict(axes)} do not multiply to {len(devices)} devices'
    )
  return Mesh(np.array(devices).reshape(tuple(sizes.values())), tuple(sizes))


def acting_mesh(environments: int) -> Mesh:
  """Returns a mesh over as many devices as divide the environments."""
  devices = jax.local_devices()
  count = max(n for n in range(1, len(devices) + 1) if environments % n == 0)
  if count < len(devices):
    logging.info(
      '%d environments do not divide over %d devices: %d are used',
      environments,
      len(devices),
      count,
    )
  return make_mesh({'data': count}, devices[:count])


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of a batch: its first axis over `data`."""
  return NamedSharding(mesh, PartitionSpec('data'))


def put_batch(rows: Any, mesh: Mesh) -> Any:
  """Returns a batch on the mesh, of which each process gives its rows.

  Args:
    rows: arrays [B / processes, ...], consecutive in the order of processes.
    mesh: its data axis divides the batch.
  """
  return jax.make_array_from_process_local_data(batch_sharding(mesh), rows)


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def _leaf_sharding(leaf: Any, mesh: Mesh, rules: Rules) -> NamedSharding:
  if not isinstance(leaf, nn.LogicallyPartitioned):
    return replicated(mesh)
  spec = []
  for name, size in zip(leaf.names, leaf.value.shape, strict=True):
    axis = rules.get(name)
    if axis in spec:
      axis = None  # A mesh axis splits one dimension of an array only.
    if axis and size % mesh.shape[axis]:
      logging.info(
        'Replicating a %s axis of size %d: mesh axis %s has %d devices',
        name,
        size,
        axis,
        mesh.shape[axis],
      )
      axis = None
    spec.append(axis)
  return NamedSharding(mesh, PartitionSpec(*spec))


def check_rules(rules: Rules, mesh: Mesh) -> None:
  """Raises ValueError if a rule names an axis that the mesh lacks."""
  for name, axis in rules.items():
    if axis and axis not in mesh.shape:
      raise ValueError(
        f'mesh.rules.{name} names the axis {axis!r}; the mesh has '
        f'{list(mesh.shape)}'
      )


def tree_shardings(boxed: Params, mesh: Mesh, rules: Rules) -> Params:
  """Returns the sharding of every array of a tree with named axes.

  Args:
    boxed: abstract arrays, in flax's `LogicallyPartitioned` where named.
    mesh: the devices.
    rules: mesh axis by logical axis name; a name that is not there replicates.

  Raises:
    ValueError: a rule names an axis that the mesh lacks.
  """
  check_rules(rules, mesh)
  return jax.tree.map(
    lambda leaf: _leaf_sharding(leaf, mesh, rules),
    boxed,
    is_leaf=lambda leaf: isinstance(leaf, nn.LogicallyPartitioned),
  )


def optimizer_shardings(
  tx: optax.GradientTransformation,
  abstract_state: Any,
  param_shardings: Params,
  mesh: Mesh,
) -> Any:
  """Returns shardings of an optimizer state: moments like parameters."""
  return optax.tree.map_params(
    tx,
    lambda _, sharding: sharding,
    abstract_state,
    param_shardings,
    transform_non_params=lambda _: replicated(mesh),
  )
