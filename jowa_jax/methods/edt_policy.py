"""How EDT acts: it searches for the history that promises most.

Histories of several lengths, all ending at the current step, are read beside
each other: a long one knows more of what happened, and a short one is not bound
to what went wrong. The action is that of the history from which the high
expectile of the return is largest. All of them, of all environments, are rows
of one batch.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from jowa_jax.methods.acting import Acting, option
from jowa_jax.methods.base import Policy
from jowa_jax.methods.frame_policy import frame_policy
from jowa_jax.methods.return_sampling import gumbel, percentile
from jowa_jax.models import edt
from jowa_jax.models.edt import EdtBackbone, Window
from jowa_jax.plan.base import faulty
from jowa_jax.types import History


@dataclasses.dataclass(frozen=True)
class EdtActing(Acting):
  """How EDT acts.

  Attributes:
    kappa: how much likelier the highest return is an expert's than the lowest,
      in nats.
    history_stride: steps by which histories differ in length, the longest
      first.
    return_percentile: returns that score below this one are not drawn.
    assumed_return: told at every step before returns are drawn.
    greedy: whether the likeliest action is taken, not a drawn one.
    action_inverse_temperature: that the action is drawn with.
  """

  kappa: float = option(10.0, 'How far high returns are preferred.')
  history_stride: int = option(2, 'Steps by which histories differ (EDT).')
  return_percentile: float = option(
    15.0, 'Only returns that score above it are drawn (EDT).'
  )
  assumed_return: float = option(100.0, 'Told before one is drawn (EDT).')
  greedy: bool = option(False, 'Take the likeliest action (EDT).')
  action_inverse_temperature: float = option(
    1.0, 'That actions are drawn with.'
  )

  def __post_init__(self):
    if self.history_stride < 1:
      raise ValueError(f'history_stride={self.history_stride} is not positive')
    if not 0 <= self.return_percentile <= 100:
      raise ValueError(
        f'return_percentile={self.return_percentile} is not in [0, 100]'
      )
    if self.action_inverse_temperature <= 0:
      raise ValueError(
        f'action_inverse_temperature={self.action_inverse_temperature} is not '
        'positive'
      )

  @property
  def words(self) -> tuple[str, ...]:
    return (
      'search over histories',
      f'kappa {self.kappa:g}',
      f'stride {self.history_stride}',
    )


class Candidates(NamedTuple):
  """Histories of E environments, K of each: rows of one batch, E * K."""

  window: Window  # left-aligned, without returns; padding is black frames
  lengths: chex.Array  # [E, K] int32, steps with the current; < 1 for none


class Noise(NamedTuple):
  """Gumbel noise of a decision."""

  returns: chex.Array  # [E, K, T, bins]
  actions: chex.Array  # [E, A]


def candidates(history: History, stride: int) -> Candidates:
  """All histories that end at the current step, the longest first.

  They begin `stride` steps after each other, never before the episode.

  Args:
    history: of E environments, of which T steps are kept.
    stride: steps between their beginnings.
  """
  steps = history.actions.shape[1]
  offsets = jnp.arange(0, steps, stride)
  lengths = history.count[:, None] - offsets  # [E, K]
  places = (steps - lengths)[..., None] + jnp.arange(steps)  # [E, K, T]
  real = (places < steps) & (lengths >= 1)[..., None]

  def take(x):
    rows = jax.vmap(lambda a, i: jnp.take(a, i, axis=0, mode='clip'))(x, places)
    rows = jnp.where(real.reshape(*real.shape, *(1,) * (x.ndim - 2)), rows, 0)
    return rows.reshape(-1, *rows.shape[2:])

  actions = take(history.actions)
  return Candidates(
    window=Window(
      frames=take(history.seen),
      returns=jnp.zeros_like(actions),
      actions=actions,
    ),
    lengths=lengths,
  )


def return_scores(acting: EdtActing, logits: chex.Array) -> chex.Array:
  """What returns [..., bins] are drawn by: -inf where they score least."""
  scores = logits + acting.kappa * jnp.linspace(0.0, 1.0, logits.shape[-1])
  every = jnp.ones(scores.shape, bool)
  least = percentile(scores, every, acting.return_percentile)[..., None]
  return jnp.where(scores < least, -jnp.inf, scores)


def propose(
  config: EdtBackbone,
  acting: EdtActing,
  params: dict[str, Any],
  window: Window,
  noise: chex.Array,
) -> tuple[chex.Array, chex.Array, chex.Array]:
  """Draws returns at every step of R windows.

  Args:
    config: sizes.
    acting: how they are drawn.
    params: of the network.
    window: of which the returns are not read.
    noise: [R, T, bins].

  Returns:
    Logits and scores [R, T, bins], and the bins drawn, [R, T] int32.
  """
  assumed = edt.return_bins(config, acting.assumed_return)
  window = window._replace(returns=jnp.full_like(window.actions, assumed))
  logits, _, _ = edt.decision_outputs(config, params, window)
  scores = return_scores(acting, logits)
  return logits, scores, jnp.argmax(scores + noise, axis=-1)


def judge(
  config: EdtBackbone,
  params: dict[str, Any],
  window: Window,
  lengths: chex.Array,
) -> tuple[chex.Array, chex.Array]:
  """Expectiles [R] and action logits [R, A] at the last steps of windows.

  Args:
    config: sizes.
    params: of the network.
    window: of R rows, with returns.
    lengths: [R] int32, of the windows; anything where there is none.
  """
  _, expectiles, actions = edt.decision_outputs(config, params, window)
  rows, last = jnp.arange(len(lengths)), jnp.maximum(lengths - 1, 0)
  return expectiles[rows, last], actions[rows, last]


def decide(
  config: EdtBackbone,
  acting: EdtActing,
  params: dict[str, Any],
  history: History,
  legal: chex.Array,
  noise: Noise,
) -> tuple[chex.Array, dict[str, chex.Array]]:
  """The actions of a decision, see `frame_policy.Decide`."""
  found = candidates(history, acting.history_stride)
  shape = found.lengths.shape  # [E, K]
  rows = noise.returns.reshape(-1, *noise.returns.shape[2:])
  _, _, bins = propose(config, acting, params, found.window, rows)
  expectiles, logits = judge(
    config,
    params,
    found.window._replace(returns=bins),
    found.lengths.reshape(-1),
  )
  expectiles = jnp.where(
    found.lengths >= 1, expectiles.reshape(shape), -jnp.inf
  )
  best = jnp.argmax(expectiles, axis=-1)
  logits = logits.reshape(*shape, -1)[jnp.arange(shape[0]), best]
  preferences = acting.action_inverse_temperature * jnp.where(
    legal, logits, -jnp.inf
  )
  drawn = preferences if acting.greedy else preferences + noise.actions
  actions = jnp.where(faulty(logits, legal), -1, jnp.argmax(drawn, axis=-1))
  lengths = jnp.take_along_axis(found.lengths, best[:, None], axis=1)[:, 0]
  return actions, {
    'expectiles': expectiles,
    'history_length': lengths,
    'logits': logits,
  }


def draw_noise(
  config: EdtBackbone, acting: EdtActing, keys: chex.PRNGKey
) -> Noise:
  """The noise of a decision, of environments' own keys [E]."""
  count = len(range(0, config.steps, acting.history_stride))
  keys = jax.vmap(jax.random.split)(keys)
  return Noise(
    returns=gumbel(keys[:, 0], (count, config.steps, config.return_bins)),
    actions=gumbel(keys[:, 1], (config.num_actions,)),
  )


def make_policy(config: EdtBackbone, options: Mapping[str, Any]) -> Policy:
  """EDT's policy with some of the options of `EdtActing`."""
  return frame_policy(config, EdtActing.of(options), draw_noise, decide)
