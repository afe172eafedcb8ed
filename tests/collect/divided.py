"""Run by test_online_divided: learns from its own play, in one of P processes.

Usage: divided.py <run directory> <cache> <steps> <process> <P> <port>

Prints a line of JSON: the processes and devices there are, and how many
environments this one plays.
"""

import json
import sys

import jax

from tests.collect import test_online
from tests.train import helpers


def run_of(workdir, steps=8):
  """A run whose numbers do not depend on what divides its work."""
  return test_online.run_of(
    workdir,
    online__environments=4,
    stages__online__q__eps=1e-3,
    stages__online__steps=steps,
  )


def main(workdir, cache, steps, process, count, port):
  if int(count) > 1:
    jax.config.update('jax_cpu_collectives_implementation', 'gloo')
    jax.distributed.initialize(f'127.0.0.1:{port}', int(count), int(process))
  with helpers.quick_compilation(cache):
    run, feed = run_of(workdir, int(steps))
    # Other steps than the run was begun with are accepted.
    run.train(progress=False, data=feed, accept_changes=True)
  print(json.dumps([jax.process_count(), jax.device_count(), len(feed._envs)]))


if __name__ == '__main__':
  main(*sys.argv[1:])
