"""The real emulator in place of the world model: what a perfect one would see.

Planners take a `WorldModel`. This one plays cloned states of the emulator on
the host; its frames are encoded by the agent, which values them after what was
really seen. A search in it errs only where the agent's values do.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jowa_jax import games as games_lib
from jowa_jax.agent import Agent
from jowa_jax.plan.base import Dream, WorldModel
from jowa_jax.types import History


class Emulator(Protocol):
  """An emulator whose state is in reach, such as `envs.ale.AleEnv`."""

  def reset(self) -> np.ndarray:
    """Starts an episode; returns its first frame, [84, 84] uint8."""

  def step(self, action: int) -> Any:
    """An outcome: frame, reward, terminated, truncated."""

  def clone_state(self) -> Any:
    """All that the next steps depend on."""

  def restore_state(self, state: Any) -> None:
    """Goes back to a state, of this or another emulator of the game."""


class Place(NamedTuple):
  """A state of the game, and what it shows."""

  state: Any  # of the emulator
  frame: np.ndarray  # [84, 84] uint8
  terminated: bool = False  # the game is over
  stopped: bool = False  # it is over, or the episode is out of frames


class Branches(NamedTuple):
  """The memory of N sequences: where they are, and what the agent has seen."""

  places: tuple[Place, ...]
  seen: Any


class Eyes(NamedTuple):
  """What the agent makes of frames.

  Attributes:
    look: (seen by N, frames [M, 84, 84], actions [M] that led to them) ->
      (tokens [M, K], Q [M, A], seen by M).
    take_rows: (seen, rows [M]) -> that of those sequences, see `WorldModel`.
  """

  look: Callable[
    [Any, np.ndarray, chex.Array], tuple[chex.Array, chex.Array, Any]
  ]
  take_rows: Callable[[Any, chex.Array], Any]


def emulator_world(
  emulator: Emulator, eyes: Eyes, count_ends: bool = True
) -> WorldModel:
  """The emulator as a world model; its functions cannot be compiled.

  Rewards are signs, as the model's. All frames of a level are looked at in one
  batch. Where an episode has stopped, its last place stays, without reward.

  Args:
    emulator: played in; it must not be the one that the episode is played in.
      Without sticky actions, which are no part of a state.
    eyes: what the agent makes of frames.
    count_ends: a state after game over is worth 0. If false it is worth what
      the agent takes the frame before for: ends go unseen as in dreams.
  """

  def play(place: Place, action: int) -> tuple[float, Place]:
    if place.stopped:
      return 0.0, place
    emulator.restore_state(place.state)
    outcome = emulator.step(action)
    stopped = outcome.terminated or outcome.truncated
    # A decision that an end cuts short may show what other branches left.
    frame = place.frame if stopped else outcome.frame
    state = emulator.clone_state()
    after = Place(state, frame, outcome.terminated, stopped)
    return float(np.sign(outcome.reward)), after

  def step(memory: Branches, actions: chex.Array, key: None = None) -> Dream:
    if key is not None:
      raise ValueError('The emulator draws nothing: give no key')
    copies = len(actions) // len(memory.places)
    # Children that do not exist repeat their siblings: they are played once.
    played: dict[tuple[int, int], tuple[float, Place]] = {}
    keys = [(i // copies, int(a)) for i, a in enumerate(np.asarray(actions))]
    for row, action in keys:
      if (row, action) not in played:
        played[row, action] = play(memory.places[row], action)
    rewards, places = zip(*(played[key] for key in keys), strict=True)
    tokens, q, seen = eyes.look(
      memory.seen, np.stack([place.frame for place in places]), actions
    )
    over = jnp.array([place.terminated for place in places])
    if count_ends:
      q = jnp.where(over[:, None], 0.0, q)
    return Dream(
      reward=jnp.array(rewards, jnp.float32),
      tokens=tokens,
      q=q,
      memory=Branches(places, seen),
      # No pass of the world model.
      runs=jnp.zeros((len(actions), 1), jnp.int32),
      end=over.astype(jnp.float32),
    )

  def take_rows(memory: Branches, rows: chex.Array) -> Branches:
    places = tuple(memory.places[row] for row in np.asarray(rows))
    return Branches(places, eyes.take_rows(memory.seen, rows))

  return WorldModel(dream=step, take_rows=take_rows)


class Viewer(NamedTuple):
  """An agent's compiled functions for a batch of environments of one game.

  Attributes:
    remember: (context) -> (memory, Q [E, A]), see `Simulator`.
    eyes: what `emulator_world` looks with.
    legal: actions that the games know, [E, A] bool.
    gamma: discount of the agent's values.
    max_steps: that context and horizon must fit into.
  """

  remember: Callable[[History], tuple[Any, chex.Array]]
  eyes: Eyes
  legal: chex.Array
  gamma: float
  max_steps: int


def make_viewer(agent: Agent, tasks: Sequence[int]) -> Viewer:
  """The functions of an agent.

  Args:
    agent: one with a tokenizer and a simulator.
    tasks: [E], the games of the environments.

  Raises:
    ValueError: the agent has none: there is nothing to compare the emulator
      with.
  """
  tokenizer, simulator = agent.tokenizer, agent.simulator
  variables = agent.variables
  tasks = jnp.array(tasks, jnp.int32)
  remember = jax.jit(simulator.remember)

  @jax.jit
  def look(variables, seen, frames, actions):
    tokens = tokenizer.encode(variables, frames)
    world = simulator.world(variables, tasks)
    q, seen = world.observe(seen, actions, tokens)
    return tokens, q, seen

  @jax.jit
  def take_rows(variables, seen, rows):
    return simulator.world(variables, tasks).take_rows(seen, rows)

  return Viewer(
    remember=lambda context: remember(variables, context),
    eyes=Eyes(
      look=lambda seen, frames, actions: look(variables, seen, frames, actions),
      take_rows=lambda seen, rows: take_rows(variables, seen, rows),
    ),
    legal=jnp.asarray(games_lib.legal_mask())[tasks],
    gamma=simulator.gamma,
    max_steps=simulator.max_steps,
  )
