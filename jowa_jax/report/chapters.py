"""What the page of a quickstart begins with: who beat whom, in short."""

import math
from collections.abc import Mapping
from typing import Any

from jowa_jax.report import labels, numerals
from jowa_jax.report.scores import Score, ScoreTable

RANDOM, DATA = 'random', 'data'


def chapters(
  summary: Mapping[str, Any],
  table: ScoreTable,
  names: Mapping[str, labels.Label],
  colors: Mapping[str, int],
) -> list[dict[str, Any]]:
  """A table of mean scores and its conclusions for every chapter.

  Args:
    summary: what a quickstart says of itself: chapters with title, text,
      agents and games.
    table: scores by game and agent.
    names: titles and notes by agent.
    colors: place in the palette by agent.
  """
  found = []
  for chapter in summary.get('chapters', ()):
    games = [game for game in chapter['games'] if game in table]
    agents = [
      agent
      for agent in chapter['agents']
      if any(agent in table[game] for game in games)
    ]
    if agents:
      found.append(
        {
          'title': chapter['title'],
          'text': chapter['text'],
          'agents': [
            {'label': names[agent], 'color': colors[agent]} for agent in agents
          ],
          'rows': [_row(game, table[game], agents) for game in games],
          'conclusions': _conclusions(
            {game: table[game] for game in games}, agents, names
          ),
          'unclear': _unclear({game: table[game] for game in games}, agents),
        }
      )
  return found


def _row(
  game: str, scores: Mapping[str, Score], agents: list[str]
) -> dict[str, Any]:
  """The cells of a game, the best agent's marked."""
  best = max(
    (
      scores[agent].mean
      for agent in agents
      if agent in scores and agent != DATA
    ),
    default=None,
  )
  cells = []
  for agent in agents:
    score = scores.get(agent)
    if score is None:
      cells.append({'mean': numerals.DASH, 'error': '', 'best': False})
      continue
    error = score.standard_error
    cells.append(
      {
        'mean': numerals.number(score.mean, 1),
        'error': '' if error is None else '± ' + numerals.number(error, 1),
        'best': agent != DATA and score.mean == best,
      }
    )
  return {'game': game, 'cells': cells}


def _conclusions(
  table: ScoreTable, agents: list[str], names: Mapping[str, labels.Label]
) -> list[str]:
  """Says in how many games each agent's mean is above those it is held against.

  Those are random play and what was learned from.
  """
  lines = []
  for agent in agents:
    if agent in (RANDOM, DATA):
      continue
    parts = []
    for other in (RANDOM, DATA):
      games = [g for g, s in table.items() if agent in s and other in s]
      above = _above(table, agent, other)
      if games:
        parts.append(
          f'above {names[other].title.lower()} in {len(above)} of {len(games)}'
        )
    if parts:
      lines.append(f'{names[agent].title}: {", ".join(parts)}')
  return lines


def _above(table: ScoreTable, agent: str, other: str) -> list[str]:
  """The games of both in which an agent's mean is above another's."""
  both = [game for game, s in table.items() if agent in s and other in s]
  return [g for g in both if table[g][agent].mean > table[g][other].mean]


def _unclear(table: ScoreTable, agents: list[str]) -> int:
  """How many of the conclusions' differences may be chance."""
  return sum(
    not _is_clear(table[game][agent], table[game][other])
    for agent in agents
    if agent not in (RANDOM, DATA)
    for other in (RANDOM, DATA)
    for game in _above(table, agent, other)
  )


def _is_clear(first: Score, second: Score) -> bool:
  """Whether means differ by more than two of their standard errors.

  Without one of these, as of a single episode, nothing is clear.
  """
  errors = first.standard_error, second.standard_error
  if None in errors:
    return False
  return abs(first.mean - second.mean) > 2 * math.hypot(*errors)
