"""A dream that does not end: the window that it is remembered by slides.

As long as the position table has room, a step is what `plan.imagine.unroll`
dreams from the same context. Once it is full, the oldest frame is forgotten
with every new one, and the rest is read again.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp

from jowa_jax.methods.base import Simulator, Variables
from jowa_jax.plan.base import Dream
from jowa_jax.types import History


def window_length(simulator: Simulator) -> int:
  """Steps that a dream remembers: all that leave room for one more."""
  return simulator.max_steps - 1


def last(history: History, length: int) -> History:
  """The last steps of a history, cut or padded on the left to a length."""

  def fit(x):
    have = x.shape[1]
    missing = [(0, 0)] * x.ndim
    missing[1] = (max(0, length - have), 0)
    return jnp.pad(x[:, max(0, have - length) :], missing)

  return history.replace(
    seen=jax.tree.map(fit, history.seen),
    actions=fit(history.actions),
    count=jnp.minimum(history.count, length),
  )


def append(history: History, actions: chex.Array, seen: Any) -> History:
  """A history one step later; the oldest step is forgotten if it is full.

  Args:
    history: of E environments, C steps.
    actions: [E] int32, taken at its last frame.
    seen: what is kept of the frames they led to, leaves [E, ...].
  """

  def shift(x, new):
    return jnp.concatenate([x[:, 1:], new[:, None].astype(x.dtype)], axis=1)

  taken = history.actions.at[:, -1].set(actions)
  return history.replace(
    seen=jax.tree.map(shift, history.seen, seen),
    actions=shift(taken, jnp.zeros_like(history.count)),
    count=jnp.minimum(history.count + 1, history.actions.shape[1]),
  )


def step(
  simulator: Simulator,
  variables: Variables,
  history: History,
  actions: chex.Array,
  key: chex.PRNGKey | None = None,
  temperature: float | chex.Array = 0.0,
) -> tuple[History, Dream]:
  """Dreams one step.

  Args:
    simulator: what dreams.
    variables: its parameters.
    history: of E environments, at most `window_length` steps.
    actions: [E] int32.
    key: of what is drawn; None if nothing is.
    temperature: see `Simulator.world`.

  Returns:
    The history with the step appended, and the step; its memory is None.
  """
  memory, _ = simulator.remember(variables, history)
  world = simulator.world(variables, history.tasks, temperature)
  dream = world.dream(memory, actions, key)
  return append(history, actions, dream.tokens), dream.replace(memory=None)
