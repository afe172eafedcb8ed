"""What a mesh of many devices would hold, compute and send in a step.

The step is compiled ahead of time for virtual devices; nothing is allocated.
They are CPUs, whose compiler computes and sends in float32 what a GPU or a TPU
would in bfloat16, and all-reduces gradients that those would reduce-scatter: of
activations and collectives, expect less there.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from jowa_jax import devices
from jowa_jax.bench import models
from jowa_jax.bench.train import STAGES, batch, jowa
from jowa_jax.data.feed import statistics
from jowa_jax.mesh_rules import RULES
from jowa_jax.methods.base import Method
from jowa_jax.methods.factory import make_method
from jowa_jax.train import sharding, step
from jowa_jax.train.state import (
  Stage,
  TrainState,
  abstract_optimizers,
  abstract_variables,
  stage_flops,
)
from jowa_jax.types import Segment

_COLLECTIVES = (
  'all-gather',
  'all-reduce',
  'reduce-scatter',
  'all-to-all',
  'collective-permute',
)
_BYTES = {'pred': 1, 's8': 1, 'u8': 1, 'bf16': 2, 'f16': 2, 'u16': 2, 's16': 2}
_BYTES |= {'f32': 4, 's32': 4, 'u32': 4, 'f64': 8, 's64': 8, 'u64': 8}


@dataclasses.dataclass(frozen=True)
class Device:
  """What the time of a step is predicted from.

  Attributes:
    flops: operations a second.
    bandwidth: bytes a second between two devices, each way.
  """

  flops: float
  bandwidth: float


def predict(
  size: str,
  axes: Mapping[str, int],
  batch_size: int,
  device: Device,
  stage: str = 'stage2',
  dtype: str = 'bfloat16',
  tokens: bool = True,
  **changes: Any,
) -> dict[str, Any]:
  """What a device of the mesh holds, computes and sends in a step.

  Args:
    size: a name in `SIZES`.
    axes: of the mesh: data, fsdp and tensor.
    batch_size: segments, over all devices.
    device: what is predicted with.
    stage: 'stage1' or 'stage2'.
    dtype: of the computation.
    tokens: whether frames are encoded already; of stage 2.
    **changes: of the backbone's config.

  Raises:
    ValueError: the mesh does not divide the batch, or has too many devices.
  """
  method, _ = jowa(size, dtype, **changes)
  rows = batch(method, 1, tokens and stage == 'stage2')
  record = _measure(method, STAGES[stage], rows, axes, batch_size, device)
  return record | {'size': size}


def run_config(
  config: Mapping[str, Any],
  axes: Mapping[str, int],
  batch_size: int,
  device: Device,
) -> list[dict[str, Any]]:
  """A record for every stage of any method's config, on frames.

  Args:
    config: a resolved training config.
    axes: of the mesh: data, fsdp and tensor.
    batch_size: segments, over all devices.
    device: what is predicted with.

  Raises:
    ConfigError: the config is not one.
    ValueError: the mesh does not divide the batch, or has too many devices.
  """
  # Not above: it reads data sets, and other models are lowered without.
  from jowa_jax.train.settings import parse_stages

  method = make_method(config)
  rows = batch(method, 1)
  return [
    _measure(method, stage, rows, axes, batch_size, device)
    | {'size': config['method']}
    for stage in parse_stages(config['stages'])
  ]


def _measure(
  method: Method,
  stage: Stage,
  row: Segment,
  axes: Mapping[str, int],
  batch_size: int,
  device: Device,
) -> dict[str, Any]:
  """What a step of a stage takes of a device, on segments like a row."""
  count = math.prod(axes.values())
  if count > len(jax.devices()):
    raise ValueError(
      f'the mesh {dict(axes)} has {count} devices, here are '
      f'{len(jax.devices())}: set XLA_FLAGS='
      f'--xla_force_host_platform_device_count={count}'
    )
  mesh = sharding.make_mesh(axes, jax.devices()[:count])
  if batch_size % sharding.batch_shares(mesh):
    raise ValueError(
      f'batch_size={batch_size} does not divide over the '
      f'{sharding.batch_shares(mesh)} devices of data and fsdp'
    )
  variables, variable_places = abstract_variables(
    method, statistics.shapes(method.spec.statistics), mesh, RULES
  )
  opt_state, opt_places = abstract_optimizers(
    method, stage, variables, variable_places, mesh
  )
  state = TrainState(
    step=jax.ShapeDtypeStruct((), 'int32'),
    variables=variables,
    opt_state=opt_state,
  )
  places = TrainState(
    step=sharding.replicated(mesh),
    variables=variable_places,
    opt_state=opt_places,
  )
  rows = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((batch_size, *x.shape[1:]), x.dtype),
    row,
  )
  compiled = (
    step.compile_step(method, stage, 0, 0, mesh, places)
    .lower(state, rows)
    .compile()
  )
  memory, cost = compiled.memory_analysis(), devices.cost(compiled)
  sent = collective_bytes(compiled.as_text())
  needed = batch_size * stage_flops(method, stage)
  compute = needed / count / device.flops
  communicate = sum(sent.values()) / device.bandwidth
  return {
    'stage': stage.name,
    'mesh': dict(axes),
    'batch_size': batch_size,
    'dtype': method.dtype,
    'parameter_bytes': _bytes_here(state.variables, places.variables),
    'moment_bytes': _bytes_here(state.opt_state, places.opt_state),
    'activation_bytes': int(memory.temp_size_in_bytes),
    'model_flops': needed / count,
    'compiled_flops': cost['flops'],
    'collective_bytes': sent,
    'compute_seconds': compute,
    'communicate_seconds': communicate,
    # Between all of it hidden behind computing, and none.
    'step_seconds': [max(compute, communicate), compute + communicate],
  }


def _bytes_here(tree: Any, places: Any) -> int:
  return sum(
    math.prod(place.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    for leaf, place in zip(
      jax.tree.leaves(tree), jax.tree.leaves(places), strict=True
    )
  )


def collective_bytes(program: str) -> dict[str, int]:
  """The bytes that each kind of collective moves on a device.

  Of an all-reduce twice the array, as it is a reduce-scatter and an all-gather;
  of a reduce-scatter what goes in, of the others what comes out.

  Args:
    program: compiled, as text. What loops repeat is counted once.
  """
  moved = dict.fromkeys(_COLLECTIVES, 0)
  for line in program.splitlines():
    found = re.search(rf'= (.*?) ({"|".join(_COLLECTIVES)})\(', line)
    if not found:
      continue
    kind = found[2]
    shapes = re.findall(r'([a-z]+\d*)\[([\d,]*)\]', found[1])
    sizes = [
      _BYTES.get(dtype, 4) * math.prod(int(n) for n in dims.split(',') if n)
      for dtype, dims in shapes
    ]
    total = sum(sizes)
    if kind == 'all-reduce':
      total *= 2
    if kind == 'reduce-scatter':
      groups = re.search(r'replica_groups=\[\d+,(\d+)\]', line)
      listed = re.search(r'replica_groups=\{\{([\d,]+)\}', line)
      if groups:
        total *= int(groups[1])
      elif listed:
        total *= listed[1].count(',') + 1
    moved[kind] += total
  return moved


_COLUMNS = (
  ('size', '{}', 6),
  ('stage', '{}', 7),
  ('mesh', '{}', 40),
  ('batch_size', '{}', 6),
  ('parameter_bytes', '{:.2e}', 9),
  ('moment_bytes', '{:.2e}', 9),
  ('activation_bytes', '{:.2e}', 9),
  ('model_flops', '{:.2e}', 9),
  ('compiled_flops', '{:.2e}', 9),
  ('compute_seconds', '{:.4f}', 8),
  ('communicate_seconds', '{:.4f}', 8),
)
_HEADS = (
  'size stage mesh batch params moments rest flops compiled compute send'
).split()


def describe(records: Sequence[Mapping[str, Any]]) -> str:
  """A table: bytes, operations and seconds of one device."""
  lines = [models.table(_HEADS, _COLUMNS, records)]
  for record in records:
    sent = ', '.join(
      f'{kind} {count:.3g}'
      for kind, count in record['collective_bytes'].items()
    )
    low, high = record['step_seconds']
    lines.append(
      f'{record["size"]} on {record["mesh"]}: a step takes {low:.4f} to '
      f'{high:.4f} s; bytes moved: {sent}'
    )
  return '\n'.join(lines)
