"""Plays Atari games and writes RLDS data sets, recordings, or both.

python -m launch.collect --output=data [--config=configs/collect.py:smoke]
  [--config.games=Pong,Zaxxon] [--config.steps_per_checkpoint=10000]
  [--record=play.npz]
python -m launch.collect --replay=play.npz [--output=data]
  [--config.games=Pong] [--config.replay.steps_per_checkpoint=10000]

A replay needs no policy: it writes what the recorded play would have written,
at emulator speed, and fails if a score or a last frame is another. Without
--output it only verifies.
"""

from absl import flags
from ml_collections import config_flags

from jowa_jax.collect.collect import collect_from_config, replay_from_config
from launch import common

_CONFIG = common.define_config('configs/collect.py', 'What is played, and how.')
_OUTPUT = common.define_path('output', None, 'Where the data sets go.')
_RECORD = common.define_path('record', None, 'The file to record play in.')
_REPLAY = flags.DEFINE_string(
  'replay',
  None,
  'Recordings to play again, separated by commas: files, or names of games '
  'that are shipped.',
)
_PROGRESS = flags.DEFINE_bool('progress', True, 'Show a progress bar.')


def main() -> None:
  _check_flags()
  if _REPLAY.value is not None:
    given = config_flags.get_override_values(flags.FLAGS['config'])
    stats = replay_from_config(
      _CONFIG.value,
      _REPLAY.value,
      _OUTPUT.value,
      given.get('games', ''),
      _PROGRESS.value,
    )
  else:
    stats = collect_from_config(
      _CONFIG.value, _OUTPUT.value, _PROGRESS.value, _RECORD.value
    )
  for split in stats:
    print(split)


def _check_flags() -> None:
  """Raises ValueError for flags that would be without effect."""
  if _REPLAY.value is None and not (_OUTPUT.value or _RECORD.value):
    raise ValueError('give --output, --record or both; or --replay')
  if _REPLAY.value is not None and _RECORD.value:
    raise ValueError('--record and --replay: what is replayed is recorded')
  for name in config_flags.get_override_values(flags.FLAGS['config']):
    of_replay = name.startswith('replay.')
    if of_replay and _REPLAY.value is None:
      raise ValueError(f'--config.{name} goes with --replay')
    both = name in ('games', 'num_processes')
    if _REPLAY.value is not None and not of_replay and not both:
      raise ValueError(
        f'--config.{name}: a replay is as it was recorded; choose with games '
        'and replay.*'
      )


if __name__ == '__main__':
  common.run(main)
