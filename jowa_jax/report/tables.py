"""The tables of the page as files: CSV to compute with, the others to print."""

import pathlib

import pandas as pd

from jowa_jax import files
from jowa_jax import games as games_lib
from jowa_jax.report.scores import ScoreTable
from jowa_jax.report.statistics import Estimate
from jowa_jax.report.summary import Summary


def scores_frame(table: ScoreTable) -> pd.DataFrame:
  """One row per game and agent."""
  rows = []
  for game, agents in table.items():
    for agent, score in agents.items():
      normalized = {
        f'{reference}_normalized': games_lib.normalized_score(
          game, score.mean, reference
        )
        if games_lib.has_reference(game, reference)
        else None
        for reference in ('human', 'dqn')
      }
      rows.append(
        {
          'game': game,
          'agent': agent,
          'mean': score.mean,
          'standard_error': score.standard_error,
          'noise': score.noise,
          'runs': len(score.runs),
          'episodes': len(score.scores),
          'cut_off': score.cut_off,
          **normalized,
        }
      )
  return pd.DataFrame(rows)


def aggregates_frame(summary: Summary) -> pd.DataFrame:
  """One row per agent and reference, with the intervals' ends."""
  rows = []
  for figures in (summary.human, summary.dqn):
    for agent, one in figures.items():
      row = {
        'agent': agent,
        'reference': one.reference,
        'games': len(one.games),
        'runs': one.runs,
        'noise': one.noise,
      }
      for name, estimate in one.estimates().items():
        low, high = estimate.interval or (None, None)
        row |= {name: estimate.value, f'{name}_low': low, f'{name}_high': high}
      rows.append(row)
  return pd.DataFrame(rows)


def write_tables(
  folder: pathlib.Path, table: ScoreTable, summary: Summary
) -> list[pathlib.Path]:
  """Writes `scores` and `aggregates` as .csv, .md and .tex; returns them."""
  scores = _printed_scores(table)
  # Games differ in who played them.
  first = [agent for agent in summary.human if agent in scores]
  scores = scores[first + [agent for agent in scores if agent not in first]]
  aggregates = _printed_aggregates(summary)
  texts = {
    'scores.csv': scores_frame(table).to_csv(index=False),
    'scores.md': scores.to_markdown() + '\n',
    'scores.tex': latex(scores),
    'aggregates.csv': aggregates_frame(summary).to_csv(index=False),
    'aggregates.md': aggregates.to_markdown() + '\n',
    'aggregates.tex': latex(aggregates),
  }
  for name, text in texts.items():
    files.write_text(folder / name, text)
  return [folder / name for name in texts]


# What LaTeX has other names for.
_SIGNS = {
  '±': r'$\pm$',
  '↑': r'$\uparrow$',
  '↓': r'$\downarrow$',
  '†': r'$\dagger$',
  '−': '$-$',
  '–': '--',
}


def latex(frame: pd.DataFrame, index: bool = True) -> str:
  """A frame of texts as a table of LaTeX's booktabs.

  Args:
    frame: texts.
    index: whether its index is the first column.
  """
  escaped = frame.style.format(escape='latex')
  for axis in ('index', 'columns'):
    escaped = escaped.format_index(escape='latex', axis=axis)
  if not index:
    escaped = escaped.hide(axis='index')
  text = escaped.to_latex(hrules=True)
  for sign, name in _SIGNS.items():
    text = text.replace(sign, name)
  return text


def _printed_scores(table: ScoreTable) -> pd.DataFrame:
  """Games by agents, mean and standard error."""
  cells = {
    game: {
      agent: f'{score.mean:.1f}'
      + (
        '' if score.standard_error is None else f' ± {score.standard_error:.1f}'
      )
      for agent, score in agents.items()
    }
    for game, agents in table.items()
  }
  frame = pd.DataFrame.from_dict(cells, orient='index').fillna('')
  return frame.rename_axis('game')


def _printed_aggregates(summary: Summary) -> pd.DataFrame:
  """Agents by figures of human-normalised scores, with intervals."""
  cells = {
    agent: {name: text(value) for name, value in one.estimates().items()}
    for agent, one in summary.human.items()
  }
  frame = pd.DataFrame.from_dict(cells, orient='index')
  frame.columns = [name.replace('_', ' ') for name in frame.columns]
  return frame.rename_axis('agent')


def text(estimate: Estimate) -> str:
  """Writes '0.524 [0.498, 0.551]'."""
  if estimate.interval is None:
    return f'{estimate.value:.3f}'
  low, high = estimate.interval
  return f'{estimate.value:.3f} [{low:.3f}, {high:.3f}]'
