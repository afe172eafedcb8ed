"""What devices can do, and what programs ask of them."""

import os
from typing import Any, NamedTuple

import jax

_MOST = 4  # devices that a CPU is made
_VIRTUAL = 'xla_force_host_platform_device_count'


class Peak(NamedTuple):
  """Of one device, with dense products in bfloat16."""

  flops: float  # operations a second
  bandwidth: float  # bytes of its memory a second


# By the start of the name that JAX gives a device; vendors' data sheets.
PEAKS = {
  'NVIDIA H200': Peak(989e12, 4.8e12),
  'NVIDIA H100': Peak(989e12, 3.35e12),
  'NVIDIA A100': Peak(312e12, 2.0e12),
  'TPU v4': Peak(275e12, 1.2e12),
  'TPU v5 lite': Peak(197e12, 0.82e12),
  'TPU v5p': Peak(459e12, 2.77e12),
  'TPU v6 lite': Peak(918e12, 1.64e12),
}


def peak(device: jax.Device | None = None) -> Peak | None:
  """A device's peak, the first one's by default; None if unknown."""
  kind = (device or jax.devices()[0]).device_kind
  return next((p for name, p in PEAKS.items() if kind.startswith(name)), None)


def memory_in_use(device: jax.Device | None = None) -> int | None:
  """The most bytes of memory that were in use; None if unknown."""
  stats = (device or jax.local_devices()[0]).memory_stats()
  return stats.get('peak_bytes_in_use') if stats else None


def cost(compiled: jax.stages.Compiled) -> dict[str, Any]:
  """What the compiler counts of a program, on one device.

  `flops` are operations, `bytes` those read and written. Loops are counted
  once, however often they run.
  """
  analysis = compiled.cost_analysis() or {}
  return {
    'flops': float(analysis.get('flops', 0.0)),
    'bytes': float(analysis.get('bytes accessed', 0.0)),
  }


def divide_cpu() -> None:
  """Makes the CPU as many devices as it has cores, for programs that play.

  What a small model computes for a decision is too little to be divided among
  cores; games are divided over devices, and each then decides on its own core.
  Training on two such devices takes as long as on one that has both cores.
  They are a power of two, so that they divide batches, and four at most, as
  each holds all parameters.

  Does nothing where XLA_FLAGS or JAX_NUM_CPU_DEVICES say how many devices the
  CPU is.

  Raises:
    RuntimeError: JAX has computed something already.
  """
  given = jax.config.jax_num_cpu_devices != -1
  if given or _VIRTUAL in os.environ.get('XLA_FLAGS', ''):
    return
  able = getattr(os, 'sched_getaffinity', None)  # not on macOS
  cores = len(able(0)) if able else os.cpu_count() or 1
  count = 1 << (min(cores, _MOST).bit_length() - 1)
  jax.config.update('jax_num_cpu_devices', count)
