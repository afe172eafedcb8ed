"""Films a trained agent as it plays: what it sees, values and expects.

python -m launch.video --checkpoint=runs/jowa --game=Assault \
  --planner=beam --width=2 --horizon=2 --output=assault.mp4
"""

from absl import flags, logging

import jowa_jax
from jowa_jax.eval.protocol import Protocol
from jowa_jax.eval.recording import record
from jowa_jax.report.video import write_video
from launch import common
from launch.planner_flags import planner_options

_CHECKPOINT = flags.DEFINE_string('checkpoint', None, 'Run directory.')
_STEP = flags.DEFINE_integer('step', None, 'Which checkpoint; default latest.')
_GAME = flags.DEFINE_string('game', None, 'Such as Assault.')
_OUTPUT = flags.DEFINE_string('output', None, 'An .mp4 file.')
_EPSILON = flags.DEFINE_float('epsilon', 0.001, 'Share of random actions.')
_STICKY = flags.DEFINE_float('sticky_actions', 0.0, 'Repeat probability.')
_SEED = flags.DEFINE_integer('seed', 0, 'Of the game and exploration.')
_ROLLOUT = flags.DEFINE_integer('rollout', 0, 'Which, of an evaluation.')
_MAX_DECISIONS = flags.DEFINE_integer(
  'max_decisions', 900, 'Films no more, 15 to a second of video.'
)
_FPS = 15


def main() -> None:
  if not _OUTPUT.value.endswith('.mp4'):
    # Said before anything is played.
    raise ValueError(f'--output={_OUTPUT.value} must end in .mp4')
  options = planner_options(_CHECKPOINT.value)
  agent = jowa_jax.load(_CHECKPOINT.value, _STEP.value)
  recording = record(
    agent,
    _GAME.value,
    protocol=Protocol(epsilon=_EPSILON.value, sticky_actions=_STICKY.value),
    seed=_SEED.value,
    rollout=_ROLLOUT.value,
    max_decisions=_MAX_DECISIONS.value,
    **options,
  )
  logging.info(
    '%s decisions, score %g: now drawn', len(recording.frames), recording.score
  )
  seconds = _MAX_DECISIONS.value / _FPS
  shown = write_video(
    _OUTPUT.value, recording, max_seconds=seconds, frames_per_second=_FPS
  )
  print(f'{_OUTPUT.value}: {shown / _FPS:.1f} s of {_GAME.value}')


if __name__ == '__main__':
  flags.mark_flags_as_required(['checkpoint', 'game', 'output'])
  common.run(main)
