"""Says what planning gains, and what a perfect model would gain.

python -m launch.diagnose --checkpoint=runs/jowa --games=Assault,Carnival \
  --width=2 --horizon=2 --decisions=500 --output=runs/diagnosis/beam_2_2.json

Each game is played greedily, by the beam in the model and by the same beam in
the real emulator, whose states are cloned. What dreams led to is compared with
what really followed, and values with what was earned. A diagnosis that was
interrupted goes on with the same command. Games have no sticky actions here.
"""

import dataclasses
import pathlib

from absl import flags

import jowa_jax
from jowa_jax import games as games_lib
from jowa_jax.configuration import build
from jowa_jax.envs.ale import AleEnv
from jowa_jax.eval import diagnosis_run
from jowa_jax.eval.diagnosis import PLAYERS, DiagnosisConfig
from jowa_jax.plan.beam import PATH_SCORES
from launch import common

_DEFAULT = DiagnosisConfig()
_CHECKPOINT = common.define_path(
  'checkpoint', None, "Run directory, packed agent, or 'pretrained'."
)
_STEP = flags.DEFINE_integer('step', None, 'Which checkpoint; default latest.')
_GAMES = flags.DEFINE_string(
  'games', None, 'Games, or a list: all, pretrain, held_out or ablation.'
)
_OUTPUT = common.define_path('output', None, 'JSON file of the rows.')
_PLAYERS = flags.DEFINE_list(
  'players', list(PLAYERS), 'Players, of those named here.'
)
_RECORDS = common.define_path(
  'records', None, 'Folder; complete episodes are written for launch.report.'
)
_PROGRESS = flags.DEFINE_bool('progress', True, 'Show a progress bar.')
_OF_CONFIG = (
  flags.DEFINE_integer(
    'episodes',
    _DEFAULT.episodes,
    'Episodes of each game and player, played at once.',
  ),
  flags.DEFINE_integer(
    'decisions', _DEFAULT.decisions, 'Most decisions of an episode.'
  ),
  flags.DEFINE_integer('width', _DEFAULT.width, 'Beams kept.'),
  flags.DEFINE_integer('horizon', _DEFAULT.horizon, 'Steps looked ahead.'),
  flags.DEFINE_enum(
    'path_score',
    _DEFAULT.path_score,
    PATH_SCORES,
    'What leaves are compared by.',
  ),
  flags.DEFINE_integer('context_length', None, 'Blocks of context.'),
  flags.DEFINE_float('epsilon', _DEFAULT.epsilon, 'Chance of a random action.'),
  flags.DEFINE_integer(
    'compare_every',
    _DEFAULT.compare_every,
    'Decisions from one comparison of both searches to the next; 0 for none.',
  ),
  flags.DEFINE_bool(
    'count_ends', _DEFAULT.count_ends, 'Game over is worth 0 in the emulator.'
  ),
  flags.DEFINE_integer('seed', _DEFAULT.seed, 'Seed of random actions.'),
)


def main() -> None:
  games = games_lib.parse_games(_GAMES.value, variants=True)
  values = {flag.name: flag.value for flag in _OF_CONFIG}
  config = build(DiagnosisConfig, values, 'diagnosis')
  agent = jowa_jax.load(_CHECKPOINT.value, _STEP.value)
  rows = diagnosis_run.diagnose(
    agent,
    games,
    config,
    AleEnv,
    _OUTPUT.value,
    players=_PLAYERS.value,
    progress=_PROGRESS.value,
  )
  settings = ', '.join(
    f'{k}={v}' for k, v in dataclasses.asdict(config).items()
  )
  print(settings)
  for game in games:
    of_game = [row for row in rows if row['game'] == game]
    print(f'\n{diagnosis_run.table(of_game)}')
  if _RECORDS.value:
    name = pathlib.Path(_OUTPUT.value).stem
    for path in diagnosis_run.write_records(
      rows, _RECORDS.value, name, config, agent
    ):
      print(path)


if __name__ == '__main__':
  flags.mark_flags_as_required(['checkpoint', 'games', 'output'])
  common.run(main)
