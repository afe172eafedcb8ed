"""Scores of every game and agent."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from jowa_jax import games as games_lib
from jowa_jax.eval.findings import standard_error
from jowa_jax.eval.records import Rollout, by_run
from jowa_jax.report.statistics import Noise


@dataclasses.dataclass(frozen=True)
class Score:
  """What one agent scored in one game."""

  scores: tuple[float, ...]  # unclipped, one per episode
  runs: tuple[float, ...]  # what noise is judged by, see `noise`
  noise: Noise  # runs are episodes, or the means of training seeds
  planned: int  # episodes, where more are still to come; else as there are
  cut_off: int  # episodes that the protocol's frame limit ended
  decisions: float  # mean length of an episode
  equal: bool  # all episodes are alike, in score and length
  mean: float
  standard_error: float | None  # see `findings.standard_error`
  human_normalized: float | None  # of the mean; None without reference scores


# game -> agent -> Score
ScoreTable = dict[str, dict[str, Score]]


def score_table(rollouts: Mapping[str, Sequence[Rollout]]) -> ScoreTable:
  """Sums up the rollouts of each agent, in the given order of agents.

  Of a training run that was evaluated at several steps, the last one counts.
  Several training runs under an agent's name are its seeds.
  """
  table: ScoreTable = {}
  played = {r.game for records in rollouts.values() for r in records}
  for game in sorted(played):
    table[game] = {}
    for agent, records in rollouts.items():
      episodes = [r for r in records if r.game == game]
      if episodes:
        table[game][agent] = _score(game, episodes)
  return table


def by_step(episodes: Sequence[Rollout]) -> dict[int, list[Rollout]]:
  """The episodes by the training steps of who played, in order."""
  steps: dict[int, list[Rollout]] = {}
  for episode in episodes:
    steps.setdefault(episode.setup.get('checkpoint_step') or 0, []).append(
      episode
    )
  return dict(sorted(steps.items()))


def _score(game: str, episodes: Sequence[Rollout]) -> Score:
  # A run that was repeated is another seed, though it has the same config.
  seeds: dict[tuple, list[Rollout]] = {}
  for run, played in by_run(sorted(episodes, key=lambda r: r.rollout)).items():
    for episode in list(by_step(played).values())[-1]:
      seed = run, episode.setup.get('weights')
      seeds.setdefault(seed, []).append(episode)
  last = list(seeds.values())
  episodes = [episode for seed in last for episode in seed]
  scores = np.array([r.score for r in episodes])
  runs = scores
  if len(seeds) > 1:
    runs = np.array([np.mean([r.score for r in seed]) for seed in last])
  mean = float(runs.mean())
  normalized = None
  if games_lib.has_reference(game):
    normalized = games_lib.normalized_score(game, mean)
  return Score(
    scores=tuple(scores.tolist()),
    runs=tuple(runs.tolist()),
    noise='seeds' if len(seeds) > 1 else 'rollouts',
    planned=max(
      len(scores),
      len(seeds) * max(r.setup.get('rollouts', 0) for r in episodes),
    ),
    cut_off=sum(not r.terminated for r in episodes),
    decisions=float(np.mean([r.decisions for r in episodes])),
    equal=len({(r.score, r.decisions) for r in episodes}) == 1,
    mean=mean,
    standard_error=standard_error(runs),
    human_normalized=normalized,
  )
