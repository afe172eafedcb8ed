"""Run by test_kills: trains, and is killed after a step.

Usage: killed.py <data> <run directory> <cache> <step, or 0> <signal> <more>

The run is the tests' smallest one, with `more` steps in each stage and a
checkpoint at every other step. After a step that saves, the save has begun.
"""

import os
import signal
import sys

from jowa_jax.train.run import Run
from tests.train import helpers


def config_of(data_dir, more):
  return helpers.tiny_config(data_dir, steps=(3 + more, 4 + more))


def main(data_dir, workdir, cache, stop, name, more):
  def on_step(step):
    if step == int(stop):
      os.kill(os.getpid(), getattr(signal, name))

  with helpers.quick_compilation(cache):
    run = Run(config_of(data_dir, int(more)), workdir)
    run.train(progress=False, on_step=on_step)


if __name__ == '__main__':
  main(*sys.argv[1:])
