"""Puts everything about a run on one self-contained page."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import markupsafe
import numpy as np

from jowa_jax import files, ownership
from jowa_jax.report import (
  labels,
  latent_section,
  numerals,
  opening,
  pictures,
  plots,
)
from jowa_jax.report import scores as scores_lib
from jowa_jax.report.chapters import RANDOM, chapters
from jowa_jax.report.inputs import (
  Inputs,
  TrainingCurves,
  ordered,
  read_inputs,
)
from jowa_jax.report.score_sections import (
  LEARNING,
  agent_colors,
  learning_figure,
  matrix,
  over_games,
  players,
  score_section,
)
from jowa_jax.report.summary import REPS, Summary, summarize, to_json
from jowa_jax.report.tables import write_tables

_HELD_OUT = 'held_out/'


def write_report(
  workdir: str | os.PathLike | None = None,
  output: str | os.PathLike | None = None,
  *,
  results: Sequence[str | os.PathLike] = (),
  runs: Sequence[str | os.PathLike] = (),
  pictures: str | os.PathLike | None = None,
  reps: int = REPS,
) -> pathlib.Path:
  """Writes a page about runs and what they scored, and its tables.

  Args:
    workdir: what a quickstart left, see `inputs.read_inputs`. Whatever is
      absent is left out, and the page says so.
    output: the page, `<workdir>/report/index.html` by default. Its tables are
      written beside it, as CSV, Markdown and LaTeX, its bars as `bars.svg`, and
      the scores of checkpoints, of two at least, as `learning.svg`.
    results: more files of rollouts, or folders of them.
    runs: more directories of training runs.
    pictures: what `launch.judge` wrote, and videos, see `inputs.read_inputs`.
    reps: bootstrap resamples.

  Returns:
    The page's path. Where there are rollouts, `scores.json` is written too:
    into the work directory, or else beside the page.

  Raises:
    FileNotFoundError: a directory or file does not exist.
    ValueError: one of the files is broken, or there is no place for the page;
      nothing is written.
  """
  if workdir is None and output is None:
    raise ValueError('--output is needed without a --workdir')
  if workdir is None and not (results or runs or pictures):
    raise ValueError(
      'Nothing to report: give --workdir, --results, --runs or --pictures'
    )
  page = pathlib.Path(output or pathlib.Path(workdir) / 'report' / 'index.html')
  inputs = read_inputs(workdir, results, runs, pictures)
  table = scores_lib.score_table(inputs.rollouts)
  summary = summarize(table, inputs.rollouts, reps)
  names, colors = _names(inputs), agent_colors(inputs.rollouts)
  first = opening.first_screen(inputs, table, names, colors, reps)
  text = _render(inputs, table, summary, first, names, colors)
  # Page and tables are of one command, whichever of two is the last.
  lock = page.with_name(f'.{page.name}.owner')
  with ownership.owned(lock, wait=True):
    if table:
      figures = json.dumps(to_json(table, summary), indent=2)
      folder = page.parent if workdir is None else pathlib.Path(workdir)
      files.write_text(folder / 'scores.json', figures + '\n')
      write_tables(page.parent, table, summary)
    opening.write_figure(first['figure'], page.parent)
    opening.write_figure(
      learning_figure(summary, colors, names), page.parent, LEARNING
    )
    files.write_text(page, text)
  return page


def _render(
  inputs: Inputs,
  table: scores_lib.ScoreTable,
  summary: Summary,
  first: Mapping[str, Any],
  names: Mapping[str, labels.Label],
  colors: Mapping[str, int],
) -> str:
  """The page as HTML text, with what `opening.first_screen` put first."""
  games = sorted(
    {*table, *inputs.quality, *inputs.latents, *inputs.reconstructions}
    | {*inputs.dreams}
  )
  return template('page.html.jinja').render(
    title=_title(inputs, games),
    opening=first,
    subtitle=_subtitle(inputs, table),
    chapters=chapters(inputs.summary, table, names, colors),
    scores=[
      score_section(game, agents, colors, names)
      for game, agents in table.items()
    ],
    players=players(inputs.rollouts, names),
    matrix=matrix(table, colors, names),
    over_games=over_games(summary, colors, names),
    videos={
      game: opening.films(videos, names)
      for game, videos in inputs.videos.items()
    },
    open_loop={
      game: _open_loop(curves) for game, curves in inputs.open_loop.items()
    },
    quality=_quality_table(inputs.quality),
    latents=latent_section.section(inputs.latents),
    reconstructions={
      game: pictures.reconstruction_rows(arrays)
      for game, arrays in inputs.reconstructions.items()
    },
    dreams={
      g: pictures.dream_grid(arrays) for g, arrays in inputs.dreams.items()
    },
    training=[
      _training(m, curves, inputs.configs.get(m, {}))
      for m, curves in inputs.curves.items()
    ],
    timings=_timings(inputs.timings),
    configs={
      labels.METHODS.get(m, m): flatten(config)
      for m, config in inputs.configs.items()
    },
    versions=inputs.versions,
    missing=inputs.missing,
  )


def template(name: str) -> jinja2.Template:
  """One of the templates beside this file."""
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('jowa_jax.report', '.'),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  return environment.get_template(name)


def _title(inputs: Inputs, games: list[str]) -> str:
  """Says whose play is on the page, and of which games."""
  named = [config.get('method') for config in inputs.configs.values()]
  for records in inputs.rollouts.values():
    named += [record.setup.get('method') for record in records]
  methods = _enumerate(
    [
      labels.METHODS.get(method, method).partition(',')[0]
      for method in ordered({*named} - {None, RANDOM}, tuple(labels.METHODS))
    ],
    'methods',
  )
  if not games:
    return methods or 'Nothing to show'
  return f'{methods or "Play"} on {_enumerate(games, "games")}'


def _names(inputs: Inputs) -> dict[str, labels.Label]:
  """The words for the agents: a quickstart's own, or those known."""
  said = inputs.summary.get('names', {})
  return {
    agent: labels.Label(**said[agent])
    if agent in said
    else labels.agent_label(agent, records)
    for agent, records in inputs.rollouts.items()
  }


def _timings(timings: Mapping[str, float]) -> list[dict[str, Any]]:
  """The phases, each with its share of the longest in per cent."""
  longest = max(timings.values(), default=0)
  return [
    {
      'phase': labels.plain(phase),
      'time': numerals.duration(value),
      'share': 100 * value / longest if longest else 0,
    }
    for phase, value in timings.items()
  ]


def _open_loop(curves: Mapping[str, Sequence[float | None]]):
  """Plots of what dreams keep of what follows, with their baselines dashed."""
  panels = []
  for title, y_label, names in labels.OPEN_LOOP:
    found = [
      (i, name, curves[name]) for i, name in enumerate(names) if name in curves
    ]
    series = []
    for i, name, values in found:
      points = [(h, v) for h, v in enumerate(values, 1) if v is not None]
      if points:
        line = plots.Line(
          labels.OPEN_LOOP_COLORS[i], *zip(*points, strict=True)
        )
        series.append((line._replace(dashed=i > 0), names[name]))
    if series:
      panels.append(
        {
          'title': title,
          'legend': [(line.color, line.dashed, name) for line, name in series],
          'svg': markupsafe.Markup(
            plots.lines(
              [line for line, _ in series],
              x_label='steps dreamed',
              y_label=y_label,
            )
          ),
        }
      )
  return panels


def _subtitle(inputs: Inputs, table: scores_lib.ScoreTable) -> str:
  """Says in one line how much was played and how long all took."""
  parts = []
  counts = {
    len(score.scores)
    for agents in table.values()
    for agent, score in agents.items()
    if agent != 'data'
  }
  if counts:
    low, high = min(counts), max(counts)
    number = f'{low}' if low == high else f'{low} to {high}'
    plural = '' if high == 1 else 's'
    parts.append(f'{number} episode{plural} per game and agent')
  if inputs.timings:
    parts.append(f'{numerals.duration(sum(inputs.timings.values()))} in all')
  return ' · '.join(parts)


def _quality_table(quality: Mapping[str, Mapping[str, float]]):
  """Rows of metrics, a column per game."""
  known = list(labels.QUALITY)
  names = ordered((n for t in quality.values() for n in t), tuple(known))
  return {
    'games': list(quality),
    'rows': [
      {
        'label': labels.label(labels.QUALITY, name),
        'values': [
          numerals.optional(numerals.significant, table.get(name))
          for table in quality.values()
        ],
      }
      for name in names
    ],
  }


def _training(
  method: str, curves: TrainingCurves, config: Mapping[str, Any]
) -> dict[str, Any]:
  """A method's plots, grouped by the prefix of the metric's name."""
  names = dict.fromkeys(name.removeprefix(_HELD_OUT) for name in curves.series)
  groups: dict[str, list[dict[str, Any]]] = {}
  for name in names:
    training = curves.series.get(name)
    held_out = curves.series.get(_HELD_OUT + name)
    groups.setdefault(name.rpartition('/')[0], []).append(
      {
        'label': labels.label(labels.METRICS, name),
        'last': ''
        if training is None
        else numerals.significant(training[1][-1]),
        'held_out': ''
        if held_out is None
        else numerals.significant(held_out[1][-1]),
        'svg': markupsafe.Markup(
          plots.curve(training, held_out, curves.stages)
        ),
      }
    )
  return {
    'method': labels.METHODS.get(method, method),
    'stages': [
      f'{stage} to step {numerals.number(end, 0)}'
      + (' (shaded)' if i % 2 else '')
      for i, (stage, _, end) in enumerate(curves.stages)
    ],
    'snapshots': _snapshots(curves, config.get('run', {})),
    'any_held_out': any(n.startswith(_HELD_OUT) for n in curves.series),
    'groups': [
      (labels.GROUPS.get(group) or labels.plain(group), groups[group])
      for group in ordered(groups, tuple(labels.GROUPS))
    ],
  }


def _snapshots(curves: TrainingCurves, run: Mapping[str, Any]) -> str:
  """Says which snapshot was the best by the run's metric, beside the last."""
  metric = run.get('best_metric')
  if metric not in curves.series:
    return ''
  steps, values = curves.series[metric]
  best = np.argmax(values if run['best_mode'] == 'max' else -values)
  found = [
    f'{name} {numerals.significant(values[i])} after step '
    f'{numerals.number(steps[i], 0)}'
    for name, i in (('best', best), ('last', -1))
  ]
  return f'{metric}: {", ".join(found)}.'


def flatten(config: Any, prefix: str = '') -> dict[str, str]:
  """{'model': {'width': 64}} -> {'model.width': '64'}."""
  if isinstance(config, Mapping):
    items = list(config.items())
  elif isinstance(config, list) and any(
    isinstance(value, Mapping | list) for value in config
  ):
    items = list(enumerate(config))
  elif isinstance(config, list):
    return {prefix: ', '.join(map(str, config))}
  else:
    return {prefix: str(config)}
  flat: dict[str, str] = {}
  for key, value in items:
    flat |= flatten(value, f'{prefix}.{key}' if prefix else str(key))
  return flat


def _enumerate(names: list[str], kind: str) -> str:
  if len(names) > 4:
    return f'{len(names)} {kind}'
  return ' and '.join(filter(None, [', '.join(names[:-1]), *names[-1:]]))
