"""Draws play from a large data set and prepares it for training.

python -m launch.prepare_data --source=dqn_replay --input=gs://BUCKET/dqn \\
  --games=pretrain --runs=random:2 --fraction=0.1 --output=data/pretrain

Flags that are not listed here go to Apache Beam: without any, the processes of
this machine share the work; with, say, --runner=DataflowRunner and its flags
another engine does. Running the same command again continues. An output that is
there grows by other games, or by other runs of a game: download some, prepare
and delete them, then the next.
"""

import logging as python_logging

from absl import flags

from jowa_jax import games as games_lib
from jowa_jax.data.prepare import prepare
from jowa_jax.data.source import SOURCES, VideoOptions, parse_crop
from launch import common

_SOURCE = flags.DEFINE_enum(
  'source',
  None,
  SOURCES,
  "dqn_replay: raw logs; rlu: RL Unplugged's TFDS sets; ale: what "
  "launch.collect wrote; jowa_hdf5: the JOWA authors' processed data; minari: "
  "Minari's data sets of ALE; video: mp4, mkv, webm or folders of images, "
  'without actions.',
)
_INPUT = common.define_path('input', None, 'Directory; may be remote.')
_OUTPUT = common.define_path('output', None, 'Directory to make, or to add to.')
_GAMES = flags.DEFINE_string('games', None, 'Games, or a list: pretrain, ...')
_RUNS = flags.DEFINE_string('runs', 'all', 'all, 1,4 or random:2.')
_CHECKPOINTS = flags.DEFINE_string(
  'checkpoints',
  'all',
  'all, expert (last fifth), suboptimal (all), highly_suboptimal (first '
  'fifth), or numbers from 0 on, as in 0-9,49.',
)
_FRACTION = flags.DEFINE_float('fraction', None, "Of a game's transitions.")
_TRANSITIONS = flags.DEFINE_integer('transitions', None, 'Of a game, instead.')
_SEED = flags.DEFINE_integer('seed', 0, 'Of what is drawn.')
_CROP = flags.DEFINE_string(
  'crop', None, 'Pixels of videos to keep, as width:height:left:top.'
)
_DECISIONS_PER_SECOND = flags.DEFINE_float(
  'decisions_per_second', None, "Of videos; default a game's own pace, 15."
)
_FRAMES_PER_SECOND = flags.DEFINE_float(
  'frames_per_second',
  None,
  'Of videos, in place of the times in their files; of images, default one in '
  'a decision.',
)
_PROGRESS = flags.DEFINE_bool('progress', True, 'Show a progress bar.')


def _video_options() -> VideoOptions | None:
  """What is said of videos, None if nothing is asked of any."""
  given = {
    'crop': _CROP.value and parse_crop(_CROP.value),
    'decisions_per_second': _DECISIONS_PER_SECOND.value,
    'frames_per_second': _FRAMES_PER_SECOND.value,
  }
  given = {name: value for name, value in given.items() if value is not None}
  if given or _SOURCE.value == 'video':
    return VideoOptions(**given)
  return None


def main(beam_options: list[str]) -> None:
  # Its workers announce themselves at this level.
  python_logging.getLogger('apache_beam').setLevel(python_logging.ERROR)
  request = prepare.Request(
    source=_SOURCE.value,
    input=_INPUT.value,
    games=tuple(games_lib.parse_games(_GAMES.value)),
    runs=_RUNS.value,
    checkpoints=_CHECKPOINTS.value,
    fraction=_FRACTION.value,
    transitions=_TRANSITIONS.value,
    seed=_SEED.value,
    video=_video_options(),
  )
  manifest = prepare.prepare(
    request, _OUTPUT.value, beam_options, _PROGRESS.value
  )
  for name in request.games:
    game = manifest['games'][name]
    mean = game['mean_return']
    print(
      f'{name}: {game["steps"]} of {game["steps_there"]} transitions, '
      f'{game["episodes"]} episodes, mean return '
      f'{"unknown" if mean is None else format(mean, ".1f")}'
    )


if __name__ == '__main__':
  flags.mark_flags_as_required(['source', 'input', 'output', 'games'])
  common.run(main, pass_unknown_flags=True)
