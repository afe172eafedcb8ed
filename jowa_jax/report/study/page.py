"""The page of a study: what won, the tables, and where every number is from."""

import os
import pathlib
from collections.abc import Iterable
from typing import Any

import markupsafe

from jowa_jax import files
from jowa_jax.report import numerals, opening, plots
from jowa_jax.report.html import template
from jowa_jax.report.score_sections import agent_colors
from jowa_jax.report.scores import score_table
from jowa_jax.report.statistics import Estimate
from jowa_jax.report.study import tables
from jowa_jax.report.study.results import Agent, Results, read
from jowa_jax.report.summary import REPS

PAGE = 'index.html'


def write_study(
  title: str,
  text: str,
  agents: Iterable[Agent],
  folder: str | os.PathLike,
  reps: int = REPS,
) -> pathlib.Path | None:
  """Writes the page of a study, and its tables as CSV, Markdown and LaTeX.

  Args:
    title: of the page.
    text: what was compared, and how.
    agents: who played, and where their rollouts are.
    folder: gets `index.html`, its bars as `bars.svg`, and the tables.
    reps: bootstrap resamples that intervals are read from.

  Returns:
    The page; None where there are no results yet, and nothing is written.

  Raises:
    RecordError: a file of rollouts is broken, or files do not go together.
  """
  folder = pathlib.Path(folder)
  results = read(agents)
  if not results.rollouts:
    return None
  made = tables.study_tables(results, reps)
  found = _opening(results, reps)
  page = template('study/study.html.jinja').render(
    title=title,
    text=text,
    opening=found,
    scaling=_scaling(results, reps),
    tables=made,
    sources=_sources(results, folder),
    missing=results.missing,
  )
  tables.write(made, folder, PAGE)
  opening.write_figure(found['figure'], folder)
  files.write_text(folder / PAGE, page)
  return folder / PAGE


def _shown(results: Results) -> list[Agent]:
  """The agents that the page opens with: all that are not variants."""
  return [
    agent
    for agent in results.agents.values()
    if not (agent.quality or agent.ablation)
  ]


def _opening(results: Results, reps: int) -> dict[str, Any]:
  """A sentence, and bars of all agents over the games that all played."""
  table = score_table(results.rollouts)
  shown = [agent.name for agent in _shown(results)]
  # Who played some of the games alone is in the tables.
  counts = {
    name: sum(name in played for played in table.values()) for name in shown
  }
  most = max(counts.values(), default=0)
  shown = [name for name in shown if counts[name] == most]
  found = opening.compare(table, shown, list(table), reps)
  if not found:
    return {'sentence': '', 'chart': None, 'caption': '', 'figure': ''}
  titles = {name: agent.title for name, agent in results.agents.items()}
  colors = agent_colors(results.rollouts)
  bars = [
    opening.Bar(titles[name], colors[name], estimate, f'#agent-{name}')
    for name, estimate in found.estimates.items()
  ]
  return {
    'sentence': opening.sentence(found, table, titles),
    'chart': opening.chart(bars),
    'caption': opening.describe(found),
    'figure': opening.figure(bars),
  }


def _scaling(results: Results, reps: int) -> dict[str, Any] | None:
  """Curves over sizes, one for each way of playing of each method."""
  curves: dict[tuple[str, str], list[tuple[int, Estimate]]] = {}
  for agent in _shown(results):
    found = tables.scaling_point(results, agent, reps)
    if agent.method and found:
      curves.setdefault((agent.method, agent.planner), []).append(found)
  curves = {key: sorted(c) for key, c in curves.items() if len(c) > 1}
  if not curves:
    return None
  lines, legend = [], []
  for color, ((method, planner), points) in enumerate(curves.items()):
    sizes, estimates = zip(*points, strict=True)
    values = [one.value for one in estimates]
    lines.append(plots.Line(color, sizes, values))
    title = Agent('', method=method, planner=planner).title
    legend.append((color % plots.PALETTE, title))
  svg = plots.lines(
    lines,
    x_label='parameters',
    y_label='interquartile mean, human-normalised',
    log_x=True,
  )
  return {'svg': markupsafe.Markup(svg), 'legend': legend}


def _sources(results: Results, folder: pathlib.Path) -> list[dict[str, Any]]:
  """Runs and rollouts of every agent, as links from the page."""

  def link(path: pathlib.Path | None) -> str:
    if path is None or not path.exists():
      return ''
    return pathlib.Path(os.path.relpath(path, folder)).as_posix()

  return [
    {
      'name': agent.name,
      'title': agent.title,
      'speed': numerals.optional(
        numerals.significant, results.speeds.get(agent.name)
      ),
      'sources': [
        {
          'cell': source.cell,
          'run': link(source.run),
          'rollouts': link(source.rollouts),
          'log': link(source.rollouts.parents[1] / 'log.txt'),
          'episodes': len(source.rollouts.read_text().splitlines()),
        }
        for source in agent.sources
      ],
    }
    for agent in results.agents.values()
  ]
