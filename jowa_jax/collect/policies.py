"""Policies that play to make data: uniform random, a search, or a network.

Where DQN-Replay cannot be had, a search in the real emulator, or a network that
learned from its memory or from one that did (`networks`), plays well enough to
stand in for DQN's later checkpoints; mixed with random decisions they give
splits that run from poor to good, as DQN-Replay's do.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from jowa_jax import games
from jowa_jax.collect.networks import Network, NetworkPolicy
from jowa_jax.envs import ale

# Takes the environment and whether an episode has just begun; returns an index
# into the game's minimal actions.
Teacher = Callable[[ale.AleEnv, bool], int]
# Values that differ by less are equal.
_MARGIN = 1e-9


@dataclasses.dataclass(frozen=True)
class LookaheadConfig:
  """Settings of the look-ahead teacher.

  Attributes:
    depth: decisions that every action is tried for.
    every: decisions between searches; the action is held in between.
    discount: what a decision's delay leaves of a reward.
    life_penalty: points that losing a life costs.
  """

  depth: int = 16
  every: int = 2
  discount: float = 0.97
  life_penalty: float = 100.0

  def __post_init__(self):
    if min(self.depth, self.every) < 1:
      raise ValueError(f'depth and every must be at least 1: {self}')


def _legal_actions(game: str) -> tuple[int, ...]:
  """Those of a game or of a variant's."""
  return games.LEGAL_ACTIONS[games.parse_variant(game).game]


class _Lookahead:
  """Tries every action, held for a while, and plays the one that scores most.

  Nothing is drawn at random, so that what it plays is a function of the game's
  state and the last action, which a student can learn. Random continuations
  score as much and cannot be learned: by their luck another action looks best
  each time. Among equals the last action stays.
  """

  def __init__(
    self, game: str, seed: int, search: LookaheadConfig, sticky: float
  ):
    self._search = search
    self._legal = [int(action) for action in _legal_actions(game)]
    # Rollouts need no pixels, so the emulator itself skips the frames; its
    # state is the same whatever the frame skip.
    self._emulator = ale.make_emulator(game, seed, sticky, ale.FRAME_SKIP)
    self.forget()

  def forget(self) -> None:
    """Forgets the last action, as an episode begins."""
    self._last = 0
    self._held = 0  # decisions that the last action has been played for

  def deviate(self, action: int) -> None:
    """Takes note of an action that another chose, and searches again next."""
    self._last, self._held = action, 0

  def decide(self, env: ale.AleEnv) -> int:
    """An index into the game's minimal actions."""
    if self._held % self._search.every == 0:
      best = self.search(env)
      if not best[self._last]:
        self._last = int(np.argmax(best))
      self._held = 0
    self._held += 1
    return self._last

  def search(self, env: ale.AleEnv) -> np.ndarray:
    """Which actions are best, [A] bool."""
    state, lives = env.clone_state(), env.lives
    values = [self._value(state, lives, action) for action in self._legal]
    return np.array(values) >= np.max(values) - _MARGIN

  def _value(self, state, lives: int, action: int) -> float:
    """The discounted reward of holding an action on.

    Losing a life ends it.
    """
    emulator, search = self._emulator, self._search
    emulator.restoreState(state)
    value, discount = 0.0, 1.0
    for _ in range(search.depth):
      value += discount * emulator.act(action)
      if emulator.lives() < lives:
        return value - discount * search.life_penalty
      if emulator.game_over():
        break
      discount *= search.discount
    return value


class _EpsilonLookahead:
  """The teacher's decisions, each with the chance epsilon of a random one."""

  def __init__(
    self,
    teacher: _Lookahead,
    epsilon: float,
    rng: np.random.Generator,
    count: int,
  ):
    self._teacher = teacher
    self._epsilon = epsilon
    self._rng = rng
    self._count = count  # actions

  def __call__(self, env: ale.AleEnv, first: bool) -> int:
    if first:
      self._teacher.forget()
    if self._rng.random() < self._epsilon:
      action = int(self._rng.integers(self._count))
      self._teacher.deviate(action)
      return action
    return self._teacher.decide(env)


def make_policy(
  game: str,
  epsilon: float,
  seed: int | Sequence[int],
  search: LookaheadConfig | None = None,
  sticky: float = 0.0,
  network: Network | None = None,
) -> Teacher:
  """A policy that mixes a teacher with random play.

  Args:
    game: a game or a variant of one, see `games.parse_variant`.
    epsilon: the chance that a decision is uniform over the minimal actions;
      1 is random play, which needs no emulator of its own.
    seed: seeds every choice; equal seeds play equal games.
    search: the teacher's settings, its defaults if None.
    sticky: the sticky-action chance of the game that is played.
    network: the teacher, the look-ahead search if None.

  Raises:
    ValueError: epsilon is no probability, or the game is unknown.
  """
  if not 0 <= epsilon <= 1:
    raise ValueError(f'epsilon is {epsilon}, not a probability')
  search = search or LookaheadConfig()
  rng = np.random.default_rng(seed)
  if epsilon == 1:
    count = len(_legal_actions(game))
    return lambda env, first: int(rng.integers(count))
  if network:
    return NetworkPolicy(network, epsilon, rng)
  teacher = _Lookahead(game, int(rng.integers(2**31)), search, sticky)
  return _EpsilonLookahead(teacher, epsilon, rng, len(_legal_actions(game)))


def relative_cost(game: str, epsilon: float, search: LookaheadConfig) -> float:
  """A decision's expected emulator steps, to foretell durations."""
  steps = len(_legal_actions(game)) * search.depth
  # A random decision is followed by a search, however few went before it.
  searches = (1 - epsilon) * max(epsilon, 1 / search.every)
  return 1 + searches * steps
