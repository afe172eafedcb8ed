"""Teaches a network that sees frames what one that sees memory plays.

python -m launch.distill_player --teacher=teachers/RoadRunner.npz \
  --output=students/RoadRunner
python -m launch.collect --config=configs/collect.py:distilled \
  --config.games=RoadRunner --config.players=students \
  --record=RoadRunner_5.npz

The teacher is a file of `launch.train_player`. The student plays, the teacher
says what it would have done, and the student learns that (DAgger: Ross et al.,
2011, arXiv 1011.0686). What is recorded of a player that sees frames can be
learned by an agent that sees frames.
"""

import pathlib

from absl import flags

from jowa_jax import files
from jowa_jax.collect import networks
from jowa_jax.collect.distillation import StudentConfig, distill
from jowa_jax.data.episodes import DataError
from launch import common

_TEACHER = common.define_path(
  'teacher', None, 'File of a network of launch.train_player.'
)
_OUTPUT = common.define_path(
  'output', None, 'Directory for the student, which names the game.'
)
_DEFAULTS = StudentConfig()
_ROUNDS = flags.DEFINE_integer(
  'rounds', _DEFAULTS.rounds, 'Times that the student plays and is told.'
)
_DECISIONS = flags.DEFINE_integer(
  'decisions', _DEFAULTS.decisions, 'Of a round, of all environments together.'
)
_STEPS = flags.DEFINE_integer(
  'steps', _DEFAULTS.steps, 'Of gradient descent after each round.'
)
_FINAL_STEPS = flags.DEFINE_integer(
  'final_steps', _DEFAULTS.final_steps, 'Of those at the end.'
)
_ENVIRONMENTS = flags.DEFINE_integer(
  'environments', _DEFAULTS.environments, 'That play at once.'
)
_MAX_EPISODE_STEPS = flags.DEFINE_integer(
  'max_episode_steps',
  _DEFAULTS.max_episode_steps,
  'Decisions after which an episode is cut off.',
)
_EPSILON = flags.DEFINE_float(
  'epsilon', _DEFAULTS.epsilon, "Chance of a random decision of the student's."
)
_SEED = flags.DEFINE_integer(
  'seed', _DEFAULTS.seed, 'Of the weights and of all chance.'
)


def main() -> None:
  config = StudentConfig(
    rounds=_ROUNDS.value,
    decisions=_DECISIONS.value,
    steps=_STEPS.value,
    final_steps=_FINAL_STEPS.value,
    environments=_ENVIRONMENTS.value,
    max_episode_steps=_MAX_EPISODE_STEPS.value,
    epsilon=_EPSILON.value,
    seed=_SEED.value,
  )
  output = pathlib.Path(_OUTPUT.value)
  files.check_new(output)
  teacher = networks.load(_TEACHER.value)
  if not isinstance(teacher, networks.MemoryNetwork):
    raise DataError(
      f'--teacher={_TEACHER.value} sees frames itself: give a network of '
      'launch.train_player'
    )
  with files.directory_written_whole(output) as unfinished:
    rounds = distill(config, teacher, unfinished / 'checkpoint_00.npz')
  last = rounds[-1]
  told = 'no episode ended'
  if last.scores:
    mean = sum(last.scores) / len(last.scores)
    told = f'mean score {mean:.1f} of {len(last.scores)} episodes'
  print(
    f'{output}: {teacher.game}, in the last round {last.agreement:.1%} of '
    f'decisions as its teacher, {told}'
  )


if __name__ == '__main__':
  flags.mark_flags_as_required(['teacher', 'output'])
  common.run(main)
