"""The world model as an environment of Gymnasium: nothing real is played.

An episode begins with real frames, goes on as the model dreams, and ends where
it dreams an end, or at a horizon. All environments are one batch on the device:
a step is one compiled call, however many there are.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import chex
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from jowa_jax import games as games_lib
from jowa_jax.envs import dreaming
from jowa_jax.envs.dream_program import Program, Rules, State
from jowa_jax.methods.base import Simulator, Tokenizer, Variables
from jowa_jax.types import FRAME_SHAPE, History

OBSERVATIONS = ('frames', 'tokens')
_ENCODED_AT_ONCE = 64


class Dreamer(Protocol):
  """What is needed of an agent, such as `jowa_jax.agent.Agent`."""

  variables: Variables
  tokenizer: Tokenizer
  simulator: Simulator


class Contexts(NamedTuple):
  """Real pieces of play that dreams begin with, of C steps."""

  frames: np.ndarray  # [N, C, 84, 84] uint8
  actions: np.ndarray  # [N, C] int32, taken at the frames; the last is not read


class DreamVectorEnv(gymnasium.vector.VectorEnv):
  """E dreamed environments of a game, stepped together on the device.

  Rewards are in {-1, 0, 1}, as the model learned them. Environment i of a reset
  with seed s does what environment 0 does of one with seed s + i.

  Attributes:
    game: that is dreamed.
    legal: what an environment's actions are of the shared 18.
  """

  metadata = {
    'render_modes': ['rgb_array'],
    'render_fps': 15,
    'autoreset_mode': AutoresetMode.NEXT_STEP,
  }

  def __init__(
    self,
    agent: Dreamer,
    game: str,
    contexts: Contexts,
    num_envs: int = 1,
    *,
    horizon: int = 100,
    observations: str = 'frames',
    temperature: float = 0.0,
    ends: float = 0.5,
    full_action_space: bool = False,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    render_mode: str | None = None,
  ):
    """Encodes the contexts; steps are compiled as they are first taken.

    Args:
      agent: one with a tokenizer and a simulator.
      game: in `games.GAMES`.
      contexts: that episodes begin with, drawn with equal chances.
      num_envs: E.
      horizon: steps after which an episode is truncated.
      observations: 'frames', [84, 84] uint8, or 'tokens', [K] int64.
      temperature: of what is dreamed; 0 dreams what is likeliest.
      ends: probability above which a dreamed end is one.
      full_action_space: whether actions are all 18, or the game's own.
      autoreset_mode: of Gymnasium's; see there.
      render_mode: 'rgb_array', or None.

    Raises:
      ValueError: the agent cannot dream, or an argument cannot be.
    """
    simulator, tokenizer = agent.simulator, agent.tokenizer
    window = dreaming.window_length(simulator)
    _check(horizon, observations, temperature, render_mode, num_envs)
    _check_contexts(contexts, window)
    self.game = games_lib.check_game(game)
    self.legal = np.arange(games_lib.NUM_ACTIONS, dtype=np.int32)
    if not full_action_space:
      self.legal = np.array(games_lib.LEGAL_ACTIONS[game], np.int32)
    self.num_envs, self.render_mode = num_envs, render_mode
    self.autoreset_mode = AutoresetMode(autoreset_mode)
    self.metadata = {**self.metadata, 'autoreset_mode': self.autoreset_mode}
    seen = _encode(agent, contexts.frames)
    task = jnp.full(len(seen), games_lib.task_id(game), jnp.int32)
    starts = History(
      seen=seen,
      actions=jnp.asarray(contexts.actions, jnp.int32),
      count=jnp.full(len(seen), seen.shape[1], jnp.int32),
      tasks=task,
    )
    self._starts = dreaming.last(starts, window)
    self._variables = agent.variables
    self._state: State | None = None
    self._shown: np.ndarray | None = None
    self._spaces(observations, seen.shape[-1], tokenizer.vocab_size)
    program = Program(
      tokenizer, simulator, observations == 'tokens', temperature
    )
    self._reset, self._step = program.reset, program.step_next
    if self.autoreset_mode is AutoresetMode.SAME_STEP:
      self._step = program.step_same
    self._rules = Rules(
      np.int32(horizon),
      np.float32(ends),
      np.bool_(self.autoreset_mode is not AutoresetMode.DISABLED),
    )
    self._tokenizer = tokenizer

  def _spaces(self, observations: str, tokens: int, vocabulary: int) -> None:
    if observations == 'frames':
      single = gymnasium.spaces.Box(0, 255, FRAME_SHAPE, np.uint8)
    else:
      single = gymnasium.spaces.MultiDiscrete(np.full(tokens, vocabulary))
    self.single_observation_space = single
    self.single_action_space = gymnasium.spaces.Discrete(len(self.legal))
    self.observation_space = batch_space(single, self.num_envs)
    self.action_space = batch_space(self.single_action_space, self.num_envs)

  def reset(
    self,
    *,
    seed: int | Sequence[int | None] | None = None,
    options: dict[str, Any] | None = None,
  ) -> tuple[np.ndarray, dict[str, Any]]:
    """Begins episodes.

    Args:
      seed: s, for seeds s, s + 1, ...; or one for each environment, None to go
        on with what it drew last.
      options: 'reset_mask', [E] bool, which begin; all by default.

    Returns:
      Observations [E, ...], and no more.
    """
    mask = np.ones(self.num_envs, bool)
    if options and 'reset_mask' in options:
      mask = options['reset_mask']
      if mask.shape != (self.num_envs,) or mask.dtype != bool or not mask.any():
        raise ValueError(
          f'reset_mask must be [{self.num_envs}] bool, true somewhere'
        )
    elif isinstance(seed, int | None):
      super().reset(seed=seed)
    if self._state is None and not mask.all():
      raise ValueError('The first reset is of all environments')
    seeds, seeded = self._seeds(seed)
    self._state, observations = self._reset(
      *(self._variables, self._starts, self._first_state()),
      *(seeds, seeded & mask, mask),
    )
    self._shown = None
    return _on_host(observations, self.single_observation_space), {}

  def step(
    self, actions: Any
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
    """Takes a step in every environment.

    Args:
      actions: [E] integers, each below the number of actions.

    Returns:
      Observations [E, ...], rewards [E] float64, terminated [E] bool, truncated
      [E] bool, and 'final_obs' where episodes ended and began in one step.

    Raises:
      ValueError: an action is out of range, or an environment has to be reset.
    """
    if self._state is None:
      raise ValueError('Reset the environments before the first step')
    actions = np.asarray(actions)
    if actions.shape != (self.num_envs,) or actions.dtype.kind not in 'iu':
      raise ValueError(f'actions must be integers [{self.num_envs}]')
    if not ((actions >= 0) & (actions < len(self.legal))).all():
      raise ValueError(f'actions must be from 0 to {len(self.legal) - 1}')
    disabled = self.autoreset_mode is AutoresetMode.DISABLED
    if disabled and np.asarray(self._state.ended).any():
      raise ValueError('An episode has ended: reset it, with a reset_mask')
    self._state, outcome = self._step(
      *(self._variables, self._starts, self._rules, self._state),
      self.legal[actions],
    )
    rewards, terminated, truncated = jax.device_get(outcome[1:4])
    info: dict[str, Any] = {}
    ended = terminated | truncated
    if self.autoreset_mode is AutoresetMode.SAME_STEP and ended.any():
      final = _on_host(outcome.final, self.single_observation_space)
      objects = np.full(self.num_envs, None, object)
      for row in np.flatnonzero(ended):
        objects[row] = final[row]
      info = {
        'final_obs': objects,
        '_final_obs': ended.copy(),
        'final_info': {},
        '_final_info': ended.copy(),
      }
    observations = _on_host(outcome.observations, self.single_observation_space)
    return observations, rewards.astype(float), terminated, truncated, info

  def render(self) -> tuple[np.ndarray, ...] | None:
    """The frames that are seen, [84, 84, 3] uint8 each."""
    if self.render_mode is None or self._state is None:
      return None
    frames = np.asarray(
      _apply(
        self._tokenizer.decode,
        self._variables,
        self._state.history.seen[:, -1],
      )
    )
    return tuple(np.repeat(frame[..., None], 3, axis=-1) for frame in frames)

  def _first_state(self) -> State:
    if self._state is not None:
      return self._state
    entropy = np.random.SeedSequence().generate_state(self.num_envs)
    rows = jnp.zeros(self.num_envs, jnp.int32)
    state = State(
      history=jax.tree.map(lambda x: x[rows], self._starts),
      steps=rows,
      ended=rows.astype(bool),
      keys=jax.vmap(jax.random.key)(entropy),
    )
    # Beside the parameters, as the states that follow are.
    place = jax.tree.leaves(self._variables)[0].sharding
    return jax.device_put(state, place)

  def _seeds(self, seed: Any) -> tuple[np.ndarray, np.ndarray]:
    """Seeds [E] uint32, and which of them are given, [E] bool."""
    if seed is None or isinstance(seed, int | np.integer):
      given = [None if seed is None else seed + i for i in range(self.num_envs)]
    else:
      given = list(seed)
    if len(given) != self.num_envs:
      raise ValueError(f'{len(given)} seeds for {self.num_envs} environments')
    return (
      np.array([(one or 0) % 2**32 for one in given], np.uint32),
      np.array([one is not None for one in given]),
    )


class DreamEnv(gymnasium.Env):
  """One dreamed environment; see `DreamVectorEnv`.

  Attributes:
    game: that is dreamed.
    legal: what its actions are of the shared 18.
  """

  metadata = {'render_modes': ['rgb_array'], 'render_fps': 15}

  def __init__(
    self, agent: Dreamer, game: str, contexts: Contexts, **options: Any
  ):
    """Makes the environment.

    Args:
      agent: one with a tokenizer and a simulator.
      game: in `games.GAMES`.
      contexts: that episodes begin with.
      **options: of `DreamVectorEnv`, but for the number of environments and
        the autoreset mode.
    """
    self._envs = DreamVectorEnv(
      agent, game, contexts, 1, autoreset_mode=AutoresetMode.DISABLED, **options
    )
    self.game, self.legal = game, self._envs.legal
    self.render_mode = self._envs.render_mode
    self.observation_space = self._envs.single_observation_space
    self.action_space = self._envs.single_action_space

  def reset(
    self, *, seed: int | None = None, options: dict[str, Any] | None = None
  ) -> tuple[np.ndarray, dict[str, Any]]:
    """Begins an episode; returns its last real frame, as an observation."""
    super().reset(seed=seed)
    observations, info = self._envs.reset(seed=seed)
    return observations[0], info

  def step(
    self, action: Any
  ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
    """Takes a step, see `gymnasium.Env.step`."""
    observations, rewards, terminated, truncated, info = self._envs.step(
      np.array([action])
    )
    return (
      *(observations[0], float(rewards[0])),
      *(bool(terminated[0]), bool(truncated[0]), info),
    )

  def render(self) -> np.ndarray | None:
    """The frame that is seen, [84, 84, 3] uint8."""
    frames = self._envs.render()
    return None if frames is None else frames[0]


@functools.partial(jax.jit, static_argnums=0)
def _apply(function: Callable, variables: Variables, x: chex.Array):
  return function(variables, x)


def _on_host(observations: chex.Array, space: gymnasium.Space) -> np.ndarray:
  # A copy, since what JAX shows cannot be written to.
  return np.array(observations, space.dtype)


def _encode(agent: Dreamer, frames: np.ndarray) -> chex.Array:
  """The tokens of contexts, [N, C, K] int32, in batches of one size."""
  encode = agent.tokenizer.encode
  flat = frames.reshape(-1, *FRAME_SHAPE)
  parts = []
  for start in range(0, len(flat), _ENCODED_AT_ONCE):
    part = flat[start : start + _ENCODED_AT_ONCE]
    padding = ((0, _ENCODED_AT_ONCE - len(part)), (0, 0), (0, 0))
    encoded = _apply(encode, agent.variables, np.pad(part, padding))
    parts.append(encoded[: len(part)])
  tokens = jnp.concatenate(parts)
  return tokens.reshape(*frames.shape[:2], -1)


def _check(
  horizon: int, observations: str, temperature: float, render: Any, envs: int
) -> None:
  """Raises ValueError where an argument cannot be."""
  if horizon < 1 or envs < 1 or temperature < 0:
    raise ValueError(
      f'horizon={horizon} and num_envs={envs} must be at least 1 and '
      f'temperature={temperature} at least 0'
    )
  if observations not in OBSERVATIONS:
    raise ValueError(f'observations={observations!r} is not in {OBSERVATIONS}')
  if render not in (None, 'rgb_array'):
    raise ValueError(f"render_mode={render!r} is neither None nor 'rgb_array'")


def _check_contexts(contexts: Contexts, window: int) -> None:
  """Raises ValueError unless there are contexts that fit into the window."""
  frames, actions = contexts
  if frames.shape[2:] != FRAME_SHAPE or frames.dtype != np.uint8:
    raise ValueError(
      f'frames are {frames.dtype} {frames.shape}, not uint8 [N, C, 84, 84]'
    )
  if actions.shape != frames.shape[:2] or not len(frames):
    raise ValueError(
      f'{frames.shape[:2]} frames need as many actions, not {actions.shape}, '
      'and at least one context'
    )
  if not 1 <= frames.shape[1] <= window:
    raise ValueError(
      f'Contexts of {frames.shape[1]} frames do not fit into the {window} that '
      'a dream remembers'
    )
