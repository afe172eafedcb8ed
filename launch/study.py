"""Trains and scores a table of agents, one cell after another; and a page.

python -m launch.study --config=configs/study.py:laptop --output=runs/laptop
python -m launch.study --config=configs/study.py:paper --output=runs/paper \
  --shard=2/8
python -m launch.study --config=configs/study.py:paper --output=runs/paper \
  --print_commands --cells='jowa_150m*' >cells.sh

Running the same command again continues: cells that are done are skipped, runs
go on from their last checkpoints. What a cell printed is in its log.txt. Cells
that several machines made, merged into one `cells/` folder, give the same page.
"""

import json
import os
import pathlib

from absl import flags

from launch import common

_CONFIG = common.define_config(
  None, 'The table, such as configs/study.py:smoke.'
)
_OUTPUT = common.define_path('output', None, 'Directory of cells and the page.')
_SHARD = flags.DEFINE_string(
  'shard', '1/1', 'i/n: does the i-th of n parts, which n machines share.'
)
_CELLS = flags.DEFINE_list(
  'cells', [], "Does these cells alone, and what they need: 'jowa_*'."
)
_PRINT = flags.DEFINE_bool(
  'print_commands', False, 'Print what would be run, for a shell; run nothing.'
)
_RATES = common.define_paths(
  'rates',
  'Files that launch.benchmark --suite=train --json wrote, for the cost.',
)
_ONLY_REPORT = flags.DEFINE_bool(
  'only_report', False, 'Write the page of what is there; run nothing.'
)
_PROGRESS = flags.DEFINE_bool('progress', True, 'Show a progress bar.')


def main() -> None:
  # Imported late: flag errors come faster.
  from jowa_jax.eval.evaluation import Shard
  from jowa_jax.recipes.study import cost, plan, report, work

  study = plan.make_plan(
    _CONFIG.value.to_dict(),
    pathlib.Path(_OUTPUT.value).absolute(),
    common.read_config,
  )
  cells = study.share(*Shard.parse(_SHARD.value))
  if _CELLS.value:
    chosen = study.matching(_CELLS.value)
    cells = [cell for cell in cells if cell in chosen]
  plan.check_begun(study)
  if _PRINT.value:
    print(plan.commands(cells))
    return
  outcomes = []
  if not _ONLY_REPORT.value:
    measured = [json.loads(pathlib.Path(p).read_text()) for p in _RATES.value]
    costs = cost.Costs(study, [record for some in measured for record in some])
    print(cost.describe(study, cells, costs), flush=True)
    outcomes = work.work(
      cells, costs, _environment(study.output), progress=_PROGRESS.value
    )
    print(work.describe(outcomes))
  page = report.write(study)
  print(f'The report is in {page}' if page else 'There are no results yet.')
  failed = [one for one in outcomes if one.state == work.FAILED]
  if failed:
    raise ValueError(
      f'{len(failed)} of {len(outcomes)} cells failed; the same command tries '
      'them again'
    )


def _environment(output: pathlib.Path) -> dict[str, str]:
  """Where commands find this tree and what others compiled."""
  found = os.environ.get('PYTHONPATH')
  path = [str(common.ROOT), *([found] if found else [])]
  cache = {'JAX_COMPILATION_CACHE_DIR': str(output / 'compiled')}
  return {**cache, **os.environ, 'PYTHONPATH': os.pathsep.join(path)}


if __name__ == '__main__':
  flags.mark_flags_as_required(['config', 'output'])
  common.run(main)
