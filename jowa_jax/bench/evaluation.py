"""How fast episodes are played: many environments at once, or one by one."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from jowa_jax import agent as agent_lib
from jowa_jax.bench import models
from jowa_jax.bench.train import jowa
from jowa_jax.envs.protocol import Protocol
from jowa_jax.eval import rollout
from jowa_jax.methods.base import Policy

# Of the player that searches in its model.
WIDTH, HORIZON = 2, 2
# Decisions that a program is warmed up with.
_WARM_UP = 3


def measure(
  size: str,
  games: Sequence[str],
  environments: int,
  decisions: int,
  checkpoint: str | None = None,
  passes: int = 3,
) -> list[dict[str, Any]]:
  """Plays the games' first decisions in both ways.

  Args:
    size: a name in `SIZES`, for random weights; unused with a checkpoint.
    games: distinct names, played together.
    environments: of each game, when they are played together.
    decisions: of each rollout.
    checkpoint: of a run, for real weights.
    passes: of a dreamed frame, with random weights, which dream nonsense.

  Returns:
    A record for every player: decisions a second of all environments at once
    and of one at a time, over the same games, and their ratio. The first,
    'random', is as fast as emulators and the loop are.

  Raises:
    ValueError: a number is out of its range, or the size unknown.
  """
  if min(environments, decisions, passes) < 1:
    raise ValueError(
      f'environments={environments}, decisions={decisions} and passes={passes} '
      'must be at least 1'
    )
  source, players = _players(size, checkpoint, passes)
  records = []
  for name, (policy, variables) in players.items():
    many = _rate(policy, variables, [games], environments, decisions)
    one_by_one = [[game] for game in games]
    alone = _rate(policy, variables, one_by_one, 1, decisions)
    records.append(
      {
        'size': source,
        'player': name,
        'games': len(games),
        'environments': environments * len(games),
        'decisions_per_second': many,
        'one_at_a_time': alone,
        'speed_up': many / alone,
        'frames_per_second': 4 * many,
      }
    )
  return records


def _players(
  size: str, checkpoint: str | None, passes: int
) -> tuple[str, dict[str, tuple[Policy, Any]]]:
  """Where weights come from, and who plays."""
  if checkpoint:
    agent = agent_lib.load(checkpoint)
    method, variables = agent.method, agent.variables
    source, dreams = f'step {agent.step} of {checkpoint}', {}
  else:
    dtype = 'float32' if jax.default_backend() == 'cpu' else 'bfloat16'
    method, _ = jowa(size, dtype)
    variables = models.random_variables_of(method)
    source, dreams = size, {'schedule': (1.0,) * passes}
  players = {
    'random': (rollout.random_policy(), None),
    'greedy': (method.policy(), variables),
  }
  if method.simulator is not None:
    search = method.simulator.search(WIDTH, HORIZON)
    players['beam'] = method.policy(**search, **dreams), variables
  return source, players


def _rate(
  policy: Policy,
  variables: Any,
  batches: Sequence[Sequence[str]],
  environments: int,
  decisions: int,
) -> float:
  """Decisions a second, batch after batch, once compiled."""

  def play(games: Sequence[str], count: int) -> tuple[int, float]:
    played = rollout.evaluate(
      policy,
      variables,
      games,
      Protocol(rollouts=environments, max_frames=4 * count),
      0,
      agent='',
      progress=False,
    )
    # The clock of a rollout starts when the emulators are there.
    seconds = max(one.seconds for one in played)
    return sum(one.decisions for one in played), seconds

  play(batches[0], _WARM_UP)
  done, seconds = zip(
    *(play(games, decisions) for games in batches), strict=True
  )
  return sum(done) / sum(seconds)


_COLUMNS = (
  ('size', '{}', 10),
  ('player', '{}', 8),
  ('games', '{}', 5),
  ('environments', '{}', 5),
  ('decisions_per_second', '{:.1f}', 11),
  ('one_at_a_time', '{:.1f}', 13),
  ('speed_up', '{:.2f}', 8),
  ('frames_per_second', '{:.0f}', 8),
)
_HEADS = (
  'size',
  'player',
  'games',
  'envs',
  'decisions/s',
  'one at a time',
  'speed-up',
  'frames/s',
)


def describe(records: Sequence[Mapping[str, Any]]) -> str:
  """A table; rates are of all environments together."""
  return models.table(_HEADS, _COLUMNS, records)
