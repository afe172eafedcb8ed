"""From a study's plan to its page."""

import dataclasses
import pathlib

from jowa_jax.recipes.study.plan import Plan
from jowa_jax.report.study.page import write_study
from jowa_jax.report.study.results import Agent, Source
from jowa_jax.report.summary import REPS


def agents_of(plan: Plan) -> list[Agent]:
  """Who plays in a study; cells that share an agent's name are its sources.

  Raises:
    ValueError: they are of different methods, sizes, qualities or ablations.
  """
  found: dict[str, Agent] = {}
  for cell in plan.cells.values():
    config = cell.config
    for name, planner in config.agents.items():
      run = cell.root / 'run' if config.method else None
      source = Source(cell.name, cell.results(name), run)
      kind = {
        'method': config.method,
        'size': config.size,
        'planner': planner,
        'quality': config.quality,
        'ablation': config.ablation,
      }
      agent = found.setdefault(name, Agent(name, **kind))
      for field, value in kind.items():
        if getattr(agent, field) != value:
          raise ValueError(
            f'cells.{cell.name}.agents: {name} has {field}={value!r}, in '
            f'another cell {getattr(agent, field)!r}: give it another name'
          )
      sources = (*agent.sources, source)
      found[name] = dataclasses.replace(agent, sources=sources)
  return list(found.values())


def write(plan: Plan, reps: int = REPS) -> pathlib.Path | None:
  """Writes the page of what is there, see `write_study`."""
  study = plan.study
  return write_study(
    study.title, study.text, agents_of(plan), plan.output / 'report', reps
  )
