"""What planning gains, and what it would gain in a perfect model.

Episodes are played greedily, by the search in the model, and by the same search
in the real emulator. If the last gains nothing over greedy play, values are at
fault; if it gains and the search in the model does not, the model is.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jowa_jax import games as games_lib
from jowa_jax.agent import Agent
from jowa_jax.eval import planning_errors
from jowa_jax.eval.emulator import (
  Branches,
  Emulator,
  Place,
  Viewer,
  emulator_world,
  make_viewer,
)
from jowa_jax.eval.findings import Figures, standard_error
from jowa_jax.eval.planning_errors import Compared
from jowa_jax.eval.rollout import decision_keys
from jowa_jax.methods.base import Policy, check_actions
from jowa_jax.methods.history_policy import epsilon_greedy
from jowa_jax.plan.base import WorldModel, faulty
from jowa_jax.plan.beam import PATH_SCORES, beam_search
from jowa_jax.train import sharding
from jowa_jax.types import History, TimeStep

PLAYERS = ('greedy', 'model', 'emulator')


@dataclasses.dataclass(frozen=True)
class DiagnosisConfig:
  """How much is played, and how searches search.

  Attributes:
    episodes: of each game and player, played at once.
    decisions: of an episode, at most.
    width: beams kept.
    horizon: steps looked ahead.
    path_score: see `beam_search`.
    context_length: blocks of context, of all players; by default what the
      position table leaves beside the horizon.
    epsilon: chance of a random legal action.
    compare_every: decisions between those at which both searches are compared;
      0 compares at none.
    count_ends: see `emulator_world`.
    seed: decides the random actions.
  """

  episodes: int = 4
  decisions: int = 500
  width: int = 2
  horizon: int = 2
  path_score: str = 'leaf'
  context_length: int | None = None
  epsilon: float = 0.001
  compare_every: int = 1
  count_ends: bool = True
  seed: int = 0

  def __post_init__(self):
    lowest = dict(episodes=1, decisions=1, width=1, horizon=1)
    for name, low in (lowest | dict(compare_every=0, seed=0)).items():
      if getattr(self, name) < low:
        raise ValueError(f'{name}={getattr(self, name)} must be at least {low}')
    if self.path_score not in PATH_SCORES:
      raise ValueError(
        f'path_score={self.path_score!r} is not in {PATH_SCORES}'
      )
    if not 0 <= self.epsilon <= 1:
      raise ValueError(f'epsilon={self.epsilon} is not in [0, 1]')


class Episode(NamedTuple):
  """One episode; T decisions."""

  rewards: np.ndarray  # [T] float64, the game's own
  values: np.ndarray  # [T] float32, the highest legal Q before each
  actions: np.ndarray  # [T] int32
  terminated: bool  # the game is over
  truncated: bool  # out of frames; neither if it was left before


class Played(NamedTuple):
  """What a player did in a game."""

  episodes: list[Episode]
  compared: Compared | None


class _Searches(NamedTuple):
  """An agent's functions for the environments of one game."""

  viewer: Viewer
  greedy: Policy
  beam: Policy
  # (context, paths [E, P, H]) -> dreamed rewards and values, see `follow`.
  dreamed: Callable[[History, Any], tuple[Any, Any]]
  world: WorldModel  # the emulator


def make_searches(
  agent: Agent,
  game: str,
  config: DiagnosisConfig,
  make_emulator: Callable[[str], Emulator],
) -> _Searches:
  """Compiles what `play` needs; several players share it.

  Args:
    agent: one with a tokenizer and a simulator.
    game: a game or a variant of one, see `games.parse_variant`.
    config: settings of the diagnosis.
    make_emulator: (game) -> an emulator without sticky actions.

  Raises:
    ValueError: an unknown game, an agent without a tokenizer or a simulator, or
      no room for the horizon.
  """
  tasks = np.full(config.episodes, _task_of(game), np.int32)
  viewer = make_viewer(agent, tasks)
  length = config.context_length
  room = viewer.max_steps - config.horizon
  if length is None:
    length = room
  if room < 1 or not 1 <= length <= room:
    raise ValueError(
      f'context_length={length} and horizon={config.horizon} (both at least 1) '
      f'do not fit into the {viewer.max_steps} blocks of the position table: '
      'shorten one'
    )
  # Random actions are drawn once the player has chosen.
  options = dict(context_length=length, epsilon=0.0)
  simulator = agent.simulator
  search = simulator.search(config.width, config.horizon, config.path_score)

  @jax.jit
  def dreamed(variables, context: History, paths):
    memory, _ = simulator.remember(variables, context)
    world = simulator.world(variables, context.tasks)
    return planning_errors.follow(world, memory, paths, viewer.legal)

  return _Searches(
    viewer=viewer,
    greedy=agent.policy(**options),
    beam=agent.policy(**search, **options),
    dreamed=lambda context, paths: dreamed(agent.variables, context, paths),
    world=emulator_world(make_emulator(game), viewer.eyes, config.count_ends),
  )


def play(
  agent: Agent,
  game: str,
  player: str,
  config: DiagnosisConfig,
  make_emulator: Callable[[str], Emulator],
  searches: _Searches | None = None,
  on_decision: Callable[[], None] = lambda: None,
) -> Played:
  """Plays episodes of a game, and compares the searches on the way.

  Args:
    agent: one with a tokenizer and a simulator.
    game: a game or a variant of one, see `games.parse_variant`.
    player: whose actions are played, one of `PLAYERS`.
    config: settings of the diagnosis.
    make_emulator: (game) -> an emulator without sticky actions.
    searches: of `make_searches` with the same arguments; made by default.
    on_decision: called after each decision of all episodes.

  Raises:
    ValueError: see `make_searches`; or there is no such player.
    FloatingPointError: values are not finite.
  """
  if player not in PLAYERS:
    raise ValueError(f'player={player!r} is not in {PLAYERS}')
  searches = searches or make_searches(agent, game, config, make_emulator)
  tasks = np.full(config.episodes, _task_of(game), np.int32)
  games = _Games([make_emulator(game) for _ in tasks])
  state = sharding.put_beside(agent.variables, searches.greedy.init(tasks))
  compared = []
  for t in range(config.decisions):
    active = games.active
    if not active.any():
      break
    compare = config.compare_every > 0 and t % config.compare_every == 0
    able = set(PLAYERS) if compare else {player}
    chosen, state, q, branches, paths = _decide(
      agent, searches, config, games, state, able, t == 0
    )
    for actions in chosen.values():
      check_actions(actions, tasks)
    if compare:
      found = _compare(searches, state, branches, chosen, paths)
      compared.append([x[active] for x in found])
    keys = decision_keys(
      config.seed, tasks, np.arange(len(tasks)), np.full(len(tasks), t)
    )
    actions = epsilon_greedy(
      keys, chosen[player], searches.viewer.legal, config.epsilon
    )
    state = state.replace(actions=state.actions.at[:, -1].set(actions))
    best = jnp.max(jnp.where(searches.viewer.legal, q, -jnp.inf), axis=-1)
    games.step(np.asarray(actions), np.asarray(best))
    on_decision()
  if compared:
    compared = Compared(*map(np.concatenate, zip(*compared, strict=True)))
  return Played(games.episodes(), compared or None)


def _task_of(game: str) -> int:
  return games_lib.task_id(games_lib.parse_variant(game).game)


class _Games:
  """E games on their way."""

  def __init__(self, emulators: Sequence[Emulator]):
    self._emulators = emulators
    self.frames = [emulator.reset() for emulator in emulators]
    self.rewards = np.zeros(len(emulators), np.float32)  # of the last decision
    self._terminated = np.zeros(len(emulators), bool)
    self._truncated = np.zeros(len(emulators), bool)
    self._logs: list[list[tuple]] = [[] for _ in emulators]

  @property
  def active(self) -> np.ndarray:
    """Which have not ended, [E] bool."""
    return ~(self._terminated | self._truncated)

  def places(self) -> tuple[Place, ...]:
    return tuple(
      Place(emulator.clone_state(), *rest)
      for emulator, *rest in zip(
        self._emulators,
        self.frames,
        self._terminated,
        ~self.active,
        strict=True,
      )
    )

  def step(self, actions: np.ndarray, values: np.ndarray) -> None:
    """Plays actions [E] where games go on; values are noted beside them."""
    self.rewards[:] = 0
    for env in np.flatnonzero(self.active):
      outcome = self._emulators[env].step(int(actions[env]))
      self.frames[env] = outcome.frame
      self.rewards[env] = outcome.reward
      self._logs[env].append((outcome.reward, values[env], actions[env]))
      self._terminated[env] = outcome.terminated
      self._truncated[env] = outcome.truncated

  def episodes(self) -> list[Episode]:
    columns = [zip(*log, strict=True) for log in self._logs]
    return [
      Episode(
        np.array(rewards, float),
        np.array(values, np.float32),
        np.array(actions, np.int32),
        bool(self._terminated[env]),
        bool(self._truncated[env]),
      )
      for env, (rewards, values, actions) in enumerate(columns)
    ]


def _decide(agent, searches, config, games, state, able: set[str], first: bool):
  """What the able players choose, and what that was found from.

  That is the actions of each, the new state, Q at it, the emulator's search's
  `Branches` and, if all are able, the paths that both searches kept.
  """
  policy = searches.beam if 'model' in able else searches.greedy
  count = len(games.frames)
  model, state, info = policy.act(
    agent.variables,
    state,
    TimeStep(
      frames=jnp.asarray(np.stack(games.frames)),
      first=jnp.full(count, first),
      rewards=jnp.array(games.rewards),
    ),
    # Nothing is drawn with them.
    jax.random.split(jax.random.key(0), count),
  )
  q = info['q']
  legal = searches.viewer.legal
  greedy = jnp.argmax(jnp.where(legal, q, -jnp.inf), axis=-1)
  chosen = {
    'greedy': jnp.where(faulty(q, legal), -1, greedy),
    'model': model,
  }
  branches = paths = None
  if 'emulator' in able:
    memory, _ = searches.viewer.remember(state)
    branches = Branches(games.places(), memory)
    plan = beam_search(
      searches.world,
      q,
      branches,
      legal,
      width=config.width,
      horizon=config.horizon,
      gamma=searches.viewer.gamma,
      path_score=config.path_score,
    )
    chosen['emulator'] = plan.action
    if 'model' in able:
      paths = jnp.concatenate([info['plan'].paths, plan.paths], axis=1)
  chosen = {player: chosen[player] for player in PLAYERS if player in able}
  return chosen, state, q, branches, paths


def _compare(searches: _Searches, state, branches, chosen, paths) -> Compared:
  dreamed_rewards, dreamed_values = searches.dreamed(state, paths)
  real_rewards, real_values = planning_errors.follow(
    searches.world, branches, paths, searches.viewer.legal
  )
  return Compared(
    *(np.asarray(chosen[player], np.int32) for player in PLAYERS),
    paths=np.asarray(paths),
    dreamed_rewards=np.asarray(dreamed_rewards),
    real_rewards=np.asarray(real_rewards),
    dreamed_values=np.asarray(dreamed_values),
    real_values=np.asarray(real_values),
  )


def summarize(played: Played, gamma: float) -> Figures:
  """Scores and metrics; see `planning_errors` for the latter."""
  episodes = played.episodes
  scores = [float(episode.rewards.sum()) for episode in episodes]
  signs = [np.sign(episode.rewards) for episode in episodes]
  metrics = {
    'score': float(np.mean(scores)),
    'standard_error': standard_error(scores),
    'clipped_score': float(np.mean([sign.sum() for sign in signs])),
    'length': float(np.mean([len(sign) for sign in signs])),
    'ended': sum(e.terminated for e in episodes),
  }
  metrics |= planning_errors.return_metrics(
    [episode.values for episode in episodes],
    signs,
    [episode.terminated for episode in episodes],
    gamma,
  )
  if played.compared is not None:
    metrics |= planning_errors.planning_metrics(played.compared, gamma)
  return metrics
