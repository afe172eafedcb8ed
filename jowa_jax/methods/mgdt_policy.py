"""How MGDT acts: it draws a high return it expects, then an action for it.

A decision runs the first frame of the window alone, for the return, and then
what follows it: as many tokens as the window has up to the last return.
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
from jowa_jax.methods.return_sampling import (
  above_percentile,
  expert_scores,
  gumbel,
)
from jowa_jax.models import mgdt
from jowa_jax.models.mgdt import MgdtBackbone, Window
from jowa_jax.plan.base import faulty
from jowa_jax.types import History

# What each way of sampling does where nothing else is said: the paper's, and
# that of the authors' notebook.
SAMPLING: dict[str, dict[str, Any]] = {
  'expert': dict(
    kappa=10.0,
    return_samples=1,
    return_inverse_temperature=1.0,
    action_inverse_temperature=1.0,
    action_percentile=None,
  ),
  'notebook': dict(
    kappa=0.0,
    return_samples=128,
    return_inverse_temperature=0.75,
    action_inverse_temperature=1.0,
    action_percentile=50.0,
  ),
}
_WORDS = {
  'expert': 'expert sampling',
  'notebook': 'best of sampled returns',
}


@dataclasses.dataclass(frozen=True)
class MgdtActing(Acting):
  """How MGDT acts; what is None is left to `sampling`.

  Attributes:
    sampling: a name in `SAMPLING`.
    kappa: of expert sampling, see `return_sampling.expert_scores`.
    return_samples: returns that are drawn, of which the largest is wished for.
    return_inverse_temperature: that they are drawn with.
    action_inverse_temperature: that the action is drawn with.
    action_percentile: actions below this one, of the legal ones, are not drawn.
  """

  sampling: str = option('expert', 'Of MGDT.', SAMPLING)
  kappa: float | None = option(None, 'How far high returns are preferred.')
  return_samples: int | None = option(
    None, 'Returns drawn, of which the largest is taken.'
  )
  return_inverse_temperature: float | None = option(
    None, 'That returns are drawn with.'
  )
  action_inverse_temperature: float | None = option(
    None, 'That actions are drawn with.'
  )
  action_percentile: float | None = option(
    None, 'Of the legal actions, only those above it are drawn.'
  )

  def __post_init__(self):
    if self.sampling not in SAMPLING:
      raise ValueError(
        f'sampling={self.sampling!r} is not in {tuple(SAMPLING)}'
      )
    settings = self.settings
    for name in ('return_inverse_temperature', 'action_inverse_temperature'):
      if settings[name] <= 0:
        raise ValueError(f'{name}={settings[name]} is not positive')
    if settings['return_samples'] < 1:
      raise ValueError(
        f'return_samples={settings["return_samples"]} is not positive'
      )
    percent = settings['action_percentile']
    if percent is not None and not 0 <= percent <= 100:
      raise ValueError(f'action_percentile={percent} is not in [0, 100]')

  @property
  def settings(self) -> dict[str, Any]:
    """All options but `sampling`."""
    defaults = SAMPLING[self.sampling]
    given = {name: getattr(self, name) for name in defaults}
    return defaults | {k: v for k, v in given.items() if v is not None}

  @property
  def words(self) -> tuple[str, ...]:
    settings = self.settings
    words = [_WORDS[self.sampling], f'kappa {settings["kappa"]:g}']
    if settings['return_samples'] > 1:
      words.append(f'{settings["return_samples"]} returns')
    return tuple(words)


class Noise(NamedTuple):
  """Gumbel noise of a decision."""

  returns: chex.Array  # [E, samples, bins]
  actions: chex.Array  # [E, A]


def draw_noise(
  config: MgdtBackbone, acting: MgdtActing, keys: chex.PRNGKey
) -> Noise:
  """The noise of a decision, of environments' own keys [E]."""
  samples = acting.settings['return_samples']
  keys = jax.vmap(jax.random.split)(keys)
  return Noise(
    returns=gumbel(keys[:, 0], (samples, config.return_bins)),
    actions=gumbel(keys[:, 1], (config.num_actions,)),
  )


def window_of(history: History) -> Window:
  """What is read of a history, no return told.

  Steps before the episode are black frames with action and reward 0, as the
  network was trained with.
  """
  steps = history.actions.shape[1]
  real = jnp.arange(steps) >= steps - history.count[:, None]
  return Window(
    frames=jnp.where(real[..., None, None], history.seen, 0),
    returns=jnp.zeros_like(history.count),
    actions=jnp.where(real, history.actions, 0),
    rewards=jnp.where(real, history.rewards, 0.0),
  )


def decide(
  config: MgdtBackbone,
  acting: MgdtActing,
  params: dict[str, Any],
  history: History,
  legal: chex.Array,
  noise: Noise,
) -> tuple[chex.Array, dict[str, chex.Array]]:
  """The actions of a decision, see `frame_policy.Decide`."""
  settings = acting.settings
  window = window_of(history)
  returns, part = mgdt.expected_return(config, params, window)
  scores = settings['return_inverse_temperature'] * expert_scores(
    returns, settings['kappa']
  )
  samples = jnp.argmax(scores[:, None] + noise.returns, axis=-1)
  wished = samples.max(axis=-1)
  logits = mgdt.last_action(
    config, params, window._replace(returns=wished), part
  )
  allowed = legal
  if settings['action_percentile'] is not None:
    allowed = above_percentile(logits, legal, settings['action_percentile'])
  preferences = settings['action_inverse_temperature'] * jnp.where(
    allowed, logits, -jnp.inf
  )
  actions = jnp.argmax(preferences + noise.actions, axis=-1)
  fault = faulty(logits, legal) | ~jnp.isfinite(returns).all(axis=-1)
  return jnp.where(fault, -1, actions), {
    'return_logits': returns,
    'return_scores': scores,
    'return': wished + config.return_min,
    'logits': logits,
    'scores': preferences,
  }


def make_policy(config: MgdtBackbone, options: Mapping[str, Any]) -> Policy:
  """MGDT's policy with some of the options of `MgdtActing`."""
  return frame_policy(
    config,
    MgdtActing.of(options),
    draw_noise,
    decide,
    reads_rewards=True,
  )
