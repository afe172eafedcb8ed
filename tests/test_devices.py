"""How many devices the CPU is, in processes of their own."""

import os
import subprocess
import sys

import pytest

_PROGRAM = """
import os
os.sched_getaffinity = lambda pid: range({cores})
from jowa_jax import devices
devices.divide_cpu({most})
import jax
print(len(jax.devices()))
"""


def _count(cores, most='', flags=''):
  environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': flags}
  program = _PROGRAM.format(cores=cores, most=most)
  done = subprocess.run(
    [sys.executable, '-c', program],
    env=environment,
    capture_output=True,
    text=True,
    check=True,
  )
  return int(done.stdout)


@pytest.mark.parametrize(
  ('cores', 'options', 'devices'),
  [
    (1, {}, 1),
    (2, {}, 2),
    (3, {}, 2),  # they divide a batch
    (16, {}, 4),
    (16, {'most': 8}, 8),
    # Whoever says how many knows better.
    (4, {'flags': '--xla_force_host_platform_device_count=3'}, 3),
  ],
)
def test_the_cpu_is_as_many_devices_as_cores(cores, options, devices):
  assert _count(cores, **options) == devices
