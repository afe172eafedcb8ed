"""What many games say together: aggregates, profiles, comparisons, curves."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jowa_jax import games as games_lib
from jowa_jax.eval.records import Rollout, by_run
from jowa_jax.report import scores as scores_lib
from jowa_jax.report import statistics
from jowa_jax.report.comparisons import Comparison, compare
from jowa_jax.report.scores import Score, ScoreTable
from jowa_jax.report.statistics import (
  Aggregates,
  GameScores,
  Noise,
  Profile,
  interquartile_mean,
)

REPS = 2000  # bootstrap resamples


@dataclasses.dataclass(frozen=True)
class Summary:
  """Of all agents, over the games that each of them played."""

  human: dict[str, Aggregates]
  dqn: dict[str, Aggregates]
  # Over the games that all agents played; empty if there is none.
  profiles: dict[str, Profile]
  # Of the first with the second, over the games that both played.
  comparisons: dict[tuple[str, str], Comparison]
  # agent -> training steps and the mean over games, of human-normalised scores.
  learning: dict[str, list[tuple[int, float]]]
  # agent -> parameters and interquartile mean of human-normalised scores, over
  # the games that all agents of known size played.
  scaling: dict[str, tuple[int, float]]


def summarize(
  table: ScoreTable,
  rollouts: Mapping[str, Sequence[Rollout]],
  reps: int = REPS,
) -> Summary:
  """Sums up a table of scores.

  Args:
    table: see `scores.score_table`.
    rollouts: that it is of, by agent.
    reps: bootstrap resamples. Each pair of agents takes about a second of 2000.
  """
  agents = list(rollouts)
  human = aggregates_of(table, agents, 'human', reps)
  common = [
    game
    for game, played in table.items()
    if played.keys() >= set(human) and games_lib.has_reference(game)
  ]
  shared = {game: table[game] for game in common}
  noises = {_noise(shared, agent) for agent in human} if common else set()
  # Side by side, an episode is an episode, unless all agents have seeds.
  noise = 'seeds' if noises == {'seeds'} else 'rollouts'
  profiles = {}
  if common and len(human) > 1:
    taus = _taus(shared, noise)
    for agent in human:
      (profile,) = statistics.performance_profiles(
        {agent: _runs(shared, agent, noise)}, taus, noise=noise, reps=reps
      ).values()
      if _are_clustered(shared, agent, noise):
        profile = dataclasses.replace(profile, interval=None)
      profiles[agent] = profile
  return Summary(
    human=human,
    dqn=aggregates_of(table, agents, 'dqn', reps),
    profiles=profiles,
    comparisons=_comparisons(table, list(human), reps),
    learning=_learning(rollouts),
    scaling=_scaling(table, rollouts),
  )


def _comparisons(
  table: ScoreTable, agents: Sequence[str], reps: int
) -> dict[tuple[str, str], Comparison]:
  """Of all pairs that can be compared, in the games that both played."""
  found = {}
  for i, x in enumerate(agents):
    for y in agents[:i]:
      both = {
        game: played
        for game, played in table.items()
        if {x, y} <= played.keys() and games_lib.has_reference(game)
      }
      if not both:
        continue
      # Side by side, an episode is an episode, unless both have seeds.
      noises = {_noise(both, agent) for agent in (x, y)}
      noise = 'seeds' if noises == {'seeds'} else 'rollouts'
      # Runs are compared, not means of unlike numbers of them.
      if all(_is_matrix(both, agent, noise) for agent in (x, y)):
        found[x, y] = _comparison(both, x, y, noise, reps)
  return found


def _comparison(
  table: ScoreTable, x: str, y: str, noise: Noise, reps: int
) -> Comparison:
  found = compare(
    _runs(table, x, noise), _runs(table, y, noise), noise=noise, reps=reps
  )
  clustered = any(_are_clustered(table, agent, noise) for agent in (x, y))
  return found.without_intervals() if clustered else found


def aggregates_of(
  table: ScoreTable, agents: Sequence[str], reference: str, reps: int
) -> dict[str, Aggregates]:
  """Figures of each agent over its games of a table.

  Args:
    table: see `scores.score_table`.
    agents: their names; those without a game of the reference are left out.
    reference: whose score is 1, 'human' or 'dqn'.
    reps: bootstrap resamples.
  """
  result = {}
  for agent in agents:
    usable = {
      game: played
      for game, played in table.items()
      if agent in played and games_lib.has_reference(game, reference)
    }
    if usable:
      noise = _noise(usable, agent)
      result |= statistics.aggregates(
        {agent: _runs(usable, agent, noise)},
        noise=noise,
        reference=reference,
        reps=reps,
      )
  return result


def _noise(table: ScoreTable, agent: str) -> Noise:
  """What the agent's runs are: seeds, if all games have them."""
  noises = {played[agent].noise for played in table.values()}
  return 'seeds' if noises == {'seeds'} else 'rollouts'


def _runs_of(score: Score, noise: Noise) -> tuple[float, ...]:
  return score.runs if noise == 'seeds' else score.scores


def _is_matrix(table: ScoreTable, agent: str, noise: Noise) -> bool:
  """Whether all games have equally many runs."""
  played = [agents[agent] for agents in table.values()]
  return len({len(_runs_of(score, noise)) for score in played}) == 1


def _runs(table: ScoreTable, agent: str, noise: Noise) -> GameScores:
  """An agent's runs of all games.

  Where games have different numbers of them, as episodes of a data set do, or
  some have seeds and others none, there is no interval: each game has its mean.
  """
  runs = {
    game: _runs_of(played[agent], noise) for game, played in table.items()
  }
  mixed = len({played[agent].noise for played in table.values()}) > 1
  if mixed or not _is_matrix(table, agent, noise):
    runs = {game: [float(np.mean(values))] for game, values in runs.items()}
  return runs


def _are_clustered(table: ScoreTable, agent: str, noise: Noise) -> bool:
  """Whether episodes stand for runs that are of several seeds of the agent.

  Those of a seed are alike, so that taken for independent they would give an
  interval that is too narrow.
  """
  noises = {played[agent].noise for played in table.values()}
  return noise == 'rollouts' and 'seeds' in noises


def _taus(table: ScoreTable, noise: Noise) -> np.ndarray:
  """Normalised scores from below the worst run to the best, [101]."""
  values = [
    games_lib.normalized_score(game, run)
    for game, played in table.items()
    for score in played.values()
    for run in _runs_of(score, noise)
  ]
  # Few runs of few games reach far beyond the others.
  return np.linspace(
    min(0.0, *values), max(1.0, np.quantile(values, 0.95)), 101
  )


def _learning(
  rollouts: Mapping[str, Sequence[Rollout]],
) -> dict[str, list[tuple[int, float]]]:
  curves = {}
  for agent, records in rollouts.items():
    usable = [r for r in records if games_lib.has_reference(r.game)]
    runs = len(by_run(usable))
    # One run's early step and another's late one are no curve.
    steps = {
      step: episodes
      for step, episodes in scores_lib.by_step(usable).items()
      if len(by_run(episodes)) == runs
    }
    if len(steps) < 2:
      continue
    games = [{r.game for r in episodes} for episodes in steps.values()]
    # A step that played fewer games is not comparable.
    common = set.intersection(*games)
    if common:
      curves[agent] = [
        (step, _mean_normalized(episodes, sorted(common)))
        for step, episodes in steps.items()
      ]
  return curves


def _mean_normalized(
  episodes: Sequence[Rollout], games: Sequence[str]
) -> float:
  means = [np.mean([r.score for r in episodes if r.game == g]) for g in games]
  pairs = zip(games, means, strict=True)
  return float(np.mean([games_lib.normalized_score(*pair) for pair in pairs]))


def _scaling(
  table: ScoreTable, rollouts: Mapping[str, Sequence[Rollout]]
) -> dict[str, tuple[int, float]]:
  sizes = {
    agent: max((r.setup.get('parameters', 0) for r in records), default=0)
    for agent, records in rollouts.items()
  }
  methods = {
    a: records[0].setup.get('method') for a, records in rollouts.items()
  }
  # A method's sizes are compared, not methods.
  sizes = {
    agent: size
    for agent, size in sizes.items()
    if size
    and len({sizes[a] for a in sizes if methods[a] == methods[agent]} - {0}) > 1
  }
  common = [
    game
    for game, played in table.items()
    if played.keys() >= sizes.keys() and games_lib.has_reference(game)
  ]
  if not common:
    return {}
  return {
    agent: (
      size,
      interquartile_mean(
        np.array([[table[game][agent].human_normalized for game in common]])
      ),
    )
    for agent, size in sizes.items()
  }


def to_json(table: ScoreTable, summary: Summary) -> dict[str, Any]:
  """Game -> agent -> figures; and of all games, of agents and of pairs."""
  result: dict[str, Any] = {
    game: {
      agent: {
        'mean': score.mean,
        'standard_error': score.standard_error,
        'noise': score.noise,
        'cut_off': score.cut_off,
        'human_normalized': score.human_normalized,
        'rollouts': list(score.scores),
      }
      for agent, score in agents.items()
    }
    for game, agents in table.items()
  }
  result['aggregates'] = {
    agent: {
      **{
        name: {'value': estimate.value, 'interval': estimate.interval}
        for name, estimate in figures.estimates().items()
      },
      'games': list(figures.games),
      'runs': figures.runs,
      'noise': figures.noise,
    }
    for agent, figures in summary.human.items()
  }
  result['comparisons'] = [
    {'first': x, 'second': y, **dataclasses.asdict(found)}
    for (x, y), found in summary.comparisons.items()
  ]
  return result
