"""JOWA's world model as a `Simulator`: all that others may ask of it."""

import chex
import jax
import jax.numpy as jnp

from jowa_jax.methods import jowa_dreams
from jowa_jax.methods.base import Foresight, Simulator, Variables
from jowa_jax.methods.jowa_losses import next_tokens
from jowa_jax.models import world_action
from jowa_jax.models.world_action import WorldActionConfig
from jowa_jax.types import History


def make_simulator(model: WorldActionConfig) -> Simulator:
  """JOWA's `Method.simulator`."""

  def remember(variables: Variables, context: History):
    params = world_action.in_compute_dtype(model, variables.params)
    return jowa_dreams.remember(model, params, context)

  def world(
    variables: Variables,
    tasks: chex.Array,
    temperature: float | chex.Array = 0.0,
  ):
    params = world_action.in_compute_dtype(model, variables.params)
    return jowa_dreams.world_model(
      model, params, tasks, temperature=temperature
    )

  def foresee(
    variables: Variables,
    tokens: chex.Array,
    actions: chex.Array,
    tasks: chex.Array,
  ) -> Foresight:
    # Attention is causal: this pass over a dream reads the same states as
    # dreaming it did.
    params = variables.params
    hidden = world_action.hidden_states(
      model.backbone, params['backbone'], tokens, actions, tasks
    )
    logits = world_action.world_logits(
      model.backbone, params['world_heads'], hidden
    )
    return Foresight(
      tokens=next_tokens(logits.observations),
      rewards=jax.nn.softmax(logits.rewards.astype(jnp.float32)),
      ends=jax.nn.softmax(logits.ends.astype(jnp.float32))[..., 1],
    )

  return Simulator(
    max_steps=model.backbone.max_blocks,
    gamma=model.returns.gamma,
    remember=remember,
    world=world,
    foresee=foresee,
    search=lambda width, horizon, path_score='leaf': dict(
      planner='beam', width=width, horizon=horizon, path_score=path_score
    ),
  )
