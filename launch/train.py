"""Trains a method: stages, checkpoints and logs in one directory.

python -m launch.train --config=configs/jowa.py:150m --workdir=runs/jowa \
  --config.data.directory=data [--config.run.batch_size=256 ...]

Running the same command again continues from the latest checkpoint.
"""

from absl import flags
from ml_collections import config_flags

from jowa_jax.train.run import Run
from launch import common

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'Training config, such as configs/jowa.py:40m.'
)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Where the run is kept.')
_PROGRESS = flags.DEFINE_bool('progress', True, 'Show a progress bar.')


def main() -> None:
  Run(_CONFIG.value.to_dict(), _WORKDIR.value).train(_PROGRESS.value)


if __name__ == '__main__':
  flags.mark_flags_as_required(['config', 'workdir'])
  common.run(main)
