"""Which settings suit a game: chosen on some seeds, reported on others."""

import json
import logging
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jowa_jax import files
from jowa_jax.envs.protocol import Protocol
from jowa_jax.eval import evaluation
from jowa_jax.eval.evaluation import EvaluatedAgent
from jowa_jax.eval.records import Rollout

SELECTED = 'selected.json'


def label(options: Mapping[str, Any]) -> str:
  """A file's name for settings: 'planner=beam,width=2'."""
  return ','.join(f'{k}={v}' for k, v in sorted(options.items())) or 'default'


def sweep(
  player: EvaluatedAgent,
  games: Sequence[str],
  candidates: Sequence[Mapping[str, Any]],
  directory: str | pathlib.Path,
  *,
  select: Protocol,
  select_seed: int,
  report: Protocol,
  report_seed: int,
  **how: Any,
) -> dict[str, dict[str, Any]]:
  """Plays all settings, then each game's best one again, on other seeds.

  The scores that chose are the best of many and say too much of how good the
  agent is; those of the second evaluation do not, as far as the protocol is
  random: without sticky actions and no-ops, epsilon alone tells two episodes
  apart, and the `sticky` protocol is the one to choose by. Both are resumed.

  Args:
    player: who plays.
    games: distinct names.
    candidates: options of the policy, each tried in every game.
    directory: gets `select/<settings>.jsonl`, `selected.json` and
      `<player's name>.jsonl`, which reports.
    select: the protocol of choosing.
    select_seed: its seed.
    report: the protocol of the second evaluation.
    report_seed: its seed, another one.
    **how: see `evaluation.play`.

  Returns:
    By game: 'options' chosen, 'mean' score that chose them, 'means' of all
    settings by label, 'reported' the mean score of the second evaluation.

  Raises:
    ValueError: the seeds are the same, a protocol has nothing random, or there
      is nothing to choose from. Settings that do not fit the model are left
      out, with a warning.
  """
  if select_seed == report_seed:
    raise ValueError(
      f'The seed {select_seed} would both choose and report: scores that '
      'settings were chosen by are too good. Give two seeds'
    )
  names = [label(options) for options in candidates]
  if len(set(names)) < max(len(names), 1):
    raise ValueError(f'Settings must be distinct, at least one: {names}')
  for name, protocol in (('select', select), ('report', report)):
    if not (protocol.epsilon or protocol.sticky_actions or protocol.noop_max):
      raise ValueError(
        f'Nothing is random in the protocol to {name} by: both evaluations '
        'would be the same play. Set epsilon, sticky_actions or noop_max'
      )
  candidates = _possible(player, candidates, report.epsilon)
  names = [label(options) for options in candidates]
  directory = pathlib.Path(directory)
  means: dict[str, dict[str, float]] = {game: {} for game in games}
  for name, options in zip(names, candidates, strict=True):
    rollouts = evaluation.play(
      player._replace(name=name),
      games,
      select,
      select_seed,
      directory / 'select' / f'{name}.jsonl',
      options=dict.fromkeys(games, options),
      **how,
    )
    for game in games:
      means[game][name] = _mean(rollouts, game)
  # The first of the best: settings are listed from cheap to dear.
  best = {game: max(means[game], key=means[game].get) for game in games}
  chosen = {game: dict(candidates[names.index(best[game])]) for game in games}
  rollouts = evaluation.play(
    player,
    games,
    report,
    report_seed,
    directory / f'{player.name}.jsonl',
    options=chosen,
    **how,
  )
  found = {
    game: {
      'options': chosen[game],
      'mean': means[game][best[game]],
      'means': means[game],
      'reported': _mean(rollouts, game),
    }
    for game in games
  }
  files.write_text(directory / SELECTED, json.dumps(found, indent=2))
  return found


def _possible(
  player: EvaluatedAgent,
  candidates: Sequence[Mapping[str, Any]],
  epsilon: float,
) -> list[Mapping[str, Any]]:
  """Leaves out settings that cannot be, before hours of playing the others."""
  possible = []
  for options in candidates:
    try:
      player.policy(epsilon=epsilon, **options)
      possible.append(options)
    except ValueError as error:
      logging.warning('Left out: %s: %s', label(options), error)
  if not possible:
    raise ValueError(f'None of the {len(candidates)} settings can be played')
  return possible


def _mean(rollouts: Sequence[Rollout], game: str) -> float:
  return float(np.mean([r.score for r in rollouts if r.game == game]))
