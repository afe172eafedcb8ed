"""What a session computes, compiled once for all sessions of an agent.

Games are arguments of the programs, not parts of them: a session of another
game runs the same ones.
"""

import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jowa_jax import games as games_lib
from jowa_jax.agent import Agent
from jowa_jax.envs import dreaming
from jowa_jax.plan.beam import beam_search
from jowa_jax.train import sharding
from jowa_jax.types import FRAME_SHAPE, History


class Seen(NamedTuple):
  """What an agent makes of a frame of the emulator."""

  history: History  # [1, C], the frame last
  q: chex.Array  # [A] float32


class Step(NamedTuple):
  """A step of the dream, of one sequence."""

  history: History  # [1, W], the dreamed frame last
  tokens: chex.Array  # [K] int32
  frame: chex.Array  # [84, 84] uint8
  reward: chex.Array  # [] float32 in {-1, 0, 1}
  end: chex.Array  # [] float32, probability
  passes: chex.Array  # [] int32, of the world model


class Planned(NamedTuple):
  """What a planner found, best branch first."""

  action: chex.Array  # [] int32; -1 if values are not finite
  scores: chex.Array  # [B] float32, -inf where no branch is left
  paths: chex.Array  # [B, H] int32, actions
  rewards: chex.Array  # [B, H] float32
  frames: chex.Array  # [B, H, 84, 84] uint8


class Programs:
  """An agent's compiled functions for one sequence.

  Attributes:
    agent: whose they are.
    context: real frames that it acts on and that a dream begins with.
    window: steps that a dream remembers.
    max_horizon: steps that it can plan beside its context.
    planned: widths and horizons that plans were made with: others have to be
      compiled first.
  """

  def __init__(self, agent: Agent, context: int | None = None):
    """Prepares the functions; each is compiled as it is first called.

    Args:
      agent: one with a tokenizer and a simulator.
      context: by default half of what the simulator has room for.

    Raises:
      ValueError: the agent has none, or the context leaves no room to dream.
    """
    simulator, tokenizer = agent.simulator, agent.tokenizer
    room = simulator.max_steps
    if context is None:
      context = max(1, room // 2)
    if not 1 <= context < room:
      raise ValueError(
        f'context={context} must be at least 1 and below the {room} steps that '
        'the world model has room for'
      )
    self.agent, self.context = agent, context
    self.window = dreaming.window_length(simulator)
    self.max_horizon = room - context
    self.planned: set[tuple[int, int]] = set()
    self._tokens = jax.eval_shape(
      tokenizer.encode,
      agent.variables,
      jax.ShapeDtypeStruct((1, *FRAME_SHAPE), jnp.uint8),
    ).shape[1]
    self._see = jax.jit(functools.partial(_see, agent))
    self._look = jax.jit(functools.partial(_look, agent))
    self._view = jax.jit(functools.partial(dreaming.last, length=context))
    self._branch = jax.jit(functools.partial(dreaming.last, length=self.window))
    self._greedy = jax.jit(functools.partial(_dream, agent, False))
    self._drawn = jax.jit(functools.partial(_dream, agent, True))
    self._plan = jax.jit(functools.partial(_plan, agent), static_argnums=(3, 4))

  def empty(self, game: str) -> History:
    """The history of a game in which nothing was seen yet, [1, C]."""
    task = games_lib.task_id(games_lib.parse_variant(game).game)
    empty = History(
      seen=jnp.zeros((1, self.context, self._tokens), jnp.int32),
      actions=jnp.zeros((1, self.context), jnp.int32),
      count=jnp.zeros((1,), jnp.int32),
      tasks=jnp.array([task], jnp.int32),
    )
    return sharding.put_beside(self.agent.variables, empty)

  def see(self, history: History, action: int, frame: np.ndarray) -> Seen:
    """Appends a frame [84, 84] of the emulator, which an action led to."""
    return self._see(self.agent.variables, history, np.int32(action), frame)

  def branch(self, history: History) -> History:
    """The window of a dream that begins after a real history."""
    return self._branch(history)

  def view(self, history: History) -> History:
    """What the agent acts on of a dreamed history, [1, C]."""
    return self._view(history)

  def dream(
    self,
    history: History,
    action: int,
    seed: int,
    number: int,
    temperature: float,
  ) -> Step:
    """Dreams a step.

    Args:
      history: [1, W], of `branch` or the step before.
      action: taken at its last frame.
      seed: of the branch.
      number: of the step in it, from 0. Of a seed, steps draw what
        `plan.imagine.unroll` draws with `jax.random.key(seed)`.
      temperature: 0 dreams what is likeliest.
    """
    program = self._drawn if temperature else self._greedy
    return program(
      self.agent.variables,
      history,
      np.int32(action),
      np.uint32(seed),
      np.int32(number),
      np.float32(temperature),
    )

  def look(self, history: History) -> chex.Array:
    """Q values [A] at the last frame of a real history, or of a `view`."""
    return self._look(self.agent.variables, history)

  def plan(
    self, history: History, legal: np.ndarray, width: int, horizon: int
  ) -> Planned:
    """Plans at the last frame of a history; compiles for new numbers.

    Args:
      history: real, or a `view` of a dreamed one.
      legal: [A] bool.
      width: beams kept.
      horizon: steps, 1 to `max_horizon`.
    """
    plan = self._plan(self.agent.variables, history, legal, width, horizon)
    self.planned.add((width, horizon))
    return plan


def _see(agent: Agent, variables: Any, history, action, frame) -> Seen:
  tokens = agent.tokenizer.encode(variables, frame[None])
  history = dreaming.append(history, action[None], tokens)
  _, q = agent.simulator.remember(variables, history)
  return Seen(history, q[0])


def _look(agent: Agent, variables: Any, history) -> chex.Array:
  _, q = agent.simulator.remember(variables, history)
  return q[0]


def _dream(
  agent: Agent, drawn: bool, variables, history, action, seed, number, heat
) -> Step:
  key = jax.random.fold_in(jax.random.key(seed), number)
  history, dream = dreaming.step(
    agent.simulator,
    variables,
    history,
    action[None],
    jax.random.split(key)[1] if drawn else None,
    heat if drawn else 0.0,
  )
  frames = agent.tokenizer.decode(variables, dream.tokens)
  end = jnp.zeros(1) if dream.end is None else dream.end
  return Step(
    history,
    dream.tokens[0],
    frames[0],
    dream.reward[0],
    end[0],
    dream.passes[0],
  )


def _plan(agent: Agent, variables, history, legal, width, horizon) -> Planned:
  simulator = agent.simulator
  memory, q = simulator.remember(variables, history)
  plan = beam_search(
    simulator.world(variables, history.tasks),
    q,
    memory,
    legal[None],
    width=width,
    horizon=horizon,
    gamma=simulator.gamma,
  )
  frames = agent.tokenizer.decode(variables, plan.tokens[0])
  return Planned(
    plan.action[0], plan.scores[0], plan.paths[0], plan.rewards[0], frames
  )


def check_dreams(agent: Agent) -> None:
  """Raises ValueError if an agent's method cannot be stepped into."""
  for name in ('tokenizer', 'simulator'):
    if getattr(agent.method, name) is None:
      raise ValueError(
        f'{agent.config["method"]} has no {name}: there is nothing to step into'
      )
