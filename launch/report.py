"""Writes a page about what runs learned and what agents scored.

python -m launch.report --workdir=runs/quickstart
python -m launch.report --results=runs/eval,other/jowa.jsonl --runs=runs/jowa \
  --output=runs/report/index.html
"""

from absl import flags

from jowa_jax.report import write_report
from jowa_jax.report.summary import REPS
from launch import common

_WORKDIR = common.define_path('workdir', None, 'Of a quickstart.')
_RESULTS = common.define_paths(
  'results', 'Files that launch.evaluate wrote, shards, or their folders.'
)
_RUNS = common.define_paths('runs', 'Directories of training runs.')
_PICTURES = common.define_path(
  'pictures', None, 'Directory that launch.judge wrote, with videos/.'
)
_OUTPUT = common.define_path(
  'output', None, 'The page; <workdir>/report/index.html by default.'
)
_REPS = flags.DEFINE_integer(
  'reps', REPS, 'Bootstrap resamples that intervals are read from.'
)


def main() -> None:
  page = write_report(
    _WORKDIR.value,
    _OUTPUT.value,
    results=_RESULTS.value,
    runs=_RUNS.value,
    pictures=_PICTURES.value,
    reps=_REPS.value,
  )
  print(page)


if __name__ == '__main__':
  common.run(main)
