"""Trains a method: stages, checkpoints and logs in one directory.

python -m launch.train --config=configs/jowa.py:150m --workdir=runs/jowa \
  --config.data.directory=data [--config.run.batch_size=256 ...]

Running the same command again continues from the latest checkpoint. SIGTERM
saves and exits with code 75, which says: run me again.

Many processes of one run are found by themselves on Cloud TPU, under Slurm,
Open MPI and Kubernetes (see launch/pod); elsewhere, start each with
--coordinator_address, --num_processes and --process_id.
"""

from absl import flags
from ml_collections import config_flags

from jowa_jax.train.run import Run
from launch import common, distributed

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'Training config, such as configs/jowa.py:40m.'
)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Where the run is kept.')
_ACCEPT = flags.DEFINE_bool(
  'accept_changes', False, 'Go on with another config or other data.'
)
_PROGRESS = flags.DEFINE_bool('progress', True, 'Show a progress bar.')


def main() -> None:
  with distributed.processes():
    run = Run(_CONFIG.value.to_dict(), _WORKDIR.value)
    run.train(_PROGRESS.value, accept_changes=_ACCEPT.value)


if __name__ == '__main__':
  flags.mark_flags_as_required(['config', 'workdir'])
  common.run(main)
