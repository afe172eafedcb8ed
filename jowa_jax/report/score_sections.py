"""What the page shows of scores: by game, over games, against each other."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import markupsafe

from jowa_jax.eval.records import Rollout
from jowa_jax.report import labels, numerals, plots
from jowa_jax.report.inputs import AGENTS
from jowa_jax.report.scores import Score, ScoreTable
from jowa_jax.report.statistics import Estimate
from jowa_jax.report.summary import Summary

LEARNING = 'learning.svg'  # scores of checkpoints as a file, beside the page
Names = Mapping[str, labels.Label]  # by agent

_FIGURES = {
  'interquartile_mean': 'Interquartile mean',
  'median': 'Median',
  'mean': 'Mean',
  'optimality_gap': 'Optimality gap',
  'above_reference': 'Games above it',
}


def agent_colors(agents: Iterable[str]) -> dict[str, int]:
  """A colour of the palette by agent: known ones have their own."""
  agents = list(agents)
  known = {a: AGENTS.index(a) for a in agents if a in AGENTS}
  # Others take what is left, those of missing agents last.
  free = [i for i in range(len(AGENTS), plots.PALETTE)]
  free += [i for i in range(len(AGENTS)) if i not in known.values()]
  free = free or list(range(plots.PALETTE))
  others = [a for a in agents if a not in AGENTS]
  colors = known | {a: free[i % len(free)] for i, a in enumerate(others)}
  return {agent: colors[agent] for agent in agents}


def score_section(
  game: str,
  agents: Mapping[str, Score],
  colors: Mapping[str, int],
  names: Names,
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
        'color': colors[agent],
        'label': names[agent],
        'episodes': len(score.scores),
        'planned': score.planned if score.planned > len(score.scores) else 0,
        'seeds': len(score.runs) if score.noise == 'seeds' else 0,
        'sort': (score.mean, score.decisions, score.human_normalized),
        'cut_off': score.cut_off,
        'decisions': numerals.number(score.decisions, 0),
        'mean': numerals.number(score.mean, decimals),
        'error': numerals.optional(
          lambda x, digits=decimals: numerals.number(x, digits), error
        ),
        # The same episode again and again is one.
        'equal': len(score.scores) > 1 and score.equal,
        'human': numerals.optional(
          lambda x: numerals.number(x, 3), score.human_normalized
        ),
        'best': agent != 'data' and score.mean == best,
        # Golden-ratio steps spread equal scores, always in the same way.
        'dots': [
          (place(s), round(32 + 36 * (i * 0.618 % 1), 1))
          for i, s in enumerate(score.scores)
        ],
        'at': place(score.mean),
        'spread': None
        if error is None
        else (place(score.mean - error), place(score.mean + error)),
      }
    )
  return {
    'game': game,
    'rows': rows,
    'ticks': [(place(tick), plots.compact(tick)) for tick in ticks],
  }


def over_games(
  summary: Summary, colors: Mapping[str, int], names: Names
) -> dict[str, Any]:
  """The section on all games together."""
  return {
    'figures': list(_FIGURES.values()),
    'references': [
      {
        'title': title,
        'rows': [
          {
            'color': colors[agent],
            'label': names[agent],
            'games': len(one.games),
            'noise': one.noise if one.mean.interval else '',
            'cells': [
              _cell(getattr(one, name), 0 if name == 'above_reference' else 3)
              for name in _FIGURES
            ],
          }
          for agent, one in figures.items()
        ],
      }
      for title, figures in (
        ('Human-normalised', summary.human),
        ('DQN-normalised', summary.dqn),
      )
      if figures
    ],
    'noises': sorted(
      {one.noise for one in summary.human.values() if one.mean.interval}
    ),
    'comparisons': [
      {
        'x': names[x].title,
        'y': names[y].title,
        'cells': [
          _cell(found.probability),
          # All agents that are compared have reference scores of all games.
          _cell(found.interquartile_mean),
          _cell(found.mean),
        ],
        'games': len(found.games),
        'noise': 'seeds' if found.noise == 'seeds' else 'episodes',
      }
      for (x, y), found in summary.comparisons.items()
    ],
    'plots': list(_plots(summary, colors)),
    'legend': [
      {'color': colors[a], 'label': names[a].title} for a in summary.human
    ],
  }


def _cell(estimate: Estimate, decimals: int = 3) -> dict[str, Any]:
  interval = ''
  if estimate.interval is not None:
    low, high = (numerals.number(end, decimals) for end in estimate.interval)
    interval = f'{low} to {high}'
  return {
    'value': numerals.number(estimate.value, decimals),
    'interval': interval,
    'sort': estimate.value,
  }


def _plots(summary: Summary, colors: Mapping[str, int]):
  if summary.profiles:
    count = len(next(iter(summary.profiles.values())).games)
    yield {
      'title': 'Performance profiles',
      'note': f'of the {count} games that all played: the share of runs whose '
      'score is above; intervals hold at each score alone',
      'svg': markupsafe.Markup(
        plots.lines(
          [
            plots.Line(colors[a], p.taus, p.fractions, p.interval)
            for a, p in summary.profiles.items()
          ],
          x_label='human-normalised score',
          y_label='share of runs above',
          from_zero=True,
        )
      ),
    }
  if summary.learning:
    yield {
      'title': 'Learning',
      'note': 'mean over games of checkpoints that were evaluated',
      'svg': markupsafe.Markup(_learning(summary, colors, {})),
    }
  if summary.scaling:
    yield {
      'title': 'Scaling',
      'note': 'interquartile mean against the size of the model',
      'svg': markupsafe.Markup(
        plots.lines(
          [
            plots.Line(colors[agent], [size], [value])
            for agent, (size, value) in summary.scaling.items()
          ],
          x_label='parameters',
          y_label='human-normalised score',
          log_x=True,
        )
      ),
    }


def _learning(
  summary: Summary, colors: Mapping[str, int], legend: Mapping[str, str]
) -> str:
  return plots.lines(
    [
      plots.Line(
        colors[agent],
        *zip(*points, strict=True),
        label=legend.get(agent, ''),
      )
      for agent, points in summary.learning.items()
    ],
    x_label='training steps',
    y_label='human-normalised score',
  )


def learning_figure(
  summary: Summary, colors: Mapping[str, int], names: Names
) -> str | None:
  """Scores of checkpoints as an SVG file of their own; None without any."""
  if not summary.learning:
    return None
  legend = {agent: names[agent].title for agent in summary.learning}
  return plots.standalone(_learning(summary, colors, legend))


def matrix(
  table: ScoreTable, colors: Mapping[str, int], names: Names
) -> dict[str, Any]:
  """All mean scores on one table, games by agents."""
  agents = [a for a in colors if any(a in played for played in table.values())]
  return {
    'agents': [names[agent] for agent in agents],
    'rows': [
      {
        'game': game,
        'cells': [
          {'value': numerals.DASH, 'sort': ''}
          if agent not in played
          else {
            'value': numerals.number(played[agent].mean, 1),
            'sort': played[agent].mean,
          }
          for agent in agents
        ],
      }
      for game, played in table.items()
    ],
  }


def players(
  rollouts: Mapping[str, Sequence[Rollout]], names: Names
) -> list[dict[str, Any]]:
  """Who played by which rules, one row for each way of playing."""
  rows = {}
  for agent, records in rollouts.items():
    for setup in (r.setup for r in records if 'protocol' in r.setup):
      rules = setup['protocol']
      options = setup.get('options', {})
      row = {
        'agent': names[agent].title,
        'method': setup.get('method', numerals.DASH),
        'options': ', '.join(f'{k} {v}' for k, v in sorted(options.items())),
        'step': setup.get('checkpoint_step'),
        'weights': setup.get('weights', ''),
        'seed': setup.get('seed'),
        'rules': f'epsilon {rules["epsilon"]:g}, sticky actions '
        f'{rules["sticky_actions"]:g}, {rules["max_frames"]:,} frames, skip '
        f'{rules["frame_skip"]}, no-ops {rules["noop_max"]}'
        + (', FIRE after a reset' if rules['use_fire_reset'] else ''),
      }
      games = rows.setdefault(tuple(row.values()), (row, {}))[1]
      games.update({r.game: None for r in records if r.setup is setup})
  return [{**row, 'games': list(games)} for row, games in rows.values()]
