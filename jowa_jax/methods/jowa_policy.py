"""How JOWA decides: greedily, or with a planner in its world model."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jowa_jax.methods.base import Policy
from jowa_jax.methods.transformer_policy import transformer_policy
from jowa_jax.models import world_action
from jowa_jax.models.world_action import WorldActionConfig
from jowa_jax.plan import dream, mcts
from jowa_jax.plan.base import faulty
from jowa_jax.plan.beam import beam_search
from jowa_jax.types import Context

_DREAMS = dict(horizon=2, decoder='parallel', shares=None, schedule=())
# What every planner can be told, and what it does untold.
PLANNERS = {
  'none': {},
  'beam': dict(_DREAMS, width=2),
  'mcts': dict(_DREAMS, num_simulations=20, temperature=1.0, choose_by='value'),
}
# What passes over a batch of dreams are packed into, `decode.parallel`.
SHARES = (0.5, 0.25)


def default_shares(decoder: str, environments: int) -> tuple[float, ...]:
  """Returns the shares of `decode.parallel` to decode with.

  The beams of one environment are packed. Several environments are not: what
  is decided in one would depend, by rounding, on how much changes in the
  others, and devices that divide them would have to exchange rows.
  """
  return SHARES if environments == 1 and decoder == 'parallel' else ()


def planners_with(option: str) -> list[str]:
  """Returns the planners that have an option."""
  return [name for name, options in PLANNERS.items() if option in options]


def make_policy(
  model: WorldActionConfig, encode: Callable
) -> Callable[..., Policy]:
  """Returns JOWA's `Method.policy`.

  Args:
    model: sizes.
    encode: (variables, frames [E, 84, 84]) -> tokens [E, K] int32.
  """

  def policy(
    *,
    planner: str = 'none',
    context_length: int | None = None,
    epsilon: float = 0.001,
    **options: Any,
  ) -> Policy:
    """Acts greedily ('none'), by beam search ('beam') or tree search ('mcts').

    Args:
      planner: one of `PLANNERS`.
      context_length: blocks of context; by default what the position table
        leaves beside the dreamed blocks (section 4.2).
      epsilon: share of random legal actions.
      **options: of the planner, see `PLANNERS`:
        width: beams kept.
        horizon: steps dreamed ahead; of a tree, the depth limit.
        decoder: see `dream.world_model`.
        shares: see `decode.parallel`; by default `default_shares`.
        schedule: see `decode.parallel`.
        num_simulations: nodes of a tree beside its root.
        temperature: of a tree's priors.
        choose_by: see `mcts.tree_search`.

    Raises:
      TypeError: there is no such option.
      ValueError: an option is out of its range or of another planner, or
        context and horizon together longer than the position table.
    """
    options = _complete(planner, options)
    horizon = options.get('horizon', 0)
    room = model.backbone.max_blocks - horizon
    length = room if context_length is None else context_length
    if length > room:
      raise ValueError(
        f'context_length={length} and horizon={horizon} do not fit into the '
        f'{model.backbone.max_blocks} blocks of the position table: at most '
        f'context_length={room}, or lower the horizon'
      )

    def decide(variables, context: Context, legal):
      params = world_action.in_compute_dtype(model, variables.params)
      memory, q = dream.remember(model, params, context)
      if planner == 'none':
        fault = faulty(q, legal)
        action = jnp.argmax(jnp.where(legal, q, -jnp.inf), axis=-1)
        return jnp.where(fault, -1, action), {'q': q}
      shares = options['shares']
      if shares is None:
        shares = default_shares(options['decoder'], len(context.tasks))
      simulator = dream.world_model(
        model,
        params,
        context.tasks,
        decoder=options['decoder'],
        shares=shares,
        schedule=options['schedule'],
      )
      if planner == 'beam':
        plan = beam_search(
          simulator,
          q,
          memory,
          legal,
          width=options['width'],
          horizon=horizon,
          gamma=model.returns.gamma,
        )
      else:
        plan = mcts.tree_search(
          simulator,
          q,
          memory,
          legal,
          # It breaks ties alone: the same each time, so that a decision does
          # not depend on what else is in the batch.
          jax.random.key(0),
          num_simulations=options['num_simulations'],
          depth_limit=horizon,
          gamma=model.returns.gamma,
          temperature=options['temperature'],
          choose_by=options['choose_by'],
        )
      return plan.action, {'q': q, 'plan': plan}

    return transformer_policy(
      encode, decide, model.backbone.tokens_per_frame, length, epsilon
    )

  return policy


def _complete(planner: str, options: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the planner's options, checked, with what it does untold."""
  if planner not in PLANNERS:
    raise ValueError(f'planner={planner!r} is not in {tuple(PLANNERS)}')
  for name in options.keys() - PLANNERS[planner].keys():
    if able := planners_with(name):
      raise ValueError(
        f'{name}={options[name]!r} needs planner={" or ".join(able)}, not '
        f'{planner}'
      )
    has = ', '.join(PLANNERS[planner]) or 'none'
    raise TypeError(f'There is no option {name!r}: planner={planner} has {has}')
  options = {**PLANNERS[planner], **options}
  if planner == 'none':
    return options
  dream.check_options(
    options['decoder'],
    shares=options['shares'] or (),
    schedule=options['schedule'],
  )
  if planner == 'beam':
    if options['width'] < 1 or options['horizon'] < 0:
      raise ValueError(
        f'width={options["width"]} must be at least 1 and '
        f'horizon={options["horizon"]} at least 0'
      )
  else:
    mcts.check_options(
      options['num_simulations'],
      options['horizon'],
      options['temperature'],
      options['choose_by'],
    )
  return options
