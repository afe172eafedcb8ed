"""The paper's tables, of a study's results, beside what was published."""

import pathlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pandas as pd

from jowa_jax import files
from jowa_jax import games as games_lib
from jowa_jax.report import numerals, tables
from jowa_jax.report.scores import score_table
from jowa_jax.report.statistics import Aggregates, Estimate, aggregates
from jowa_jax.report.study.published import Published, published
from jowa_jax.report.study.results import Agent, Results
from jowa_jax.report.summary import aggregates_of

_FIGURES = {
  'mean': 'Mean',
  'median': 'Median',
  'interquartile_mean': 'Interquartile mean',
  'above_reference': 'Games above 1',
}
_REFERENCES = {'human': 'human-normalised', 'dqn': 'DQN-normalised'}
_MARKS = (
  'Figures in brackets are 95 % intervals. ↑ and ↓: the interval is above or '
  'below what was published for the same games and size, computed from the '
  'scores where there are. †: the figure as printed contradicts the scores '
  'beside it.'
)


class Cell(NamedTuple):
  """A number or a word of a table."""

  text: str
  value: float | str | None = None  # as computed, for CSV
  agent: str = ''  # whose runs and rollouts it is of


class Table(NamedTuple):
  """One table of the page."""

  name: str  # of its files
  title: str
  note: str
  columns: tuple[str, ...]
  rows: tuple[tuple[Cell, ...], ...]


def study_tables(results: Results, reps: int) -> list[Table]:
  """All tables that there is something for.

  Args:
    results: of the study.
    reps: bootstrap resamples that intervals are read from.
  """
  builder = _Builder(results, reps)
  made = [
    builder.summary('aggregates', 'Over games', _is_pretrained, 'human'),
    *builder.scores(),
    builder.scaling(),
    builder.summary('finetuning', 'New games, fine-tuned', _is_finetuned),
    builder.summary('ablations', 'Ablations', _is_ablation, 'human'),
    builder.planners(),
  ]
  return [table for table in made if table is not None and table.rows]


def _is_finetuned(agent: Agent) -> bool:
  return bool(agent.quality)


def _is_ablation(agent: Agent) -> bool:
  return bool(agent.ablation) and not agent.quality


def _is_pretrained(agent: Agent) -> bool:
  return not (agent.quality or agent.ablation)


def _titles(agents: Sequence[Agent]) -> list[str]:
  """A title of its own for each."""
  titles = [agent.title for agent in agents]
  return [
    f'{title} ({agent.name})' if titles.count(title) > 1 else title
    for agent, title in zip(agents, titles, strict=True)
  ]


def scaling_point(
  results: Results, agent: Agent, reps: int
) -> tuple[int, Estimate] | None:
  """An agent's parameters and interquartile mean, if both are known."""
  builder = _Builder(results, reps)
  count = builder.parameters(agent.name)
  figures = builder.figures(agent.name, builder.games(agent, 'human'), 'human')
  if count is None or figures is None:
    return None
  return count, figures.interquartile_mean


class _Builder:
  """Makes tables of one study's results."""

  def __init__(self, results: Results, reps: int):
    self._results, self._reps = results, reps
    self._table = score_table(results.rollouts)
    self._figures: dict[tuple, Aggregates | None] = {}

  def scores(self) -> Iterable[Table]:
    """Means by game and agent, of each kind of agents."""
    for name, title, kind in (
      ('scores', 'Scores', _is_pretrained),
      ('scores_finetuned', 'Scores of fine-tuned agents', _is_finetuned),
      ('scores_ablations', 'Scores of ablations', _is_ablation),
    ):
      agents = [a for a in self._results.agents.values() if kind(a)]
      if not any(agent.method for agent in agents):
        continue
      rows = [
        (Cell(game), *(self._score(game, agent) for agent in agents))
        for game, played in self._table.items()
        if any(agent.name in played for agent in agents)
      ]
      yield Table(
        name,
        title,
        'Means of unclipped scores and standard errors: over training seeds '
        'where there are several, else over episodes.',
        ('Game', *_titles(agents)),
        tuple(rows),
      )

  def summary(
    self, name: str, title: str, kind, reference: str = ''
  ) -> Table | None:
    """Figures over games of agents of a kind, each over its own games."""
    agents = [a for a in self._results.agents.values() if kind(a)]
    if not any(agent.method for agent in agents):
      return None
    if not reference:
      reference = 'dqn' if self._all_have(agents, 'dqn') else 'human'
    rows = []
    for agent in agents:
      games = self.games(agent, reference)
      rows += [row[:-1] for row in self._rows(agent, games, reference)]
    return Table(
      name,
      title,
      f'{_REFERENCES[reference].capitalize()}: 0 is random play. {_MARKS}',
      ('Agent', 'From', 'Games', 'Runs', *_FIGURES.values()),
      tuple(rows),
    )

  def scaling(self) -> Table | None:
    """Sizes of each method that has several."""
    agents = [
      a for a in self._results.agents.values() if _is_pretrained(a) and a.size
    ]
    sizes: dict[str, set[str]] = {}
    for agent in agents:
      sizes.setdefault(agent.method, set()).add(agent.size)
    rows = []
    for agent in agents:
      if len(sizes[agent.method]) < 2:
        continue
      count = self.parameters(agent.name)
      for row in self._rows(agent, self.games(agent, 'human'), 'human'):
        size = Cell('', None) if count is None else Cell(f'{count:,}', count)
        rows.append((row[0], row[1], size, row[6]))
    return Table(
      'scaling',
      'Scaling',
      f'Human-normalised. {_MARKS}',
      ('Agent', 'From', 'Parameters', 'Interquartile mean'),
      tuple(rows),
    )

  def planners(self) -> Table | None:
    """Ways to choose actions of one agent, in the games that all played."""
    groups: dict[tuple, list[Agent]] = {}
    for agent in self._results.agents.values():
      if agent.planner:
        key = (agent.method, agent.size, agent.quality, agent.ablation)
        groups.setdefault(key, []).append(agent)
    rows = []
    for agents in groups.values():
      played = [set(self.games(agent, 'human')) for agent in agents]
      games = sorted(set.intersection(*played))
      if len(agents) < 2 or not games:
        continue
      for agent in agents:
        speed = self._results.speeds.get(agent.name)
        for row in self._rows(agent, games, 'human', speed):
          rows.append((*row[:5], row[6], row[-1]))
    return Table(
      'planners',
      'Planners',
      'Human-normalised, over the games that all planners of an agent played. '
      'Decisions a second are those of all environments of the evaluation '
      f'together, compiling included; published ones of one environment. '
      f'{_MARKS}',
      (
        *('Agent', 'From', 'Games', 'Runs', 'Mean', 'Interquartile mean'),
        'Decisions a second',
      ),
      tuple(rows),
    )

  def parameters(self, name: str) -> int | None:
    """How many an agent has."""
    counts = [r.setup.get('parameters') for r in self._results.rollouts[name]]
    return max(filter(None, counts), default=None)

  def figures(
    self, name: str, games: Sequence[str], reference: str
  ) -> Aggregates | None:
    """An agent's figures over some of its games."""
    key = (name, tuple(games), reference)
    if key not in self._figures:
      table = {game: self._table[game] for game in games}
      found = aggregates_of(table, [name], reference, self._reps)
      self._figures[key] = found.get(name)
    return self._figures[key]

  def games(self, agent: Agent, reference: str) -> list[str]:
    """Those that an agent played and that have the reference scores."""
    return [
      game
      for game, played in self._table.items()
      if agent.name in played and games_lib.has_reference(game, reference)
    ]

  def _all_have(self, agents: Sequence[Agent], reference: str) -> bool:
    names = {agent.name for agent in agents}
    return all(
      games_lib.has_reference(game, reference)
      for game, played in self._table.items()
      if names & played.keys()
    )

  def _score(self, game: str, agent: Agent) -> Cell:
    score = self._table[game].get(agent.name)
    if score is None:
      return Cell(numerals.DASH)
    text = numerals.number(score.mean, 1)
    if score.standard_error is not None:
      text += f' ± {numerals.number(score.standard_error, 1)}'
    return Cell(text, score.mean, agent.name)

  def _rows(
    self,
    agent: Agent,
    games: Sequence[str],
    reference: str,
    speed: float | None = None,
  ) -> list[tuple[Cell, ...]]:
    """An agent's row, and those of what was published of its like."""
    figures = self.figures(agent.name, games, reference)
    if figures is None:
      return []
    alike = [p for p in published() if p.is_of(agent, games)]
    alike = [p for p in alike if p.reference == reference]
    known = _known(alike, reference)
    runs = 'seeds' if figures.noise == 'seeds' else 'episodes'
    # Games of unlike numbers of episodes are one row of means.
    runs = f'{figures.runs} {runs}' if figures.runs > 1 else 'means'
    ours = [
      Cell(agent.title, agent.title, agent.name),
      Cell('here', 'here'),
      Cell(str(len(games)), len(games)),
      Cell(runs, figures.runs),
      *(
        _estimate(name, getattr(figures, name), known.get(name), agent.name)
        for name in _FIGURES
      ),
    ]
    rows = [(*ours, _number(speed, 1))]
    for one in alike:
      rows += _published_rows(one, reference)
    return rows


def _estimate(
  name: str, estimate: Estimate, known: float | None, agent: str
) -> Cell:
  """A figure with its interval, marked if what is known lies outside."""
  decimals = 0 if name == 'above_reference' else 3
  text = numerals.number(estimate.value, decimals)
  if estimate.interval is not None:
    low, high = estimate.interval
    ends = (numerals.number(end, decimals) for end in (low, high))
    text += f' [{", ".join(ends)}]'
    if known is not None and not low <= known <= high:
      text += ' ↑' if known < low else ' ↓'
  return Cell(text, estimate.value, agent)


def _known(alike: Sequence[Published], reference: str) -> dict[str, float]:
  """What was published, by figure: from scores, or else as printed."""
  known: dict[str, float] = {}
  for one in alike:
    if one.scores:
      of_scores = _of_scores(one, reference)
      known = {n: getattr(of_scores, n).value for n in _FIGURES} | known
  for one in alike:
    known = one.printed | known
  return known


def _of_scores(one: Published, reference: str) -> Aggregates:
  scores = {one.name: {g: [score] for g, score in one.scores.items()}}
  found = aggregates(scores, noise='rollouts', reference=reference, reps=1)
  return found[one.name]


def _published_rows(one: Published, reference: str):
  """What is printed, and what the scores beside it give."""
  speed = _number(one.decisions_per_second or None, 2)
  games = Cell(str(len(one.games)), len(one.games))
  if one.printed:
    cells = []
    for name in _FIGURES:
      value = one.printed.get(name)
      cell = _number(value, 0 if name == 'above_reference' else 3)
      if name in one.contradicted:
        cell = cell._replace(text=f'{cell.text} †')
      cells.append(cell)
    where = f'{one.table}, printed'
    yield (
      *(Cell(one.name, one.name), Cell(where, where), games, Cell('')),
      *(*cells, speed),
    )
  if one.scores:
    figures = _of_scores(one, reference)
    where = f'{one.table}, its scores' if one.printed else one.table
    yield (
      *(Cell(one.name, one.name), Cell(where, where), games, Cell('')),
      *(
        _number(
          getattr(figures, name).value, 0 if name == 'above_reference' else 3
        )
        for name in _FIGURES
      ),
      speed,
    )


def _number(value: float | None, decimals: int) -> Cell:
  if value is None:
    return Cell(numerals.DASH)
  return Cell(numerals.number(value, decimals), value)


def write(
  made: Sequence[Table], folder: pathlib.Path, anchors: str
) -> list[pathlib.Path]:
  """Writes every table as .csv, .md and .tex; returns the files.

  Args:
    made: the tables.
    folder: where they go.
    anchors: the page whose anchors numbers link to, as Markdown writes it.
  """
  texts = {}
  for table in made:
    values = [[_value(cell) for cell in row] for row in table.rows]
    printed = [[cell.text for cell in row] for row in table.rows]
    linked = [[_linked(cell, anchors) for cell in row] for row in table.rows]
    frames = [
      pd.DataFrame(rows, columns=table.columns)
      for rows in (values, printed, linked)
    ]
    note = f'## {table.title}\n\n{table.note}\n\n'
    text = frames[2].to_markdown(index=False, disable_numparse=True)
    texts |= {
      f'{table.name}.csv': frames[0].to_csv(index=False),
      f'{table.name}.md': f'{note}{text}\n',
      f'{table.name}.tex': tables.latex(frames[1], index=False),
    }
  for name, text in texts.items():
    files.write_text(folder / name, text)
  return [folder / name for name in texts]


def _value(cell: Cell) -> float | str:
  if cell.value is None:
    return '' if cell.text == numerals.DASH else cell.text
  return cell.value


def _linked(cell: Cell, anchors: str) -> str:
  if not cell.agent:
    return cell.text
  return f'[{cell.text}]({anchors}#agent-{cell.agent})'
