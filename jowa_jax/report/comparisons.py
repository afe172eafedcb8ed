"""How much better one agent is than another, with what the runs tell of it.

Runs, noise and intervals are those of `statistics`: both agents' runs of each
game are drawn anew, independently of each other.
"""

import dataclasses

import numpy as np
from rliable import library, metrics

from jowa_jax import games as games_lib
from jowa_jax.report import statistics
from jowa_jax.report.statistics import Estimate, GameScores, Noise

# Resamples of a probability are as many times fewer: scipy computes a p-value
# beside each, and 2000 of 15 games take about 20 s.
_PROBABILITY_SHARE = 10


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Of an agent x with an agent y."""

  # How often a run of x beats one of y, ties half; mean over the games.
  probability: Estimate
  # x less y, human-normalised; None if a game has no reference scores.
  mean: Estimate | None
  interquartile_mean: Estimate | None
  games: tuple[str, ...]  # that both played
  runs: tuple[int, int]  # of each game, by x and by y
  noise: Noise

  def without_intervals(self) -> 'Comparison':
    """The figures alone."""

    def bare(estimate):
      return estimate and Estimate(estimate.value, None)

    return dataclasses.replace(
      self,
      probability=bare(self.probability),
      mean=bare(self.mean),
      interquartile_mean=bare(self.interquartile_mean),
    )


def compare(
  x: GameScores,
  y: GameScores,
  *,
  noise: Noise,
  reps: int = 2000,
  seed: int = 0,
) -> Comparison:
  """Compares two agents in the games that both played.

  The probability compares scores within a game, and needs no reference. The
  differences are those of the figures that `statistics.aggregates` gives.

  Args:
    x: game -> raw scores, equally many for each game that y played too.
    y: of the other agent, in the same form.
    noise: what a run is, see `statistics`.
    reps: bootstrap resamples of differences; of probabilities, a tenth.
    seed: the same seed gives the same intervals.

  Raises:
    ValueError: x and y have no game in common; games differ in their number of
      runs, or have none; a score is not finite; a bad `noise`, `reps` or
      `seed`.
  """
  statistics.check(noise, reps)
  common = statistics.on_common_games({'x': x, 'y': y})
  pair = [statistics.raw_matrix(s, agent) for agent, s in common.items()]
  games = tuple(sorted(common['x']))
  few = max(reps // _PROBABILITY_SHARE, 1)
  (probability,) = _estimates(
    pair, lambda a, b: [metrics.probability_of_improvement(a, b)], few, seed
  )
  mean = interquartile_mean = None
  if all(games_lib.has_reference(game) for game in games):
    normalized = [
      statistics.normalized_matrix(scores, agent=agent)
      for agent, scores in common.items()
    ]
    mean, interquartile_mean = _estimates(normalized, _differences, reps, seed)
  return Comparison(
    probability=probability,
    mean=mean,
    interquartile_mean=interquartile_mean,
    games=games,
    runs=(len(pair[0]), len(pair[1])),
    noise=noise,
  )


def _differences(x: np.ndarray, y: np.ndarray) -> list[float]:
  """Of mean and interquartile mean, of [runs, games] each."""
  of = statistics.interquartile_mean
  return [metrics.aggregate_mean(x) - metrics.aggregate_mean(y), of(x) - of(y)]


def _estimates(pair, figures, reps: int, seed: int) -> list[Estimate]:
  """Figures of two agents' runs [runs, games]."""
  values = [float(value) for value in figures(*pair)]
  if min(map(len, pair)) == 1:
    # Resampling one run gives it back each time.
    return [Estimate(value, None) for value in values]
  with statistics.numpy_seed(seed):
    _, intervals = library.get_interval_estimates(
      {'x, y': pair},
      lambda a, b: np.array(figures(a, b)),
      reps=reps,
      confidence_interval_size=statistics.CONFIDENCE,
    )
  found = intervals['x, y']
  return [
    Estimate(value, statistics.ends(found[:, i]))
    for i, value in enumerate(values)
  ]
