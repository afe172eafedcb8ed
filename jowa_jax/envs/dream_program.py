"""What dreamed environments compute, as pure functions of all of them."""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jowa_jax.envs import dreaming
from jowa_jax.methods.base import Simulator, Tokenizer
from jowa_jax.types import History


@chex.dataclass(frozen=True)
class State:
  """Where E environments are."""

  history: History  # [E, W]
  steps: chex.Array  # [E] int32, of the episode
  ended: chex.Array  # [E] bool
  keys: chex.PRNGKey  # [E]


class Outcome(NamedTuple):
  """What a step led to, in E environments."""

  observations: chex.Array  # [E, ...]
  rewards: chex.Array  # [E] float32
  terminated: chex.Array  # [E] bool
  truncated: chex.Array  # [E] bool
  final: chex.Array  # [E, ...], observations before any was reset


class Rules(NamedTuple):
  """Numbers that programs are not compiled anew for."""

  horizon: chex.Numeric  # [] int32, steps after which episodes are truncated
  ends: chex.Numeric  # [] float32, probability above which an end is one
  resets: chex.Numeric  # [] bool, whether `step_next` begins what had ended


class Program(NamedTuple):
  """What is compiled, as pure functions; equal ones share what was compiled.

  Attributes:
    tokenizer: of the agent.
    simulator: of the agent.
    tokens: whether observations are tokens, or frames.
    temperature: of what is dreamed; 0 dreams what is likeliest.
  """

  tokenizer: Tokenizer
  simulator: Simulator
  tokens: bool
  temperature: float

  @functools.partial(jax.jit, static_argnums=0)
  def reset(self, variables, starts, state: State, seeds, seeded, mask):
    """Begins the masked episodes, where seeded with keys of the seeds."""
    fresh = jax.vmap(jax.random.key)(seeds)
    state = state.replace(keys=_where(seeded, fresh, state.keys))
    state = self._begin(starts, state, mask)
    return state, self._observe(variables, state)

  @functools.partial(jax.jit, static_argnums=0)
  def step_next(self, variables, starts, rules: Rules, state: State, actions):
    """A step; what had ended begins instead, where environments reset."""
    begins = state.ended & rules.resets
    state, rewards, terminated = self._dream(variables, rules, state, actions)
    state = self._begin(starts, state, begins)
    terminated &= ~begins
    truncated = (state.steps >= rules.horizon) & ~terminated & ~begins
    state = state.replace(ended=terminated | truncated)
    seen = self._observe(variables, state)
    rewards = jnp.where(begins, 0.0, rewards)
    return state, Outcome(seen, rewards, terminated, truncated, seen)

  @functools.partial(jax.jit, static_argnums=0)
  def step_same(self, variables, starts, rules: Rules, state: State, actions):
    """A step; what ends begins again at once."""
    state, rewards, terminated = self._dream(variables, rules, state, actions)
    truncated = (state.steps >= rules.horizon) & ~terminated
    final = self._observe(variables, state)
    state = self._begin(starts, state, terminated | truncated)
    seen = self._observe(variables, state)
    return state, Outcome(seen, rewards, terminated, truncated, final)

  def _begin(self, starts: History, state: State, mask) -> State:
    """Begins the masked episodes with contexts that are drawn."""
    keys = jax.vmap(jax.random.split)(state.keys)
    rows = jax.vmap(
      lambda key: jax.random.randint(key, (), 0, len(starts.count))
    )(keys[:, 1])
    return State(
      history=jax.tree.map(
        lambda new, old: _where(mask, new[rows], old), starts, state.history
      ),
      steps=jnp.where(mask, 0, state.steps),
      ended=state.ended & ~mask,
      keys=_where(mask, keys[:, 0], state.keys),
    )

  def _dream(self, variables, rules: Rules, state: State, actions):
    """A dreamed step of every environment: state, rewards, terminated."""
    if self.temperature:
      history, dream = self._draw(variables, state, actions)
    else:
      history, dream = dreaming.step(
        self.simulator, variables, state.history, actions
      )
    end = jnp.zeros(len(actions)) if dream.end is None else dream.end
    state = state.replace(history=history, steps=state.steps + 1)
    return state, dream.reward, end > rules.ends

  def _draw(self, variables, state: State, actions):
    """Of every environment by its own key, whatever the others do."""

    def one(history, action, key, step):
      history = jax.tree.map(lambda x: x[None], history)
      key = jax.random.fold_in(key, step)
      history, dream = dreaming.step(
        *(self.simulator, variables, history, action[None]),
        *(key, self.temperature),
      )
      return jax.tree.map(lambda x: x[0], (history, dream))

    return jax.vmap(one)(state.history, actions, state.keys, state.steps)

  def _observe(self, variables, state: State) -> chex.Array:
    tokens = state.history.seen[:, -1]
    if self.tokens:
      return tokens
    return self.tokenizer.decode(variables, tokens)


def _where(mask: chex.Array, new: chex.Array, old: chex.Array) -> chex.Array:
  """Rows of `new` where a mask [E] is true, else of `old`."""
  mask = mask.reshape(-1, *(1,) * (old.ndim - 1))
  return jnp.where(mask, new, old)
