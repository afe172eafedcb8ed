"""Plays Atari games and writes RLDS data sets.

python -m launch.collect --output=data [--config=configs/collect.py:smoke]
  [--config.games=Pong,Zaxxon] [--config.steps_per_checkpoint=10000]
"""

from absl import app, flags
from ml_collections import config_flags

from jowa_jax import configuration
from jowa_jax.collect import policies
from jowa_jax.collect.collect import collect

_CONFIG = config_flags.DEFINE_config_file('config', 'configs/collect.py')
_OUTPUT = flags.DEFINE_string('output', None, 'Where the data sets go.')
_PROGRESS = flags.DEFINE_bool('progress', True, 'Whether to show a bar.')


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'Unexpected arguments: {argv[1:]}')
  config = _CONFIG.value
  try:
    stats = collect(
      _OUTPUT.value,
      config.games,
      config.epsilons,
      config.steps_per_checkpoint,
      config.seed,
      config.num_processes or None,
      _PROGRESS.value,
      run=config.run,
      sticky=config.sticky,
      search=configuration.build(policies.Search, config.search, 'search'),
    )
  except ValueError as error:
    raise SystemExit(f'Error: {error}') from error
  for split in stats:
    print(split)


if __name__ == '__main__':
  flags.mark_flag_as_required('output')
  app.run(main)
