"""How many devices the CPU is, in processes of their own."""

import os
import subprocess
import sys

import pytest

_COUNT = """
import os
os.sched_getaffinity = lambda pid: range({cores})
from jowa_jax import devices
devices.divide_cpu()
import jax
print(len(jax.devices()))
"""
_CALLED = """
import runpy, sys
from jowa_jax import devices
devices.divide_cpu = lambda: sys.exit(7)
sys.argv = ['{script}', *{flags}]
runpy.run_module('launch.{script}', run_name='__main__')
"""


def _run(program, **environment):
  names = ('XLA_FLAGS', 'JAX_NUM_CPU_DEVICES')
  inherited = {k: v for k, v in os.environ.items() if k not in names}
  return subprocess.run(
    [sys.executable, '-c', program],
    env={**inherited, 'JAX_PLATFORMS': 'cpu', **environment},
    capture_output=True,
    text=True,
  )


@pytest.mark.parametrize(
  ('cores', 'given', 'devices'),
  [
    (1, {}, 1),
    (2, {}, 2),
    (3, {}, 2),  # they divide a batch
    (16, {}, 4),
    # Whoever says how many knows better.
    (4, {'XLA_FLAGS': '--xla_force_host_platform_device_count=3'}, 3),
    (4, {'JAX_NUM_CPU_DEVICES': '3'}, 3),
  ],
)
def test_the_cpu_is_as_many_devices_as_cores(cores, given, devices):
  done = _run(_COUNT.format(cores=cores), **given)
  assert done.returncode == 0, done.stderr
  assert int(done.stdout) == devices


@pytest.mark.parametrize(
  ('script', 'flags'),
  [
    ('evaluate', ['--games=Pong', '--output=there.jsonl']),
    ('sweep', ['--checkpoint=run', '--games=Pong', '--output=there']),
    ('quickstart', ['--workdir=there']),
  ],
)
def test_scripts_that_play_divide_it(script, flags):
  done = _run(_CALLED.format(script=script, flags=flags))
  assert done.returncode == 7, done.stderr
