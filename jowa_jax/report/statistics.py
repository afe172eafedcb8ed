"""Aggregates of scores over games and their uncertainty, by rliable.

Agents come in as agent -> game -> raw scores, one score a *run*. A run is
either one rollout of one trained model, or one training run (seed), whose
score is the mean of its rollouts. Intervals are 95 % percentile intervals of
the stratified bootstrap: each game's runs are drawn anew with replacement,
the games stay. What they show is therefore the caller's `noise`:

  'rollouts': had the same trained model been played again. It says nothing
    of another training run.
  'seeds': had the agent been trained again. rliable draws each game's seeds
    independently of the other games', as for agents trained on one game each;
    an agent of many games is good or bad at them together, and its true
    interval can be wider.

Source: Agarwal et al. 2021, Deep RL at the edge of the statistical precipice.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from rliable import library, metrics

from jowa_jax import games as games_lib

# game -> raw scores, one a run
GameScores = Mapping[str, Sequence[float]]
Reference = Literal['human', 'dqn']
Noise = Literal['rollouts', 'seeds']

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Estimate:
  """A figure and its interval."""

  value: float
  # None: runs that are one, or that all say the same, show no noise.
  interval: tuple[float, float] | None


@dataclasses.dataclass(frozen=True)
class Aggregates:
  """One agent's normalised scores over its games; 1 is the reference."""

  mean: Estimate
  median: Estimate
  interquartile_mean: Estimate
  optimality_gap: Estimate
  above_reference: Estimate  # in how many games; 'human': superhuman games
  games: tuple[str, ...]
  runs: int  # of each game
  reference: Reference
  noise: Noise

  def estimates(self) -> dict[str, Estimate]:
    """The figures by name."""
    values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
    return {k: v for k, v in values.items() if isinstance(v, Estimate)}


@dataclasses.dataclass(frozen=True)
class Profile:
  """The fraction of one agent's runs, of all games, that beat a score."""

  taus: np.ndarray  # [taus] normalised scores
  fractions: np.ndarray  # [taus] of runs above tau
  interval: np.ndarray | None  # [2, taus] low, high; see `Estimate`
  games: tuple[str, ...]
  runs: int  # of each game
  reference: Reference
  noise: Noise


def aggregates(
  agents: Mapping[str, GameScores],
  *,
  noise: Noise,
  reference: Reference = 'human',
  reps: int = 2000,
  seed: int = 0,
) -> dict[str, Aggregates]:
  """Sums up each agent's normalised scores over its own games.

  The mean, median, interquartile mean and the count above the reference are
  those of the per-game means. The interquartile mean is their 25 % trimmed
  mean, which is what the JOWA paper and its released scores report. It is
  not `rliable.metrics.aggregate_iqm`, which trims the pooled runs x games
  scores: for JOWA-150M's released rollouts that is 0.730, this is 0.847. The
  optimality gap is rliable's: how far the runs, each cut at 1, stay below 1
  on average.

  Agents may differ in their games: hand over `on_common_games(agents)` to
  compare them.

  Args:
    agents: agent -> game -> raw scores, equally many for each of its games.
    noise: what a run is, see the module's docstring.
    reference: whose score is 1, 'human' or 'dqn'.
    reps: bootstrap resamples.
    seed: the same seed gives the same intervals, whatever the other agents.

  Returns:
    agent -> Aggregates, in the order of `agents`.

  Raises:
    ValueError: see `normalized_matrix`; a bad `noise`, `reps` or `seed`.
  """
  check(noise, reps)
  result = {}
  for agent, scores in agents.items():
    matrix = normalized_matrix(scores, reference, agent)
    values, interval = _estimate(
      lambda drawn: library.get_interval_estimates(
        drawn, _statistics, reps=reps, confidence_interval_size=CONFIDENCE
      ),
      _statistics,
      matrix,
      seed,
    )
    estimates = [
      Estimate(
        value=float(value),
        interval=None if interval is None else ends(interval[:, i]),
      )
      for i, value in enumerate(values)
    ]
    result[agent] = Aggregates(
      *estimates,
      games=tuple(sorted(scores)),
      runs=len(matrix),
      reference=reference,
      noise=noise,
    )
  return result


def performance_profiles(
  agents: Mapping[str, GameScores],
  taus: Sequence[float],
  *,
  noise: Noise,
  reference: Reference = 'human',
  reps: int = 2000,
  seed: int = 0,
) -> dict[str, Profile]:
  """Each agent's fraction of runs with a normalised score above tau.

  Every agent's profile is over its own games: hand over
  `on_common_games(agents)` to compare them. The intervals hold for each tau
  alone, not for the whole curve.

  Args:
    agents: agent -> game -> raw scores, equally many for each of its games.
    taus: normalised scores.
    noise: what a run is, see the module's docstring.
    reference: whose score is 1, 'human' or 'dqn'.
    reps: bootstrap resamples.
    seed: the same seed gives the same intervals, whatever the other agents.

  Returns:
    agent -> Profile, in the order of `agents`.

  Raises:
    ValueError: see `normalized_matrix`; `taus` is empty or not a list of
      finite numbers; a bad `noise`, `reps` or `seed`.
  """
  check(noise, reps)
  thresholds = np.asarray(taus, float)
  if thresholds.ndim != 1 or not thresholds.size:
    raise ValueError('taus must be a list of at least one number')
  if not np.isfinite(thresholds).all():
    raise ValueError('taus must be finite')
  result = {}
  for agent, scores in agents.items():
    matrix = normalized_matrix(scores, reference, agent)
    fractions, interval = _estimate(
      lambda drawn: library.create_performance_profile(
        drawn, thresholds, reps=reps, confidence_interval_size=CONFIDENCE
      ),
      lambda runs: library.score_distributions(runs, thresholds),
      matrix,
      seed,
    )
    result[agent] = Profile(
      taus=thresholds,
      fractions=fractions,
      interval=interval,
      games=tuple(sorted(scores)),
      runs=len(matrix),
      reference=reference,
      noise=noise,
    )
  return result


def on_common_games(
  agents: Mapping[str, GameScores],
) -> dict[str, dict[str, Sequence[float]]]:
  """The agents' scores of the games that all of them played.

  Raises:
    ValueError: there is no such game.
  """
  played = [set(scores) for scores in agents.values()]
  games = sorted(set.intersection(*played)) if played else []
  if not games:
    raise ValueError(f'No game in common: {", ".join(agents) or "no agents"}')
  return {
    agent: {game: scores[game] for game in games}
    for agent, scores in agents.items()
  }


def normalized_matrix(
  scores: GameScores, reference: Reference = 'human', agent: str = 'the agent'
) -> np.ndarray:
  """Normalised scores, [runs, games], games in alphabetical order.

  Args:
    scores: game -> raw scores.
    reference: 'human' or 'dqn', see `games.normalized_score`.
    agent: named in errors.

  Raises:
    ValueError: there is no game; games differ in their number of runs, or
      have none; a score is not finite; a game is unknown or has no reference
      scores, or (Pooyan) a human score below the random one; `reference` is
      unknown.
  """
  matrix = raw_matrix(scores, agent)
  games = sorted(scores)
  unusable = [
    game for game in games if not games_lib.has_reference(game, reference)
  ]
  if unusable:
    raise ValueError(
      f'No {reference} reference scores for {", ".join(unusable)}: leave '
      f'them out of the scores of {agent}'
    )
  columns = [
    games_lib.normalized_score(game, matrix[:, i], reference)
    for i, game in enumerate(games)
  ]
  return np.stack(columns, axis=1)


def interquartile_mean(scores: np.ndarray) -> float:
  """Of the games' means, of [runs, games]; see `aggregates`."""
  # `scipy.stats.trim_mean` takes 28 times as long, in every resample.
  means = np.sort(scores.mean(axis=0))
  cut = len(means) // 4
  return float(means[cut : len(means) - cut].mean())


def _statistics(scores: np.ndarray) -> np.ndarray:
  """The figures of `Aggregates`, in order, of [runs, games]."""
  means = scores.mean(axis=0)
  return np.array(
    [
      metrics.aggregate_mean(scores),
      metrics.aggregate_median(scores),
      interquartile_mean(scores),
      metrics.aggregate_optimality_gap(scores),
      np.sum(means > 1),
    ]
  )


def _estimate(
  with_interval: Callable, without: Callable, matrix: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray | None]:
  """The estimates [n] and their intervals [2, n] if there are any."""
  if len(matrix) == 1:
    # Resampling one run gives it back each time: a zero width that is false.
    return without(matrix), None
  with numpy_seed(seed):
    values, intervals = with_interval({'': matrix})
  interval = np.asarray(intervals[''])
  if not np.ptp(interval, axis=0).any():
    # Runs that are all alike, such as one episode played repeatedly.
    return values[''], None
  return values[''], interval


@contextlib.contextmanager
def numpy_seed(seed: int) -> Iterator[None]:
  """Seeds numpy's global generator and puts its state back afterwards.

  rliable 1.2.0 draws from that one and ignores its `random_state`.
  """
  state = np.random.get_state()
  np.random.seed(seed)
  try:
    yield
  finally:
    np.random.set_state(state)


def raw_matrix(scores: GameScores, agent: str) -> np.ndarray:
  """Raw scores, [runs, games], games in alphabetical order."""
  if not scores:
    raise ValueError(f'No scores of {agent}')
  counts = {game: len(scores[game]) for game in sorted(scores)}
  if len(set(counts.values())) > 1 or 0 in counts.values():
    listed = ', '.join(f'{game} {count}' for game, count in counts.items())
    raise ValueError(
      f'The games of {agent} need equal numbers of runs, at least one, but '
      f'have: {listed}'
    )
  matrix = np.array([scores[game] for game in counts], float).T
  if not np.isfinite(matrix).all():
    raise ValueError(f'A score of {agent} is not finite')
  return matrix


def check(noise: str, reps: int) -> None:
  """Raises ValueError if intervals cannot be made of this."""
  if noise not in ('rollouts', 'seeds'):
    raise ValueError(f"noise is {noise!r}, not 'rollouts' or 'seeds'")
  if reps < 1:
    raise ValueError(f'reps is {reps}: set it to at least 1')


def ends(interval: np.ndarray) -> tuple[float, float] | None:
  """An interval's; None where they are one: width 0 is no certainty."""
  low, high = map(float, interval)
  return (low, high) if low < high else None
