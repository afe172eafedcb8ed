"""Puts everything about a run on one self-contained page."""

import base64
import io
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
import markupsafe
import numpy as np
from PIL import Image

from jowa_jax import files
from jowa_jax.report import labels, plots
from jowa_jax.report import scores as scores_lib
from jowa_jax.report.inputs import (
  AGENTS,
  Curves,
  Dreams,
  Inputs,
  Reconstructions,
  ordered,
  read_inputs,
)

_MAX_COLUMNS = 8  # frames beside each other
_MAX_DREAMS = 3  # sequences of a game
_HELD_OUT = 'held_out/'
_DASH = '–'


def write_report(
  workdir: str | os.PathLike, output: str | os.PathLike | None = None
) -> pathlib.Path:
  """Writes a run's page and its scores.

  Args:
    workdir: what the run left, see `inputs.read_inputs`. Whatever is absent
      is left out, and the page says so.
    output: the page, `<workdir>/report/index.html` by default.

  Returns:
    The page's path. Where there are rollouts, `<workdir>/scores.json` is
    written too.

  Raises:
    FileNotFoundError: the work directory does not exist.
    ValueError: one of its files is broken; nothing is written.
  """
  workdir = pathlib.Path(workdir)
  page = pathlib.Path(output or workdir / 'report' / 'index.html')
  inputs = read_inputs(workdir)
  table = scores_lib.score_table(inputs.rollouts)
  text = render(inputs, table)
  if table:
    figures = json.dumps(scores_lib.to_json(table), indent=2)
    files.write_text(workdir / 'scores.json', figures + '\n')
  files.write_text(page, text)
  return page


def render(inputs: Inputs, table: scores_lib.ScoreTable) -> str:
  """Returns the page as HTML text."""
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('jowa_jax.report', '.'),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  games = sorted(
    {*table, *inputs.quality, *inputs.reconstructions, *inputs.dreams}
  )
  longest = max(inputs.timings.values(), default=0)
  return environment.get_template('page.html.jinja').render(
    title='JOWA on ' + _enumerate(games) if games else 'A JOWA run',
    subtitle=_subtitle(inputs, table),
    scores=[_score_section(game, agents) for game, agents in table.items()],
    aggregates=_aggregate_rows(table),
    quality=_quality_table(inputs.quality),
    reconstructions={
      game: _reconstruction_rows(arrays)
      for game, arrays in inputs.reconstructions.items()
    },
    dreams={g: _dream_grid(arrays) for g, arrays in inputs.dreams.items()},
    training=[_training(m, curves) for m, curves in inputs.curves.items()],
    timings=[
      {
        'phase': labels.plain(phase),
        'time': duration(value),
        'share': 100 * value / longest if longest else 0,
      }
      for phase, value in inputs.timings.items()
    ],
    configs={
      labels.METHODS.get(m, m): flatten(config)
      for m, config in inputs.configs.items()
    },
    versions=inputs.versions,
    missing=inputs.missing,
  )


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
    parts.append(f'{duration(sum(inputs.timings.values()))} in all')
  return ' · '.join(parts)


def _score_section(
  game: str, agents: Mapping[str, scores_lib.Score]
) -> dict[str, Any]:
  """One game's table, with a strip of dots for every agent's episodes."""
  values = [s for score in agents.values() for s in score.scores]
  ticks = plots.axis_ticks(min(0.0, *values), max(values))
  low, high = ticks[0], ticks[-1]

  def place(value: float) -> float:
    return round(100 * (value - low) / (high - low), 2)

  best = max(
    (score.mean for agent, score in agents.items() if agent != 'data'),
    default=None,
  )
  rows = []
  for agent, score in agents.items():
    error = score.standard_error
    decimals = 0 if abs(score.mean) >= 1000 else 1
    rows.append(
      {
        'agent': agent,
        'label': labels.label(labels.AGENTS, agent),
        'episodes': len(score.scores),
        'cut_off': score.cut_off,
        'decisions': number(score.decisions, 0),
        'mean': number(score.mean, decimals),
        'error': _DASH if error is None else number(error, decimals),
        'human': _optional(lambda x: number(x, 3), score.human_normalized),
        'best': agent != 'data' and score.mean == best,
        # Golden-ratio steps spread equal scores, always in the same way.
        'dots': [
          (place(s), round(32 + 36 * (i * 0.618 % 1), 1))
          for i, s in enumerate(score.scores)
        ],
        'at': place(score.mean),
        'from': place(score.mean - (error or 0)),
        'to': place(score.mean + (error or 0)),
      }
    )
  return {
    'game': game,
    'rows': rows,
    'ticks': [(place(tick), plots.compact(tick)) for tick in ticks],
  }


def _aggregate_rows(table: scores_lib.ScoreTable) -> list[dict[str, Any]]:
  figures = scores_lib.aggregates(table)
  return [
    {
      'agent': agent,
      'label': labels.label(labels.AGENTS, agent),
      'games': figures[agent]['games'],
      'mean': number(figures[agent]['mean'], 3),
      'median': number(figures[agent]['median'], 3),
      'iqm': number(figures[agent]['interquartile_mean'], 3),
      'above': figures[agent]['above_human'],
    }
    for agent in ordered(figures, AGENTS)
  ]


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
          _optional(significant, table.get(name)) for table in quality.values()
        ],
      }
      for name in names
    ],
  }


def _reconstruction_rows(arrays: Reconstructions):
  """(title, frames) rows: what is there, what moves, what is kept and lost."""
  chosen = _spread(len(arrays.frames))
  frames = arrays.frames[chosen]
  reconstructions = arrays.reconstructions[chosen]
  rows = [('Game', frames), ('Reconstruction', reconstructions)]
  if arrays.median is not None:
    rows.append(('What moves', _difference(frames, arrays.median)))
  rows.append(('What is lost', _difference(frames, reconstructions)))
  return [(title, [data_uri(f) for f in row]) for title, row in rows]


def _difference(frames: np.ndarray, others: np.ndarray) -> np.ndarray:
  """Absolute differences at twice their brightness, uint8."""
  difference = np.abs(frames.astype(int) - others)
  return np.minimum(2 * difference, 255).astype(np.uint8)


def _dream_grid(arrays: Dreams) -> dict[str, Any]:
  steps = _spread(arrays.real.shape[1])
  return {
    'steps': ['last real frame' if s == 0 else f'+{s}' for s in steps],
    'sequences': [
      [
        ('Real', [data_uri(frame) for frame in real[steps]]),
        ('Dreamed', [data_uri(frame) for frame in dreamed[steps]]),
      ]
      for real, dreamed in zip(
        arrays.real[:_MAX_DREAMS], arrays.dreamed[:_MAX_DREAMS], strict=True
      )
    ],
  }


def _spread(length: int) -> list[int]:
  """At most `_MAX_COLUMNS` evenly spread indices, both ends included."""
  count = min(length, _MAX_COLUMNS)
  return np.linspace(0, length - 1, count).round().astype(int).tolist()


def _training(method: str, curves: Curves) -> dict[str, Any]:
  """A method's plots, grouped by the prefix of the metric's name."""
  names = dict.fromkeys(name.removeprefix(_HELD_OUT) for name in curves.series)
  groups: dict[str, list[dict[str, Any]]] = {}
  for name in names:
    training = curves.series.get(name)
    held_out = curves.series.get(_HELD_OUT + name)
    groups.setdefault(name.rpartition('/')[0], []).append(
      {
        'label': labels.label(labels.METRICS, name),
        'last': '' if training is None else significant(training[1][-1]),
        'held_out': '' if held_out is None else significant(held_out[1][-1]),
        'svg': markupsafe.Markup(
          plots.curve(training, held_out, curves.stages)
        ),
      }
    )
  return {
    'method': labels.METHODS.get(method, method),
    'stages': [
      f'{stage} to step {number(end, 0)}' + (' (shaded)' if i % 2 else '')
      for i, (stage, _, end) in enumerate(curves.stages)
    ],
    'any_held_out': any(n.startswith(_HELD_OUT) for n in curves.series),
    'groups': [
      (labels.GROUPS.get(group) or labels.plain(group), groups[group])
      for group in ordered(groups, tuple(labels.GROUPS))
    ],
  }


def data_uri(frame: np.ndarray) -> str:
  """Returns an [H, W] uint8 image as a PNG to be put into a page."""
  buffer = io.BytesIO()
  Image.fromarray(frame).save(buffer, format='PNG', optimize=True)
  encoded = base64.b64encode(buffer.getvalue()).decode()
  return f'data:image/png;base64,{encoded}'


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


def number(value: float, decimals: int) -> str:
  """Writes a number for people: grouped thousands, a true minus sign."""
  if abs(value) >= 1000:
    decimals = 0
  return f'{value:,.{decimals}f}'.replace('-', '−')


def significant(value: float, digits: int = 3) -> str:
  """Like `number`, with so many significant digits."""
  if value == 0 or abs(value) >= 1000:
    return number(value, 0)
  return f'{value:.{digits}g}'.replace('-', '−')


def _optional(text: Callable[[float], str], value: float | None) -> str:
  return _DASH if value is None else text(value)


def duration(seconds: float) -> str:
  """Writes seconds for people: 7.25 -> '7.2 s', 4000 -> '1 h 6 min'."""
  if seconds < 59.95:
    return f'{seconds:.1f} s'
  minutes, rest = divmod(round(seconds), 60)
  if minutes < 60:
    return f'{minutes} min {rest} s'
  return f'{minutes // 60} h {minutes % 60} min'


def _enumerate(names: list[str]) -> str:
  if len(names) > 4:
    return f'{len(names)} games'
  return ' and '.join(filter(None, [', '.join(names[:-1]), names[-1]]))
