"""Run by test_processes as one of two processes of a run.

Usage: two_processes.py <process> <port> <data> <run directory> <cache> [how]

Prints one line of JSON: what the process read. The run has the second stage
alone, or `both`; `stop` has both, and the second process is sent SIGTERM while
it encodes frames.
"""

import json
import signal
import sys
import time

import jax

from jowa_jax.data.feed.dataset import SegmentDataset
from jowa_jax.train import loop
from jowa_jax.train.run import Run
from tests.train import helpers


def config_of(data_dir, workdir, how=''):
  return helpers.comparable_config(
    data_dir,
    steps=(3, 4) if how else (0, 4),
    run__batch_size=4,
    run__evaluate_every=4,
    run__evaluate_batches=2,
    data__token_cache=f'{workdir}_tokens',
    data__held_out_fraction=0.3,
  )


def interrupt_encoding():
  """Makes encoding slow, and sends SIGTERM to this process within it."""
  make_encoder, batches = loop.frozen_encoder, 0

  def frozen_encoder(method, variables):
    encode, tokenizer, _ = make_encoder(method, variables)

    def slowly(frames):
      nonlocal batches
      batches += 1
      time.sleep(0.2)
      if batches == 3 and jax.process_index() == 1:
        signal.raise_signal(signal.SIGTERM)
      return encode(frames)

    return slowly, tokenizer, 8

  loop.frozen_encoder = frozen_encoder


def main(process, port, data_dir, workdir, cache, how=''):
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  jax.distributed.initialize(f'127.0.0.1:{port}', 2, int(process))
  rows, read = [], SegmentDataset.batch

  def counted(self, indices):
    batch = read(self, indices)
    rows.append((len(indices), batch.tokens is not None))
    return batch

  SegmentDataset.batch = counted
  if how == 'stop':
    interrupt_encoding()
  with helpers.quick_compilation(cache):
    Run(config_of(data_dir, workdir, how), workdir).train(progress=False)
  print(json.dumps({'processes': jax.process_count(), 'rows': rows}))


if __name__ == '__main__':
  main(*sys.argv[1:])
