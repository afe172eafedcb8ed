"""Scores of every game and agent, and their aggregates over games."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jowa_jax import games as games_lib
from jowa_jax.eval.records import Rollout


@dataclasses.dataclass(frozen=True)
class Score:
  """What one agent scored in one game."""

  scores: tuple[float, ...]  # unclipped, one per episode
  cut_off: int  # episodes that the protocol's frame limit ended
  decisions: float  # mean length of an episode
  mean: float
  standard_error: float | None  # None for a single episode
  human_normalized: float | None  # of the mean; None without reference scores


# game -> agent -> Score
ScoreTable = dict[str, dict[str, Score]]


def score_table(rollouts: Mapping[str, Sequence[Rollout]]) -> ScoreTable:
  """Sums up the rollouts of each agent, in the given order of agents."""
  table: ScoreTable = {}
  played = {r.game for records in rollouts.values() for r in records}
  for game in sorted(played):
    table[game] = {}
    for agent, records in rollouts.items():
      episodes = sorted(
        (r for r in records if r.game == game), key=lambda r: r.rollout
      )
      if episodes:
        table[game][agent] = _score(game, episodes)
  return table


def _score(game: str, episodes: Sequence[Rollout]) -> Score:
  scores = np.array([r.score for r in episodes])
  mean = float(scores.mean())
  error = None
  if len(scores) > 1:
    error = float(scores.std(ddof=1) / math.sqrt(len(scores)))
  normalized = None
  if game in games_lib.REFERENCE_SCORES:
    normalized = games_lib.normalized_score(game, mean)
  return Score(
    scores=tuple(scores.tolist()),
    cut_off=sum(not r.terminated for r in episodes),
    decisions=float(np.mean([r.decisions for r in episodes])),
    mean=mean,
    standard_error=error,
    human_normalized=normalized,
  )


def interquartile_mean(values: Sequence[float]) -> float:
  """Returns the mean without the lowest and highest quarter (rounded down)."""
  values = np.sort(np.asarray(values, float))
  cut = len(values) // 4
  return float(values[cut : len(values) - cut].mean())


def aggregates(table: ScoreTable) -> dict[str, dict[str, float]]:
  """Sums up each agent's human-normalised mean scores over its games.

  Returns:
    agent -> games (how many have reference scores), mean, median,
    interquartile_mean, above_human (in how many games).
  """
  normalized: dict[str, list[float]] = {}
  for agents in table.values():
    for agent, score in agents.items():
      if score.human_normalized is not None:
        normalized.setdefault(agent, []).append(score.human_normalized)
  return {
    agent: {
      'games': len(values),
      'mean': float(np.mean(values)),
      'median': float(np.median(values)),
      'interquartile_mean': interquartile_mean(values),
      'above_human': sum(value > 1 for value in values),
    }
    for agent, values in normalized.items()
  }


def to_json(table: ScoreTable) -> dict[str, Any]:
  """Returns game -> agent -> figures, and 'aggregates' -> agent -> figures."""
  result: dict[str, Any] = {
    game: {
      agent: {
        'mean': score.mean,
        'standard_error': score.standard_error,
        'cut_off': score.cut_off,
        'human_normalized': score.human_normalized,
        'rollouts': list(score.scores),
      }
      for agent, score in agents.items()
    }
    for game, agents in table.items()
  }
  result['aggregates'] = aggregates(table)
  return result
