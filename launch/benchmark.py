"""Measures speed and memory, side by side in one run.

python -m launch.benchmark --suite=data [--output=benchmark.json]
"""

import json

from absl import flags

from jowa_jax import files
from launch import common

_SUITE = flags.DEFINE_enum('suite', None, ['data'], 'What is measured.')
_OUTPUT = flags.DEFINE_string('output', None, 'A JSON file for the figures.')
_STEPS = flags.DEFINE_integer('steps', 20_000, 'Played of each game (data).')
_LOG_ROWS = flags.DEFINE_integer(
  'log_rows', 20_000, 'Of the raw log; real ones have 1,000,000 (data).'
)


def main() -> None:
  from jowa_jax.bench import data

  results = data.run(_STEPS.value, _LOG_ROWS.value)
  print(data.describe(results))
  if _OUTPUT.value:
    files.write_text(_OUTPUT.value, json.dumps(results, indent=2))


if __name__ == '__main__':
  flags.mark_flag_as_required('suite')
  common.run(main)
