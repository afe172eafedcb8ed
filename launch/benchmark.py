"""Measures speed and memory, side by side in one run.

python -m launch.benchmark --suite=data [--json=data.json]
python -m launch.benchmark --suite=plan --size=150m [--json=plan.json]

`plan` times decisions with random weights; with --checkpoint it also plays
real games, for how many passes the trained model's dreams take.
"""

import json

from absl import flags

from jowa_jax import files
from launch import common

_SUITE = flags.DEFINE_enum('suite', None, ['data', 'plan'], 'What is measured.')
_JSON = flags.DEFINE_string('json', None, 'A JSON file for the figures.')
_SECONDS = flags.DEFINE_float('seconds', None, 'Of each rate, at least.')

_STEPS = flags.DEFINE_integer('steps', 20_000, 'data: played of each game.')
_LOG_ROWS = flags.DEFINE_integer(
  'log_rows', 20_000, 'data: of the raw log; real ones have 1,000,000.'
)

_SIZE = flags.DEFINE_enum(
  'size', '150m', ['40m', '70m', '150m', 'smoke'], 'plan: of the model.'
)
_ENVIRONMENTS = flags.DEFINE_list('environments', '1,16', 'plan: how many.')
_WIDTH = flags.DEFINE_integer('width', None, 'plan: beams; default 1, 2, 4.')
_HORIZON = flags.DEFINE_integer('horizon', 2, 'plan: steps, with --width.')
_PASSES = flags.DEFINE_integer(
  'passes', 3, 'plan: for a frame dreamed with random weights.'
)
_CHECKPOINT = flags.DEFINE_string('checkpoint', None, 'plan: of a JOWA run.')
_GAMES = flags.DEFINE_string('games', None, 'plan: those of the checkpoint.')
_DECISIONS = flags.DEFINE_integer('decisions', 500, 'plan: of every game.')


def _data() -> dict[str, dict]:
  from jowa_jax.bench import data

  results = data.run(
    _STEPS.value, _LOG_ROWS.value, seconds=_SECONDS.value or 5.0
  )
  print(data.describe(results))
  return results


def _plan() -> list[dict]:
  from jowa_jax import games
  from jowa_jax.bench import passes, plan

  if _PASSES.value < 1 or bool(_CHECKPOINT.value) != bool(_GAMES.value):
    raise ValueError(
      '--passes must be at least 1, and --checkpoint goes with --games'
    )
  one = [(_WIDTH.value, _HORIZON.value)] if _WIDTH.value else plan.SETTINGS
  environments = [int(count) for count in _ENVIRONMENTS.value]
  results = plan.run(
    _SIZE.value, environments, one, _PASSES.value, _SECONDS.value or 3.0
  )
  print(plan.describe(results))
  if _CHECKPOINT.value:
    trained = passes.run(
      _CHECKPOINT.value,
      games.parse_games(_GAMES.value),
      _DECISIONS.value,
      width=_WIDTH.value or 2,
      horizon=_HORIZON.value,
    )
    print(passes.describe(trained))
    results += trained
  return results


def main() -> None:
  results = {'data': _data, 'plan': _plan}[_SUITE.value]()
  if _JSON.value:
    files.write_text(_JSON.value, json.dumps(results, indent=2) + '\n')


if __name__ == '__main__':
  flags.mark_flag_as_required('suite')
  common.run(main)
