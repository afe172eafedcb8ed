"""Films a trained agent as it plays: what it sees, values and expects.

python -m launch.video --checkpoint=runs/jowa --game=Assault \
  --planner=beam --output=assault.mp4
python -m launch.video --checkpoint=pretrained --game=Freeway --dream \
  --output=dream.mp4

With --dream it shows the game beside one dream of all of it, which begins with
the first frames and goes on under the actions that the agent really took.
"""

from absl import flags, logging

import jowa_jax
from jowa_jax import games as games_lib
from jowa_jax.configuration import build
from jowa_jax.envs.protocol import Protocol
from jowa_jax.eval.players import game_options
from jowa_jax.eval.recording import record
from jowa_jax.methods.factory import acting_options
from jowa_jax.play.dreamed import dreamed_scenes
from jowa_jax.play.film import write_film
from jowa_jax.play.programs import Programs
from jowa_jax.report.video import write_video
from launch import common
from launch.planner_flags import planner_options

_CONFIG = common.define_config('configs/evaluate.py:paper', 'The protocol.')
_CHECKPOINT = common.define_path(
  'checkpoint', None, "Run directory, packed agent, or 'pretrained'."
)
_STEP = flags.DEFINE_integer('step', None, 'Which checkpoint; default latest.')
_GAME = flags.DEFINE_string('game', None, 'Such as Assault.')
_OUTPUT = common.define_path('output', None, 'An .mp4 file.')
_SEED = flags.DEFINE_integer('seed', 0, 'Of the game and exploration.')
_ROLLOUT = flags.DEFINE_integer(
  'rollout', 0, 'Number of the rollout in its evaluation.'
)
_MAX_DECISIONS = flags.DEFINE_integer(
  'max_decisions', 900, 'Films no more, 15 to a second of video.'
)
_DREAM = flags.DEFINE_bool(
  'dream', False, 'Film one dream of the whole play beside it.'
)
_FPS = 15


def main() -> None:
  if not _OUTPUT.value.endswith('.mp4'):
    # Said before anything is played.
    raise ValueError(f'--output={_OUTPUT.value} must end in .mp4')
  (game,) = games_lib.parse_games([_GAME.value], variants=True)
  given = planner_options(_CHECKPOINT.value)
  agent = jowa_jax.load(_CHECKPOINT.value, _STEP.value)
  if _DREAM.value:
    # Said before anything is played.
    programs = Programs(agent)
  options = game_options(
    [game],
    given,
    _CONFIG.value.games.to_dict(),
    acting_options(agent.config),
  )
  recording = record(
    agent,
    game,
    protocol=build(Protocol, _CONFIG.value.protocol.to_dict(), 'protocol'),
    seed=_SEED.value,
    rollout=_ROLLOUT.value,
    max_decisions=_MAX_DECISIONS.value,
    **options[game],
  )
  logging.info(
    '%s decisions, score %g: now drawn', len(recording.frames), recording.score
  )
  if _DREAM.value:
    scenes = dreamed_scenes(programs, recording)
    write_film(_OUTPUT.value, scenes, game, recording.agent, _FPS)
    right = sum(scene.token_accuracy for scene in scenes) / len(scenes)
    print(
      f'{_OUTPUT.value}: {len(scenes) / _FPS:.1f} s of {game}, dreamed with '
      f'{right:.0%} of its tokens right'
    )
    return
  seconds = _MAX_DECISIONS.value / _FPS
  shown = write_video(
    _OUTPUT.value, recording, max_seconds=seconds, frames_per_second=_FPS
  )
  print(f'{_OUTPUT.value}: {shown / _FPS:.1f} s of {game}')


if __name__ == '__main__':
  flags.mark_flags_as_required(['checkpoint', 'game', 'output'])
  common.run(main)
