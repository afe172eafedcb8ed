"""Where arrays live: a device mesh and rules from axis names to mesh axes.

Layout is configuration. Models name the axes of their parameters; `rules` say
which mesh axes may split an axis of that name. The mesh axes have three uses:
`data` splits the batch alone; `fsdp` splits the batch and the parameters, of
which a device gathers what it needs when it needs it; any other, such as
`tensor`, splits parameters and what is computed with them.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.sharding import (
  AxisType,
  Mesh,
  NamedSharding,
  PartitionSpec,
  SingleDeviceSharding,
)

from jowa_jax.types import Params

# Mesh axes by logical axis name, in order of preference.
Rules = Mapping[str, Sequence[str]]
BATCH_AXES = ('data', 'fsdp')


def make_mesh(
  axes: Mapping[str, int], devices: Sequence[jax.Device] | None = None
) -> Mesh:
  """A mesh over all devices, neighbours beside each other on a TPU.

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
  return jax.make_mesh(
    tuple(sizes.values()),
    tuple(sizes),
    (AxisType.Auto,) * len(sizes),
    devices=devices,
  )


def acting_mesh(environments: int) -> Mesh:
  """A mesh over as many devices as divide the environments."""
  devices = jax.local_devices()
  count = max(n for n in range(1, len(devices) + 1) if environments % n == 0)
  if count < len(devices):
    logging.info(
      '%d environments do not divide over %d devices: %d are used',
      environments,
      len(devices),
      count,
    )
  # As they come: nothing is exchanged, and some of them need not be a torus.
  return Mesh(np.array(devices[:count]), ('data',))


def put_beside(variables: Any, tree: Any) -> Any:
  """A tree placed where what is computed with `variables` is.

  What one call hands to the next must begin there: arrays that JAX is free to
  move are, unlike results, arguments of another program.

  Args:
    variables: arrays on one device or one mesh, or NumPy's.
    tree: arrays; on a mesh they are replicated.
  """
  first = next(iter(jax.tree.leaves(variables)), None)
  default = SingleDeviceSharding(jax.devices()[0])
  place = getattr(first, 'sharding', default)
  if isinstance(place, NamedSharding):
    place = replicated(place.mesh)
  if place.is_fully_addressable:
    return jax.device_put(tree, place)
  return jax.tree.map(lambda leaf: _put_everywhere(leaf, place), tree)


def _put_everywhere(leaf: Any, place: NamedSharding) -> jax.Array:
  """An array of the same values in all processes, on a mesh of them all."""
  if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
    return jax.device_put(leaf, place)
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    # JAX puts plain numbers there, and no keys.
    data = jax.device_put(np.asarray(jax.random.key_data(leaf)), place)
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
  return jax.device_put(np.asarray(leaf), place)


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """The sharding of a batch: its first axis over `BATCH_AXES`."""
  axes = tuple(axis for axis in BATCH_AXES if axis in mesh.shape)
  return NamedSharding(mesh, PartitionSpec(axes))


def batch_shares(mesh: Mesh) -> int:
  """Into how many shares a batch is split."""
  return math.prod(mesh.shape.get(axis, 1) for axis in BATCH_AXES)


def batch_share(mesh: Mesh, batch_size: int) -> tuple[int, int]:
  """Which share of a batch this process reads: (index, how many).

  Processes whose devices hold the same rows read the same share.

  Args:
    mesh: over the devices of all processes.
    batch_size: segments, a multiple of `batch_shares`.

  Raises:
    ValueError: processes share some of their rows and not others.
  """
  rows = {}
  places = batch_sharding(mesh).devices_indices_map((batch_size,))
  for device, (index,) in places.items():
    rows.setdefault(device.process_index, set()).add(index.indices(batch_size))
  shares = sorted({tuple(sorted(share)) for share in rows.values()})
  if len(set(sum(shares, ()))) < sum(map(len, shares)):
    raise ValueError(
      f'On the mesh {dict(mesh.shape)} processes share some rows of a batch '
      'and not others: choose axes that divide by the devices of a process, '
      'or divide them'
    )
  own = tuple(sorted(rows[jax.process_index()]))
  return shares.index(own), len(shares)


def put_batch(rows: Any, mesh: Mesh) -> Any:
  """A batch on the mesh, of which each process gives its rows.

  Args:
    rows: arrays [B / shares, ...], of the share that `batch_share` names.
    mesh: it divides the batch.
  """
  return jax.make_array_from_process_local_data(batch_sharding(mesh), rows)


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def partition(
  names: Sequence[str | None], shape: Sequence[int], mesh: Mesh, rules: Rules
) -> tuple[PartitionSpec, list[str]]:
  """How an array is split, and the mesh axes that found no place.

  The first choices of all its axes come first, then the second ones. A mesh
  axis splits one axis of an array, the first that it divides.
  """
  split = [[] for _ in shape]
  wanted = []
  choices = [rules.get(name, ()) for name in names]
  for rank in range(max(map(len, choices), default=0)):
    for axes, taken, size in zip(choices, split, shape, strict=True):
      if rank >= len(axes) or mesh.shape[axes[rank]] == 1:
        continue
      axis = axes[rank]
      wanted.append(axis)
      used = any(axis in others for others in split)
      parts = math.prod(mesh.shape[other] for other in (*taken, axis))
      if not used and size % parts == 0:
        taken.append(axis)
  spec = [tuple(axes) if len(axes) > 1 else (*axes, None)[0] for axes in split]
  left = [
    axis for axis in dict.fromkeys(wanted) if not any(axis in s for s in split)
  ]
  return PartitionSpec(*spec), left


def check_rules(rules: Rules, mesh: Mesh) -> None:
  """Raises ValueError if a rule names an axis that the mesh lacks."""
  for name, axes in rules.items():
    for axis in axes:
      if axis not in mesh.shape:
        raise ValueError(
          f'mesh.rules.{name} names the axis {axis!r}; the mesh has '
          f'{list(mesh.shape)}'
        )


def tree_shardings(boxed: Params, mesh: Mesh, rules: Rules) -> Params:
  """The sharding of every array of a tree with named axes.

  Args:
    boxed: abstract arrays, in flax's `LogicallyPartitioned` where named.
    mesh: the devices.
    rules: mesh axes by logical axis name; a name that is not there replicates,
      and so does one that no axis divides, which is logged.

  Raises:
    ValueError: a rule names an axis that the mesh lacks.
  """
  check_rules(rules, mesh)
  whole = set()

  def sharding(leaf: Any) -> NamedSharding:
    if not isinstance(leaf, nn.LogicallyPartitioned):
      return replicated(mesh)
    shape = leaf.value.shape
    spec, left = partition(leaf.names, shape, mesh, rules)
    whole.update((leaf.names, shape, axis) for axis in left)
    return NamedSharding(mesh, spec)

  shardings = jax.tree.map(
    sharding,
    boxed,
    is_leaf=lambda leaf: isinstance(leaf, nn.LogicallyPartitioned),
  )
  for names, shape, axis in sorted(whole, key=str):
    logging.info(
      'Replicating arrays (%s) of shape %s over the mesh axis %s, which does '
      'not divide them',
      ', '.join(map(str, names)),
      shape,
      axis,
    )
  return shardings


def optimizer_shardings(
  tx: optax.GradientTransformation,
  abstract_state: Any,
  param_shardings: Params,
  mesh: Mesh,
) -> Any:
  """Shardings of an optimizer state: moments like parameters."""
  return optax.tree.map_params(
    tx,
    lambda _, sharding: sharding,
    abstract_state,
    param_shardings,
    transform_non_params=lambda _: replicated(mesh),
  )
