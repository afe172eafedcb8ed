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
_WIDTH = flags.DEFINE_integer('width', None, 'plan: beams kept; else several.')
_HORIZON = flags.DEFINE_integer(
  'horizon', None, 'plan: steps dreamed ahead; else several.'
)
_PASSES = flags.DEFINE_integer(
  'passes', 3, 'plan: of all tokens, for frames dreamed with random weights.'
)
_SCHEDULE = flags.DEFINE_list(
  'schedule',
  None,
  'plan: instead of --passes, what share of the tokens each of them runs; '
  '--checkpoint measures it.',
)
_CHECKPOINT = flags.DEFINE_string('checkpoint', None, 'plan: of a JOWA run.')
_GAMES = flags.DEFINE_string('games', None, 'plan: those of the checkpoint.')
_DECISIONS = flags.DEFINE_integer('decisions', 500, 'plan: of every game.')


def _data() -> dict[str, dict]:
  from jowa_jax.bench import data

  seconds = 5.0 if _SECONDS.value is None else _SECONDS.value
  results = data.run(_STEPS.value, _LOG_ROWS.value, seconds=seconds)
  print(data.describe(results))
  return results


def _plan() -> list[dict]:
  from jowa_jax import games
  from jowa_jax.bench import passes, plan

  if bool(_CHECKPOINT.value) != bool(_GAMES.value):
    raise ValueError('--checkpoint goes with --games')
  if not all(count.isdigit() for count in _ENVIRONMENTS.value):
    raise ValueError(f'--environments={_ENVIRONMENTS.value} are not numbers')
  schedule = [1.0] * _PASSES.value
  if _SCHEDULE.value is not None:
    schedule = [float(share) for share in _SCHEDULE.value]
  width = 2 if _WIDTH.value is None else _WIDTH.value
  horizon = 2 if _HORIZON.value is None else _HORIZON.value
  default = _WIDTH.value is None and _HORIZON.value is None
  results = plan.run(
    _SIZE.value,
    [int(count) for count in _ENVIRONMENTS.value],
    plan.SETTINGS if default else [(width, horizon)],
    schedule,
    3.0 if _SECONDS.value is None else _SECONDS.value,
  )
  print(plan.describe(results))
  if _CHECKPOINT.value:
    trained = passes.run(
      _CHECKPOINT.value,
      games.parse_games(_GAMES.value),
      _DECISIONS.value,
      width=width,
      horizon=horizon,
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
