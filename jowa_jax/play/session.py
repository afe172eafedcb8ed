"""One game played beside its dream, by a person or the agent.

Nothing here knows of a browser: a session is told what is pressed, and says
what a decision led to.
"""

import collections
import dataclasses
import time
import zlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jowa_jax import games as games_lib
from jowa_jax.collect.recordings import Recording
from jowa_jax.envs.ale import AleEnv, Outcome
from jowa_jax.methods.base import check_actions
from jowa_jax.play import episodes as episodes_lib
from jowa_jax.play import keys as keys_lib
from jowa_jax.play.episodes import Episode
from jowa_jax.play.programs import Planned, Programs
from jowa_jax.play.states import Scene, Settings, Shown, State, scene
from jowa_jax.types import History

# The game's own pace: 60 frames a second, four for a decision.
DECISIONS_PER_SECOND = 15
# What can be rewound and what can be saved, in decisions.
REWIND = 10 * DECISIONS_PER_SECOND
KEPT = 60 * DECISIONS_PER_SECOND
_EPISODES = 50
# Of a dreamed end, where it is taken to be one.
ENDS = 0.5


class Session:
  """A game and its dream, stepped together.

  The emulator is that of an evaluation: no sticky actions, no no-ops. It is
  used by one thread at a time.

  Attributes:
    game: a game or a variant.
    legal: the actions that it knows, of the shared 18.
    settings: which may be changed at any time between steps.
    state: what the next decision starts from.
  """

  def __init__(self, programs: Programs, game: str, seed: int = 0):
    """Begins an episode.

    Args:
      programs: of the agent; its sessions share them.
      game: a game that the agent was trained on, or a variant of one.
      seed: of what the dream draws.

    Raises:
      ValueError: the agent was not trained on the game.
    """
    name = check_trained(programs.agent, game)
    self.game = game
    self.legal = games_lib.LEGAL_ACTIONS[name]
    self.settings = Settings(horizon=min(2, programs.max_horizon))
    self._programs, self._seed = programs, seed
    self._mask = games_lib.legal_mask()[games_lib.task_id(name)]
    self._task = np.array([games_lib.task_id(name)])
    self._emulator = AleEnv(game)
    self._scenes: collections.deque[Scene] = collections.deque(maxlen=KEPT)
    self._moments: collections.deque[tuple[State, bytes]] = collections.deque(
      maxlen=REWIND
    )
    self._finished: collections.deque[Episode] = collections.deque(
      maxlen=_EPISODES
    )
    self._actions: list[int] = []
    self._seconds = 0.0
    # Of the emulator as it is, None once it moves.
    self._packed: bytes | None = None
    self.state = self._first_state(0, 0)

  @property
  def branch_seed(self) -> int:
    """What seeds the dream's steps since its last branch."""
    return (self._seed * 1_000_003 + self.state.branch) % 2**32

  @property
  def dream_on(self) -> bool:
    """Whether the emulator stands still and the dream goes on."""
    return self.state.dream_on

  @property
  def rewindable(self) -> int:
    """Decisions that can be taken back."""
    return len(self._moments)

  def step(self, keys: int = 0) -> Shown:
    """Takes a decision, in the game and in the dream.

    An episode that is over begins again first. While only the dream goes on, a
    dream that is over stands still until it is branched again.

    Args:
      keys: held by the person, see `keys.action_of`; others ignore them.

    Raises:
      ValueError: a setting is out of its range.
      FloatingPointError: the agent's values are not finite.
    """
    start = time.monotonic()
    began = self.state.over and not self.dream_on
    if began:
      self._begin_again()
    every = self.settings.branch_every
    if every and not self.dream_on and self.state.dreamed >= every:
      self.branch()
    before = self.state
    action, plan = self._choose(keys)
    self._moments.append((before, self._snapshot()))
    dream = self._programs.dream(
      before.window,
      action,
      self.branch_seed,
      before.dreamed,
      self.settings.temperature,
    )
    # The emulator runs while the dream is computed.
    outcome = None if self.dream_on else self._play(action)
    shown = self._after(action, plan, dream, outcome, began)
    self.state = shown.state
    self._scenes.append(scene(shown))
    self._seconds += time.monotonic() - start
    return shown

  def now(self) -> Shown:
    """How things are, without a decision."""
    return Shown(
      state=self.state,
      player=self.settings.player,
      action=None,
      reward=0,
      dream_reward=0.0,
      dream_end=0.0,
      passes=0,
      began=False,
      token_accuracy=None,
      pixel_error=None,
      plan=None,
    )

  def branch(self) -> None:
    """Begins the dream anew, from what the emulator really showed."""
    state = self.state
    self.state = dataclasses.replace(
      state,
      dream_on=False,
      window=self._programs.branch(state.history),
      dream_frame=state.frame,
      dream_tokens=state.tokens,
      dream_score=0.0,
      dream_over=False,
      branch=state.branch + 1,
      dreamed=0,
      q=self._q(state.history),
    )

  def set_dream_on(self, on: bool) -> None:
    """Lets the dream go on alone; afterwards it begins anew beside the game."""
    if self.dream_on and not on:
      self.branch()
    elif on and not self.dream_on:
      window = self._programs.view(self.state.window)
      self.state = dataclasses.replace(
        self.state, dream_on=True, q=self._q(window)
      )

  def rewind(self, decisions: int = REWIND) -> int:
    """Takes decisions back, of the game and of the dream.

    Args:
      decisions: at most so many; the episode's beginning is the end of it.

    Returns:
      How many were taken back.
    """
    back = min(decisions, len(self._moments))
    for _ in range(back):
      self.state, snapshot = self._moments.pop()
    if back:
      self._restore(snapshot)
      del self._actions[self.state.taken :]
      while self._scenes and self._scenes[-1].number > self.state.number:
        self._scenes.pop()
    return back

  def restart(self) -> None:
    """Begins another episode; the running one is kept as cut off."""
    if self._actions:
      self._begin_again()

  def scenes(self) -> Iterator[Scene]:
    """What was shown in the last minute, rewound decisions left out."""
    return iter(tuple(self._scenes))

  def recording(self) -> Recording:
    """The play of the session, as `launch.collect` replays and stores it.

    Its last episodes and what was played of the running one.

    Raises:
      ValueError: nothing was played, or the game is a variant, which data sets
        have no place for.
    """
    episodes = [*self._finished]
    if self._actions:
      episodes.append(self._episode())
    return episodes_lib.recording(self.game, episodes, self._seconds)

  def _first_state(self, number: int, branch: int) -> State:
    """The state of an episode that begins."""
    self._packed = None
    frame = self._emulator.reset()
    seen = self._programs.see(self._programs.empty(self.game), 0, frame)
    tokens, q = jax.device_get((seen.history.seen[0, -1], seen.q))
    return State(
      number=number,
      frame=frame,
      decided_on=frame,
      tokens=tokens,
      history=seen.history,
      score=0,
      over=False,
      terminated=False,
      taken=0,
      window=self._programs.branch(seen.history),
      dream_frame=frame,
      dream_tokens=tokens,
      dream_score=0.0,
      dream_over=False,
      branch=branch,
      dreamed=0,
      dream_on=False,
      q=q,
    )

  def _begin_again(self) -> None:
    self._finished.append(self._episode())
    self._actions.clear()
    self._moments.clear()
    self.state = self._first_state(self.state.number, self.state.branch + 1)

  def _choose(self, keys: int) -> tuple[int, Planned | None]:
    """The action of whoever plays, and the plan behind it."""
    settings = self.settings
    if settings.player == 'you':
      return keys_lib.action_of(keys, self.legal), None
    if settings.player == 'greedy':
      q = np.where(self._mask, self.state.q, -np.inf)
      action = int(q.argmax()) if np.isfinite(q[self._mask]).all() else -1
      return int(check_actions(np.array([action]), self._task)[0]), None
    horizon = settings.horizon
    if settings.width < 1 or not 1 <= horizon <= self._programs.max_horizon:
      raise ValueError(
        f'width={settings.width} must be at least 1 and horizon={horizon} from '
        f'1 to {self._programs.max_horizon}'
      )
    history = self.state.history
    if self.dream_on:
      history = self._programs.view(self.state.window)
    plan = jax.device_get(
      self._programs.plan(history, self._mask, settings.width, horizon)
    )
    return int(check_actions(plan.action[None], self._task)[0]), plan

  def _play(self, action: int) -> Outcome:
    self._actions.append(action)
    self._packed = None
    return self._emulator.step(action)

  def _after(
    self, action: int, plan: Any, dream: Any, outcome: Outcome | None, began
  ) -> Shown:
    """What a decision led to."""
    before = self.state
    stands = self.dream_on and before.dream_over
    if outcome is not None:
      seen = self._programs.see(before.history, action, outcome.frame)
      q = seen.q
    elif not stands:
      q = self._programs.look(self._programs.view(dream.history))
    values = jax.device_get(dream._replace(history=()))
    changes: dict[str, Any] = {}
    accuracy = error = None
    if not stands:
      over = before.dream_over or bool(values.end > ENDS)
      changes |= dict(
        window=dream.history,
        dream_frame=values.frame,
        dream_tokens=values.tokens,
        dream_score=before.dream_score + float(values.reward),
        dream_over=over,
        dreamed=before.dreamed + 1,
        q=np.asarray(q),
      )
    if outcome is not None:
      tokens = np.asarray(seen.history.seen)[0, -1]
      accuracy = float((values.tokens == tokens).mean())
      error = _pixel_error(values.frame, outcome.frame)
      changes |= dict(
        frame=outcome.frame,
        decided_on=before.frame,
        tokens=tokens,
        history=seen.history,
        score=before.score + outcome.reward,
        over=outcome.terminated or outcome.truncated,
        terminated=outcome.terminated,
        taken=before.taken + 1,
      )
    return Shown(
      state=dataclasses.replace(before, number=before.number + 1, **changes),
      player=self.settings.player,
      action=action,
      reward=0 if outcome is None else outcome.reward,
      dream_reward=0.0 if stands else float(values.reward),
      dream_end=float(values.end),
      passes=int(values.passes),
      began=began,
      token_accuracy=accuracy,
      pixel_error=error,
      plan=plan,
    )

  def _q(self, history: History) -> np.ndarray:
    return np.asarray(self._programs.look(history))

  def _snapshot(self) -> bytes:
    if self._packed is None:
      snapshot = self._emulator.snapshot()
      self._packed = zlib.compress(
        np.concatenate([x.reshape(-1) for x in snapshot.values()]), 1
      )
    return self._packed

  def _restore(self, packed: bytes) -> None:
    self._packed = packed
    data = np.frombuffer(zlib.decompress(packed), np.uint8)
    like = self._emulator.snapshot()
    size = data.size - like['screens'].size
    self._emulator.restore(
      {
        'emulator': data[:size],
        'screens': data[size:].reshape(like['screens'].shape),
      }
    )

  def _episode(self) -> Episode:
    state = self.state
    last = state.frame if state.terminated else state.decided_on
    return Episode(
      actions=np.array(self._actions, np.uint8),
      terminated=state.terminated,
      score=state.score,
      checksum=zlib.crc32(last.tobytes()),
    )


def check_trained(agent: Any, game: str) -> str:
  """The game of a game or variant, if an agent was trained on it.

  Raises:
    ValueError: it was not, or there is no such game.
  """
  name = games_lib.parse_variant(game).game
  if name not in agent.games:
    raise ValueError(
      f'The agent was not trained on {name}: choose among '
      f'{", ".join(agent.games)}'
    )
  return name


def warm_up(programs: Programs, game: str) -> None:
  """Compiles all that sessions run but for plans of other sizes."""
  session = Session(programs, game)
  for player, temperature in (('planning', 0.0), ('greedy', 1.0)):
    session.settings.player = player
    session.settings.temperature = temperature
    session.step()
    session.step()
  session.branch()
  session.set_dream_on(True)
  session.step()


def _pixel_error(a: np.ndarray, b: np.ndarray) -> float:
  return float(np.abs(a.astype(np.float32) - b).mean() / 255)
