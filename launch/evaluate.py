"""Plays whole episodes with a trained agent and writes their scores.

python -m launch.evaluate --checkpoint=runs/jowa --games=Assault,Carnival \
  --planner=beam --width=2 --horizon=2 --output=runs/eval/jowa_beam.jsonl

Without a checkpoint, uniform random play is evaluated.
"""

import pathlib

from absl import flags

import jowa_jax
from jowa_jax import games as games_lib
from jowa_jax.eval.protocol import Protocol
from jowa_jax.eval.rollout import evaluate, random_policy, write_rollouts
from jowa_jax.methods.jowa_policy import PLANNERS, planners_with
from launch import common

_CHECKPOINT = flags.DEFINE_string('checkpoint', None, 'Run directory.')
_STEP = flags.DEFINE_integer('step', None, 'Which checkpoint; default latest.')
_GAMES = flags.DEFINE_string('games', None, 'Games, or a list: pretrain, ...')
_OUTPUT = flags.DEFINE_string('output', None, 'JSON lines; named as the agent.')
_ROLLOUTS = flags.DEFINE_integer('rollouts', 16, 'Episodes per game.')
_EPSILON = flags.DEFINE_float('epsilon', 0.001, 'Share of random actions.')
_STICKY = flags.DEFINE_float('sticky_actions', 0.0, 'Repeat probability.')
_MAX_FRAMES = flags.DEFINE_integer('max_frames', 108_000, 'Per episode.')
_SEED = flags.DEFINE_integer('seed', 0, 'Of environments and exploration.')
_SLOTS = flags.DEFINE_integer('slots', None, 'Environments per game at once.')
_CONTEXT = flags.DEFINE_integer('context_length', None, 'Blocks of context.')
_PLANNER = flags.DEFINE_enum('planner', None, list(PLANNERS), 'Of JOWA.')
_WIDTH = flags.DEFINE_integer('width', None, 'Beams kept (beam).')
_HORIZON = flags.DEFINE_integer(
  'horizon', None, 'Steps dreamed ahead (beam); depth limit (mcts).'
)
_SIMULATIONS = flags.DEFINE_integer(
  'num_simulations', None, 'Nodes of a tree (mcts).'
)
_TEMPERATURE = flags.DEFINE_float('temperature', None, 'Of priors (mcts).')
_CHOOSE_BY = flags.DEFINE_enum(
  'choose_by', None, ['value', 'visits'], 'Which child is played (mcts).'
)
_OF_PLANNERS = (_WIDTH, _HORIZON, _SIMULATIONS, _TEMPERATURE, _CHOOSE_BY)
_PROGRESS = flags.DEFINE_bool('progress', True, 'Show a progress bar.')


def main() -> None:
  games = games_lib.parse_games(_GAMES.value)
  protocol = Protocol(
    rollouts=_ROLLOUTS.value,
    epsilon=_EPSILON.value,
    sticky_actions=_STICKY.value,
    max_frames=_MAX_FRAMES.value,
  )
  options = {
    flag.name: flag.value
    for flag in (_PLANNER, _CONTEXT, *_OF_PLANNERS)
    if flag.value is not None
  }
  for flag in _OF_PLANNERS:
    able = planners_with(flag.name)
    if flag.value is not None and _PLANNER.value not in able:
      raise ValueError(f'--{flag.name} needs --planner={" or ".join(able)}')
  if _CHECKPOINT.value is None:
    if options:
      raise ValueError(f'--{next(iter(options))} needs a --checkpoint')
    policy, variables = random_policy(), None
  else:
    agent = jowa_jax.load(_CHECKPOINT.value, _STEP.value)
    try:
      policy = agent.policy(epsilon=protocol.epsilon, **options)
    except TypeError as error:
      method = agent.config['method']
      raise ValueError(f'{method} has no such option: {error}') from error
    variables = agent.variables
  output = pathlib.Path(_OUTPUT.value)
  rollouts = evaluate(
    policy,
    variables,
    games,
    protocol,
    _SEED.value,
    agent=output.stem,
    slots_per_game=_SLOTS.value,
    progress=_PROGRESS.value,
  )
  write_rollouts(output, rollouts)
  for game in games:
    scores = [r.score for r in rollouts if r.game == game]
    print(f'{game}: mean score {sum(scores) / len(scores):.1f} of {scores}')


if __name__ == '__main__':
  flags.mark_flags_as_required(['games', 'output'])
  common.run(main)
