"""What a page begins with: a sentence, bars, the best film, a dream."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jowa_jax import files
from jowa_jax import games as games_lib
from jowa_jax.eval.findings import Dreams
from jowa_jax.report import labels, numerals, pictures, plots
from jowa_jax.report.chapters import DATA, RANDOM
from jowa_jax.report.inputs import Inputs
from jowa_jax.report.scores import Score, ScoreTable
from jowa_jax.report.statistics import Estimate
from jowa_jax.report.summary import aggregates_of

_MANY = 8  # games from which the middle half of them says more than the mean
_MOST_BARS = 12
FIGURE = 'bars.svg'  # the chart as a file, beside the page
_SURE = 1.96  # standard errors, two-sided at 95 %


class Bar(NamedTuple):
  """One bar of a chart."""

  title: str
  color: int  # of the palette
  estimate: Estimate
  link: str = ''  # what its title links to


class Comparison(NamedTuple):
  """Agents over the games that all of them played."""

  games: tuple[str, ...]
  figure: str  # of `statistics.Aggregates`
  estimates: dict[str, Estimate]  # human-normalised, by agent; best first
  noise: str  # what intervals are over, in words; empty without any

  @property
  def best(self) -> str:
    """The best agent that learned something."""
    return next(a for a in self.estimates if a not in (RANDOM, DATA))


def compare(
  table: ScoreTable, agents: Sequence[str], games: Sequence[str], reps: int
) -> Comparison | None:
  """Agents over games, by one figure; None where nothing was learned.

  Recorded play that lacks one of the games is left out.

  Args:
    table: scores by game and agent.
    agents: who are compared.
    games: that the comparison is of, as far as they have human scores.
    reps: bootstrap resamples.
  """
  games = [game for game in games if games_lib.has_reference(game)]
  learned = [agent for agent in agents if agent not in (RANDOM, DATA)]
  common = [g for g in games if all(a in table.get(g, {}) for a in learned)]
  shared = {game: table[game] for game in common}
  there = [a for a in agents if all(a in played for played in shared.values())]
  if not common or not learned:
    return None
  found = aggregates_of(shared, there, 'human', reps)
  figure = 'interquartile_mean' if len(common) >= _MANY else 'mean'
  estimates = {agent: getattr(one, figure) for agent, one in found.items()}
  order = sorted(estimates, key=lambda a: -estimates[a].value)
  noises = {one.noise for one in found.values() if one.mean.interval}
  words = {'rollouts': 'episodes', 'seeds': 'training seeds'}
  return Comparison(
    tuple(common),
    figure,
    {agent: estimates[agent] for agent in order[:_MOST_BARS]},
    ' or '.join(sorted(words[noise] for noise in noises)),
  )


def sentence(
  found: Comparison, table: ScoreTable, titles: Mapping[str, str]
) -> str:
  """The result in plain words, of the best agent."""
  best = found.best
  parts = []
  games = [g for g in found.games if RANDOM in table[g]]
  if games:
    beaten = sum(_beats(table[g][best], table[g][RANDOM]) for g in games)
    parts.append(f'beats random play in {_of(beaten, len(games))}')
  share = found.estimates[best].value
  if share > 0:
    average = 'on average'
    if found.figure != 'mean':
      average = f'in the middle half of {len(found.games)} games'
    where = f' {average}' if len(found.games) > 1 else ''
    parts.append(
      f'comes {_percent(share)} of the way from there to a human{where}'
      if games
      else f'comes {_percent(share)} of the way from random play to a '
      f'human{where}'
    )
  else:
    parts.append('is no nearer to a human than random play')
  if _trained_once_among_others(found, table):
    return (
      f'{titles[best]}, which was trained once where others were trained with '
      f'several seeds, {" and ".join(parts)}.'
    )
  comma = ',' if ',' in titles[best] else ''
  return f'{titles[best]}{comma} {" and ".join(parts)}.'


def _trained_once_among_others(found: Comparison, table: ScoreTable) -> bool:
  """Whether the best agent alone has no more than one training seed."""
  learned = [a for a in found.estimates if a not in (RANDOM, DATA)]
  seeded = {
    agent: any(table[g][agent].noise == 'seeds' for g in found.games)
    for agent in learned
  }
  return any(seeded.values()) and not seeded[found.best]


def _beats(ours: Score, theirs: Score) -> bool:
  """Whether a mean is above another by more than their noise, at 95 %."""
  errors = (score.standard_error or 0.0 for score in (ours, theirs))
  return ours.mean - theirs.mean > _SURE * math.hypot(*errors)


def _of(count: int, games: int) -> str:
  if games == 1:
    return 'the one game' if count else 'no game'
  if count == games:
    return 'both games' if games == 2 else f'all {games} games'
  return f'{count or "none"} of {games} games'


def _percent(share: float) -> str:
  return f'{numerals.number(100 * share, 0 if share >= 0.095 else 1)} %'


def describe(found: Comparison) -> str:
  """What the bars show."""
  what = (
    'Mean'
    if found.figure == 'mean'
    else 'Mean of the middle half (interquartile mean)'
  )
  games = ', '.join(found.games)
  if len(found.games) > 6:
    games = f'{len(found.games)} games'
  over = f'; lines are 95 % intervals over {found.noise}' if found.noise else ''
  return (
    f'{what} over {games}: 0 % is the published score of random play, 100 % '
    f'that of a human{over}.'
  )


def chart(bars: Sequence[Bar]) -> dict[str, Any]:
  """Bars as the page draws them, places in per cent of the axis."""
  ends = [0.0]
  for bar in bars:
    ends += [bar.estimate.value, *(bar.estimate.interval or ())]
  ticks = plots.axis_ticks(100 * min(ends), 100 * max(ends))
  low, high = 100 * min(ends), ticks[-1]
  ticks = [tick for tick in ticks if tick >= low]

  def place(value: float) -> float:
    return round(100 * (100 * value - low) / (high - low), 2)

  rows = []
  for bar in bars:
    zero, at = place(0.0), place(bar.estimate.value)
    interval = bar.estimate.interval
    rows.append(
      {
        'title': bar.title,
        'link': bar.link,
        'color': bar.color,
        'text': _percent(bar.estimate.value),
        'from': min(zero, at),
        'width': round(abs(at - zero), 2),
        'interval': None
        if interval is None
        else (
          place(interval[0]),
          round(place(interval[1]) - place(interval[0]), 2),
        ),
      }
    )
  return {
    'rows': rows,
    'zero': place(0.0),
    'ticks': [
      (place(tick / 100), f'{plots.compact(tick)} %') for tick in ticks
    ],
  }


def figure(bars: Sequence[Bar]) -> str:
  """Bars as an SVG file of their own, for a README or a paper."""

  def percents(interval: tuple[float, float] | None):
    return interval and (100 * interval[0], 100 * interval[1])

  return plots.standalone(
    plots.bars(
      [bar.title for bar in bars],
      [bar.color for bar in bars],
      [100 * bar.estimate.value for bar in bars],
      [percents(bar.estimate.interval) for bar in bars],
      x_label='of the way from random play to a human, %',
    )
  )


def write_figure(
  svg: str | None, folder: pathlib.Path, name: str = FIGURE
) -> None:
  """Writes an SVG file beside the page; without any, removes an earlier one."""
  path = folder / name
  if svg:
    files.write_text(path, svg)
  else:
    path.unlink(missing_ok=True)


def best_film(
  videos: Mapping[str, Mapping[str, bytes]], table: ScoreTable
) -> tuple[str, str] | None:
  """The game and the agent of the film whose agent plays best."""

  def worth(place: tuple[str, str]) -> float:
    game, agent = place
    score = table.get(game, {}).get(agent)
    if score is None or score.human_normalized is None:
      return -np.inf
    return score.human_normalized

  places = [(game, agent) for game in videos for agent in videos[game]]
  return max(places, key=worth, default=None)


def liveliest(dreams: Dreams) -> int:
  """The sequence whose real frames change most: what a dream has to get."""
  real = dreams.real.astype(int)
  return int(np.abs(np.diff(real, axis=1)).mean(axis=(1, 2, 3)).argmax())


def dreamed_game(dreams: Mapping[str, Dreams]) -> str | None:
  """The game whose dreams look most like what came.

  By the error of pixels beside that of the last real frame: right tokens of a
  game that the tokenizer blurs are no sight.
  """

  def error(game: str) -> float:
    real = dreams[game].real.astype(int)
    wrong, moved = (
      np.abs(real - other).mean()
      for other in (dreams[game].dreamed, real[:, :1])
    )
    return wrong / moved if moved else np.inf

  return min(dreams, key=error, default=None)


def films(
  videos: Mapping[str, bytes], names: Mapping[str, labels.Label]
) -> list[tuple[str, str]]:
  """(title, video) of every agent that was filmed in a game."""
  return [
    (
      (names.get(agent) or labels.label(labels.AGENTS, agent)).title,
      pictures.data_uri('video/mp4', data),
    )
    for agent, data in videos.items()
  ]


def first_screen(
  inputs: Inputs,
  table: ScoreTable,
  names: Mapping[str, labels.Label],
  colors: Mapping[str, int],
  reps: int,
) -> dict[str, Any]:
  """What the page shows first: of the first chapter, or of all agents.

  Args:
    inputs: what was found.
    table: scores by game and agent.
    names: titles and notes by agent.
    colors: place in the palette by agent.
    reps: bootstrap resamples.
  """
  agents, games = list(inputs.rollouts), list(table)
  for chapter in inputs.summary.get('chapters', ())[:1]:
    agents = [a for a in chapter['agents'] if a in inputs.rollouts]
    games = [game for game in chapter['games'] if game in table]
  opened: dict[str, Any] = dict.fromkeys(
    ('sentence', 'chart', 'caption', 'figure', 'film', 'dream')
  )
  titles = {agent: label.title for agent, label in names.items()}
  found = compare(table, agents, games, reps)
  if found:
    bars = [
      Bar(titles[agent], colors[agent], estimate)
      for agent, estimate in found.estimates.items()
    ]
    opened |= {
      'sentence': sentence(found, table, titles),
      'chart': chart(bars),
      'caption': describe(found),
      'figure': figure(bars),
    }
  if film := best_film(inputs.videos, table):
    game, agent = film
    ((title, source),) = films({agent: inputs.videos[game][agent]}, names)
    opened['film'] = {
      'title': f'{title} plays {game}',
      'note': 'what it sees, how it values actions, and what it dreams of them',
      'source': source,
    }
  if game := dreamed_game(inputs.dreams):
    dreams = inputs.dreams[game]
    one = slice(liveliest(dreams), liveliest(dreams) + 1)
    note = (
      'From the first frame on, the model goes on alone, told the actions. Of '
      'the dreams of the game whose dreams look most like what came, this is '
      'the one in which most moves.'
    )
    if dreams.reconstructed is not None:
      note += (
        ' Between them stands what the tokenizer keeps of what came: what is '
        'blurred there is lost before anything is dreamed.'
      )
    opened['dream'] = {
      'title': f'{game}: what came, and what was dreamed',
      'note': note,
      'grid': pictures.dream_grid(
        Dreams(
          *(frames if frames is None else frames[one] for frames in dreams)
        )
      ),
    }
  return opened
