"""The flags of scripts that act with a trained agent."""

from typing import Any

from absl import flags

from jowa_jax.methods.jowa_policy import PLANNERS, planners_with

_PLANNER = flags.DEFINE_enum('planner', None, list(PLANNERS), 'Of JOWA.')
_CONTEXT = flags.DEFINE_integer('context_length', None, 'Blocks of context.')
_OF_PLANNERS = (
  flags.DEFINE_integer('width', None, 'Beams kept (beam).'),
  flags.DEFINE_integer(
    'horizon', None, 'Steps dreamed ahead (beam); depth limit (mcts).'
  ),
  flags.DEFINE_integer('num_simulations', None, 'Nodes of a tree (mcts).'),
  flags.DEFINE_float('temperature', None, 'Of priors (mcts).'),
  flags.DEFINE_enum(
    'choose_by', None, ['value', 'visits'], 'Which child is played (mcts).'
  ),
)


def planner_options(checkpoint: str | None) -> dict[str, Any]:
  """Returns the options of `Agent.policy` that were given.

  Args:
    checkpoint: of the agent; None for random play.

  Raises:
    ValueError: an option is another planner's, or there is no agent.
  """
  for flag in _OF_PLANNERS:
    able = planners_with(flag.name)
    if flag.value is not None and _PLANNER.value not in able:
      raise ValueError(f'--{flag.name} needs --planner={" or ".join(able)}')
  options = {
    flag.name: flag.value
    for flag in (_PLANNER, _CONTEXT, *_OF_PLANNERS)
    if flag.value is not None
  }
  if options and checkpoint is None:
    raise ValueError(f'--{next(iter(options))} needs a --checkpoint')
  return options
