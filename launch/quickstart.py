"""The shipped agent plays Atari and learns a new game, in minutes; and a page.

python -m launch.quickstart --workdir=runs/quickstart
python -m launch.quickstart --config=configs/quickstart.py:scratch \
  --workdir=runs/scratch

The second trains everything from nothing. Running the same command again
continues where it was interrupted.
"""

from absl import flags

from launch import common

_CONFIG = common.define_config('configs/quickstart.py', 'What is done.')
_WORKDIR = common.define_path('workdir', None, 'Where everything is kept.')
_PROGRESS = flags.DEFINE_bool('progress', True, 'Show progress bars.')


def main() -> None:
  # Imported late: it brings in everything, and flag errors come faster.
  with common.importing():
    from jowa_jax import devices
    from jowa_jax.recipes.quickstart import quickstart

  devices.divide_cpu()
  page = quickstart(_CONFIG.value.to_dict(), _WORKDIR.value, _PROGRESS.value)
  print(f'\nThe report is in {page}')


if __name__ == '__main__':
  flags.mark_flag_as_required('workdir')
  common.run(main)
