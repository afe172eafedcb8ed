"""Policies that play to make data: uniform random, and a search.

There is no DQN-Replay without a network. A search in the real emulator plays
well enough to stand in for DQN's later checkpoints; mixed with random
decisions it gives splits that run from poor to good, as DQN-Replay's do.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from jowa_jax import games
from jowa_jax.collect import ale_env

# Takes the environment and whether an episode has just begun; returns an index
# into the game's minimal actions.
Policy = Callable[[ale_env.AleEnv, bool], int]


@dataclasses.dataclass(frozen=True)
class Search:
  """Settings of the look-ahead teacher."""

  rollouts: int = 2  # random plays tried after each legal first action
  depth: int = 12  # decisions in a rollout, the first one included
  discount: float = 0.97  # per decision
  life_penalty: float = 100.0  # points that losing a life costs
  hold: int = 2  # decisions that each action of a rollout is held

  def __post_init__(self):
    if min(self.rollouts, self.depth, self.hold) < 1:
      raise ValueError(f'rollouts, depth and hold must be at least 1: {self}')


class _Teacher:
  """Random shooting: plays the action whose rollouts scored best.

  Most decisions of a game change nothing within a rollout's reach. Among
  equals the teacher takes turns, on from the action it played last: buttons
  are pressed and released, as shooting needs, and an imitator that sees the
  last action knows the next.
  """

  def __init__(
    self, game: str, rng: np.random.Generator, search: Search, sticky: float
  ):
    self._rng = rng
    self._search = search
    self._legal = np.array(games.LEGAL_ACTIONS[game])
    self._discounts = search.discount ** np.arange(search.depth)
    # Rollouts need no pixels, so the emulator itself skips the frames; its
    # state is the same whatever the frame skip.
    self._emulator = ale_env.make_emulator(
      game, int(rng.integers(2**31)), sticky, ale_env.FRAME_SKIP
    )

  def search(self, env: ale_env.AleEnv) -> np.ndarray:
    """Returns which actions are best, [A] bool."""
    search = self._search
    count = len(self._legal)
    chunks = -(-search.depth // search.hold)
    # The same random continuations after every first action: where the first
    # action makes no difference the values tie, and what is left is signal.
    tails = self._rng.integers(count, size=(1, search.rollouts, chunks))
    plans = np.repeat(tails, count, axis=0)
    plans[:, :, 0] = np.arange(count)[:, None]
    plans = np.repeat(plans, search.hold, axis=2)[:, :, : search.depth]
    state, lives = env.clone_state(), env.lives
    values = [
      sum(self._value(state, lives, plan) for plan in rollouts)
      for rollouts in self._legal[plans].tolist()
    ]
    return values == np.max(values)

  def _value(self, state, lives: int, actions: list[int]) -> float:
    """Returns a rollout's discounted reward; a lost life ends it."""
    emulator = self._emulator
    emulator.restoreState(state)
    value = 0.0
    for discount, action in zip(self._discounts, actions, strict=True):
      value += discount * emulator.act(action)
      if emulator.lives() < lives:
        return value - discount * self._search.life_penalty
      if emulator.game_over():
        break
    return value


class _EpsilonSearch:
  """The teacher's decisions, each with the chance epsilon of a random one."""

  def __init__(
    self,
    teacher: _Teacher,
    epsilon: float,
    rng: np.random.Generator,
    count: int,
  ):
    self._teacher = teacher
    self._epsilon = epsilon
    self._rng = rng
    self._count = count  # actions
    self._last = -1

  def __call__(self, env: ale_env.AleEnv, first: bool) -> int:
    if first:
      self._last = -1
    if self._rng.random() < self._epsilon:
      self._last = int(self._rng.integers(self._count))
    else:
      turns = (self._last + 1 + np.arange(self._count)) % self._count
      best = self._teacher.search(env)
      self._last = int(turns[np.argmax(best[turns])])
    return self._last


def make_policy(
  game: str,
  epsilon: float,
  seed: int | Sequence[int],
  search: Search | None = None,
  sticky: float = 0.0,
) -> Policy:
  """Returns a policy that mixes the look-ahead teacher with random play.

  Args:
    game: a name in `games.GAMES`.
    epsilon: the chance that a decision is uniform over the minimal actions;
      1 is random play, which needs no emulator of its own.
    seed: seeds every choice; equal seeds play equal games.
    search: the teacher's settings, its defaults if None.
    sticky: the sticky-action chance of the game that is played.

  Raises:
    ValueError: epsilon is no probability, or the game is unknown.
  """
  if not 0 <= epsilon <= 1:
    raise ValueError(f'epsilon is {epsilon}, not a probability')
  search = search or Search()
  rng = np.random.default_rng(seed)
  if epsilon == 1:
    count = len(games.LEGAL_ACTIONS[games.check_game(game)])
    return lambda env, first: int(rng.integers(count))
  teacher = _Teacher(game, rng, search, sticky)
  return _EpsilonSearch(teacher, epsilon, rng, len(games.LEGAL_ACTIONS[game]))


def relative_cost(game: str, epsilon: float, search: Search) -> float:
  """Returns a decision's expected emulator steps, to foretell durations."""
  rollouts = len(games.LEGAL_ACTIONS[game]) * search.rollouts
  return 1 + (1 - epsilon) * rollouts * search.depth
