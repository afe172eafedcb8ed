"""Who plays an evaluation, and with which options in which game."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from jowa_jax import games as games_lib
from jowa_jax.agent import load
from jowa_jax.eval.evaluation import EvaluatedAgent
from jowa_jax.eval.rollout import random_policy
from jowa_jax.methods.acting import Acting
from jowa_jax.methods.base import Policy
from jowa_jax.methods.factory import METHODS, acting_options
from jowa_jax.train.identity import run_digest, weights_digest


def load_player(
  name: str, checkpoint: str | None, step: int | None = None
) -> EvaluatedAgent:
  """A trained agent, or random play.

  Args:
    name: in the records.
    checkpoint: a run's directory; None for random play.
    step: which checkpoint; default the latest.

  Raises:
    CheckpointError: there is no such checkpoint.
    ValueError: a step is given, but no checkpoint.
  """
  if checkpoint is None:
    if step is not None:
      raise ValueError(f'--step={step} needs a --checkpoint')
    return random_player(name)
  agent = load(checkpoint, step)

  def policy(**options: Any) -> Policy:
    try:
      return agent.policy(**options)
    except TypeError as error:
      method = agent.config['method']
      raise ValueError(f'{method} has no such option: {error}') from error

  return EvaluatedAgent(
    name=name,
    policy=policy,
    variables=agent.variables,
    source={
      'method': agent.config['method'],
      'checkpoint': str(checkpoint),
      'checkpoint_step': agent.step,
      'run': run_digest(agent.config),
      'weights': weights_digest(agent.variables.params),
      'parameters': sum(
        x.size for x in jax.tree.leaves(agent.variables.params)
      ),
    },
    acting=acting_options(agent.config),
  )


def random_player(name: str) -> EvaluatedAgent:
  """Uniform play over a game's legal actions."""

  def policy(epsilon: float) -> Policy:
    del epsilon  # All of it is random.
    return random_policy()

  return EvaluatedAgent(name, policy, None, {'method': 'random'})


def game_options(
  games: Sequence[str],
  options: Mapping[str, Any],
  by_game: Mapping[str, Mapping[str, Any]],
  acting: type[Acting],
) -> dict[str, dict[str, Any]]:
  """Each game's options: those given, else the game's own.

  Args:
    games: names, or those of variants, which are played as their games.
    options: given for all of them.
    by_game: options that games have of their own, as `configs/evaluate.py` has
      them, of any method. Those that are not read beside the given ones are
      left out: a beam's width if no planner is given.
    acting: the options that the player has.

  Raises:
    ValueError: `by_game` names an unknown game or option.
  """
  known = frozenset().union(*(e.acting.names() for e in METHODS.values()))
  for game, settings in by_game.items():
    games_lib.check_game(game)
    if unknown := sorted(settings.keys() - known):
      raise ValueError(f'games.{game}.{unknown[0]} is no option of a method')
  able = acting.read_beside(options)

  def of_game(name: str) -> Mapping[str, Any]:
    return by_game.get(games_lib.parse_variant(name).game, {})

  return {
    game: {
      **{k: v for k, v in of_game(game).items() if k in able},
      **options,
    }
    for game in games
  }
