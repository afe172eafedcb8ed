"""What devices can do, and what programs ask of them."""

from typing import Any, NamedTuple

import jax


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
