"""What a study costs, before anything starts."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from jowa_jax.methods.factory import make_method
from jowa_jax.recipes.study.plan import Cell, Plan, Step
from jowa_jax.train.settings import parse_stages
from jowa_jax.train.state import stage_flops

# Steps of a batch that a measured one may differ from in its operations, of 1.
_ALIKE = 1e-3


class Costs:
  """Expected minutes of commands on one device.

  Those that a config gives count; else what training computes, at the rate of
  the study, or at that of a measured step if there is one.
  """

  def __init__(self, plan: Plan, measured: Sequence[Mapping[str, Any]] = ()):
    """Reads nothing from disk.

    Args:
      plan: of the study.
      measured: records of `bench.train`, see `launch.benchmark`.
    """
    self._flops, self._measured = plan.study.flops, measured
    self._known: dict[str, float] = {}

  def minutes(self, step: Step) -> float:
    """Of one command."""
    if step.minutes or not step.config or 'stages' not in step.config:
      return step.minutes
    parts = {k: v for k, v in step.config.items() if k not in ('data', 'mesh')}
    parts['run'] = step.config['run']['batch_size']
    parts['games'] = len(step.config['data']['games'])
    key = json.dumps(parts, sort_keys=True)
    if key not in self._known:
      self._known[key] = self._of_training(step.config)
    return self._known[key]

  def of_cell(self, cell: Cell) -> float:
    """Minutes of all of a cell's commands."""
    return sum(map(self.minutes, cell.steps))

  def _of_training(self, config: Mapping[str, Any]) -> float:
    seconds = 0.0
    for stage, flops in operations(config).items():
      of_step = flops / self._flops
      for record in self._measured:
        alike = abs(record['model_flops'] - flops) < _ALIKE * flops
        if alike and record['stage'] == stage:
          of_step = record['step_seconds'] * record['devices']
      seconds += config['stages'][stage]['steps'] * of_step
    return seconds / 60


def operations(config: Mapping[str, Any]) -> dict[str, float]:
  """Floating-point operations of a step of every stage, by formula.

  What is dreamed for training is not counted.

  Args:
    config: of a training run.
  """
  method = make_method(config)
  batch_size = config['run']['batch_size']
  return {
    stage.name: batch_size * stage_flops(method, stage)
    for stage in parse_stages(config['stages'])
  }


def describe(plan: Plan, cells: Sequence[Cell], costs: Costs) -> str:
  """A table of what is left to do: how many cells of what, and hours."""
  rows: dict[tuple[str, ...], list[float]] = {}
  for cell in cells:
    if not cell.is_done():
      config = cell.config
      kind = 'fine-tuned' if config.quality else config.ablation
      row = (config.method or cell.name, config.size, kind)
      rows.setdefault(row, []).append(costs.of_cell(cell) / 60)
  lines = [f'{"":40} {"cells":>6} {"hours each":>11} {"hours":>9}']
  for row, hours in rows.items():
    name = ' '.join(filter(None, row))
    each = sum(hours) / len(hours)
    lines.append(f'{name:40} {len(hours):6} {each:11,.2f} {sum(hours):9,.1f}')
  every = [hour for hours in rows.values() for hour in hours]
  lines.append(f'{"in all":40} {len(every):6} {"":11} {sum(every):9,.1f}')
  return '\n'.join(
    [f'What is left to do, in hours of {plan.study.device}:', *lines]
  )
