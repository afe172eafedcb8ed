"""Trains a method: stages, checkpoints and logs in one directory.

python -m launch.train --config=configs/jowa.py:150m --workdir=runs/jowa \
  --config.data.directory=data [--config.run.batch_size=256 ...]

Running the same command again continues from the latest checkpoint. SIGTERM
saves and exits with code 75, which says: run me again.

Many processes of one run are found by themselves on Cloud TPU, under Slurm,
Open MPI and Kubernetes (see launch/pod); elsewhere, start each with
--coordinator_address, --num_processes and --process_id.
"""

import jax
from absl import flags

from launch import common, training

_CONFIG = common.define_config(
  None, 'Training config, such as configs/jowa.py:40m.'
)


def main() -> None:
  with training.session():
    run = training.make_run(_CONFIG.value.to_dict())
    training.train(run)
    if jax.process_index() == 0:
      print(f'Trained. To play whole episodes:\n{training.to_evaluate(run)}')


if __name__ == '__main__':
  flags.mark_flags_as_required(['config', 'workdir'])
  common.run(main)
