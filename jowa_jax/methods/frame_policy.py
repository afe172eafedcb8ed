"""The policy of a decision transformer: noise is drawn, then it decides."""

from collections.abc import Callable
from typing import Any, Protocol

import chex
import jax
import jax.numpy as jnp

from jowa_jax.methods.acting import Acting
from jowa_jax.methods.base import Policy
from jowa_jax.methods.history_policy import history_policy
from jowa_jax.models.frame_tokens import FrameBackbone
from jowa_jax.types import FRAME_SHAPE, History


class Decide(Protocol):
  """How a decision follows from what was seen and from noise."""

  def __call__(
    self,
    config: Any,
    acting: Any,
    params: dict[str, Any],
    history: History,
    legal: chex.Array,
    noise: Any,
  ) -> tuple[chex.Array, dict[str, chex.Array]]:
    """Actions [E], -1 where there is none, and what they were drawn from.

    Args:
      config: sizes.
      acting: how returns and actions are drawn.
      params: of the network.
      history: of E environments.
      legal: [E, A] bool.
      noise: what is drawn by.
    """
    ...


def frame_policy(
  config: FrameBackbone,
  acting: Acting,
  draw_noise: Callable[[Any, Any, chex.PRNGKey], Any],
  decide: Decide,
  reads_rewards: bool = False,
) -> Policy:
  """A policy on a window of frames.

  Args:
    config: sizes.
    acting: how it acts.
    draw_noise: (config, acting, keys [E]) -> the noise of a decision.
    decide: see `Decide`.
    reads_rewards: whether it reads past rewards.
  """

  def choose(variables, history, legal, keys):
    noise = draw_noise(config, acting, keys)
    return decide(config, acting, variables.params, history, legal, noise)

  return history_policy(
    lambda variables, frames: frames,
    choose,
    jax.ShapeDtypeStruct(FRAME_SHAPE, jnp.uint8),
    config.steps,
    acting.epsilon,
    reads_rewards,
  )
