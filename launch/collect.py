"""Plays Atari games and writes RLDS data sets.

python -m launch.collect --output=data [--config=configs/collect.py:smoke]
  [--config.games=Pong,Zaxxon] [--config.steps_per_checkpoint=10000]
"""

from absl import flags
from ml_collections import config_flags

from jowa_jax.collect.collect import collect_from_config
from launch import common

_CONFIG = config_flags.DEFINE_config_file('config', 'configs/collect.py')
_OUTPUT = flags.DEFINE_string('output', None, 'Where the data sets go.')
_PROGRESS = flags.DEFINE_bool('progress', True, 'Show a progress bar.')


def main() -> None:
  for split in collect_from_config(
    _CONFIG.value, _OUTPUT.value, _PROGRESS.value
  ):
    print(split)


if __name__ == '__main__':
  flags.mark_flag_as_required('output')
  common.run(main)
