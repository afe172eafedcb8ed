"""Writes play that was collected or prepared in a format of others.

python -m launch.export_data --format=minari --data=data/pong --games=Pong \
  --output=minari
MINARI_DATASETS_PATH=minari minari list local

Every run of a game is a data set of Minari, in episodes; see
jowa_jax/data/README.md. Running the same command again goes on.
"""

from absl import flags

from jowa_jax import games as games_lib
from jowa_jax.data.prepare import export
from jowa_jax.data.store import stored
from launch import common

_FORMAT = flags.DEFINE_enum(
  'format', None, export.FORMATS, "minari: Farama's standard of offline data."
)
_DATA = common.define_path('data', None, 'Of launch.prepare_data or collect.')
_OUTPUT = common.define_path(
  'output', None, 'Root of data sets, as MINARI_DATASETS_PATH names it.'
)
_GAMES = flags.DEFINE_string('games', None, 'Games, or a list; default all.')
_NAMESPACE = flags.DEFINE_string(
  'namespace', 'jowa', 'What ids begin with: jowa/pong/run_1-v0.'
)
_STORAGE = flags.DEFINE_enum(
  'storage', export.STORAGES[0], export.STORAGES, 'The kind of files.'
)
_PROGRESS = flags.DEFINE_bool('progress', True, 'Show a progress bar.')


def main() -> None:
  names = _GAMES.value or ','.join(sorted(stored.find_runs(_DATA.value)))
  if not names:
    raise ValueError(f'--data={_DATA.value} has no data sets of any game')
  written = export.export_minari(
    _DATA.value,
    _OUTPUT.value,
    games_lib.parse_games(names),
    _NAMESPACE.value,
    _STORAGE.value,
    _PROGRESS.value,
  )
  print('\n'.join(written))


if __name__ == '__main__':
  flags.mark_flags_as_required(['format', 'data', 'output'])
  common.run(main)
