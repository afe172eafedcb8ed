"""What FICC's latent actions mean, and what following them looks like."""

from collections.abc import Mapping
from typing import Any

import chex
import jax.numpy as jnp
from jax import lax

from jowa_jax.methods import ficc_losses
from jowa_jax.methods.base import LatentActions, Variables
from jowa_jax.methods.ficc_losses import stacks_of, with_loss
from jowa_jax.models import ficc
from jowa_jax.models.ficc import Networks
from jowa_jax.types import FRAME_SHAPE, Segment

# Top-level parameters of the map: what is learned, and what is counted.
ACTION_MAP, ACTION_CODES = 'action_map', 'action_codes'


def latent_actions(params: Mapping[str, Any]) -> chex.Array:
  """The latent action of every action in every game, [60, A, D].

  The code that its transitions are told as most often, and what was learned
  beyond it.
  """
  chosen = ficc_losses.chosen_codes(params[ACTION_CODES]['counts'])
  codes = lax.stop_gradient(params['inverse']['codes'])
  return codes[chosen] + params[ACTION_MAP]['offset']


def told(networks: Networks, params: Mapping[str, Any], segments: Segment):
  """(states, codes, real actions, mask) of a segment's transitions.

  Args:
    networks: sizes.
    params: of the networks.
    segments: with their actions.

  Returns:
    States [T, B, 6, 6, C] and the others [T - 1, B], of what lies between two.
  """
  states = ficc.run(networks, params, 'encode', stacks_of(segments))
  _, codes, _ = ficc.run(networks, params, 'infer', states[:-1], states[1:])
  mask = segments.mask
  if segments.acted is not None:
    mask = mask & segments.acted
  mask = with_loss(mask)[:-1] & with_loss(segments.mask)[1:]
  return states, codes, with_loss(segments.actions)[:-1], mask


def make_latents(networks: Networks) -> LatentActions:
  """FICC's `Method.latents`: its inverse model, dynamics and decoder."""
  num_codes = networks.config.num_codes

  def counts(variables: Variables, segments: Segment) -> chex.Array:
    _, codes, actions, mask = told(networks, variables.params, segments)
    task = jnp.broadcast_to(segments.task, actions.shape)
    return ficc_losses.counted(num_codes, task, actions, codes, mask)

  def remember(variables: Variables, frames: chex.Array) -> chex.Array:
    stacks = jnp.moveaxis(frames, 1, -1)[None].astype(jnp.float32) / 255
    return ficc.run(networks, variables.params, 'encode', stacks)

  def follow(variables: Variables, states: chex.Array, latents: chex.Array):
    params = variables.params
    codes = params['inverse']['codes'][latents][None]
    states = ficc.run(networks, params, 'forward', states, codes)
    drawn = ficc.run(networks, params, 'draw', states)[0]
    edge = (ficc.CANVAS - FRAME_SHAPE[0]) // 2
    frames = drawn[:, edge:-edge, edge:-edge]
    return jnp.round(frames * 255).astype(jnp.uint8), states

  return LatentActions(
    count=num_codes,
    stack=ficc.STACK,
    told=counts,
    remember=remember,
    follow=follow,
  )
