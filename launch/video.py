"""Films a trained agent as it plays: what it sees, values and expects.

python -m launch.video --checkpoint=runs/jowa --game=Assault \
  --planner=beam --output=assault.mp4
python -m launch.video --checkpoint=pretrained --game=Freeway --dream \
  --output=dream.mp4
python -m launch.video --checkpoint=runs/ficc --game=Freeway \
  --latents=3,3,3,0,0 --max_decisions=60 --output=latents.mp4

With --dream it shows the game beside one dream of all of it, which begins with
the first frames and goes on under the actions that the agent really took. With
--latents an agent that learned from watching plays so many decisions, and then
its latent actions move the game as it imagines it.
"""

import numpy as np
from absl import flags, logging

import jowa_jax
from jowa_jax import games as games_lib
from jowa_jax.agent import Agent
from jowa_jax.configuration import build
from jowa_jax.envs.protocol import Protocol
from jowa_jax.eval import latents
from jowa_jax.eval.players import game_options
from jowa_jax.eval.recording import Recording, record
from jowa_jax.methods.factory import acting_options
from jowa_jax.play.dreamed import dreamed_scenes
from jowa_jax.play.film import write_film
from jowa_jax.play.programs import Programs
from jowa_jax.report import drawing, latent_film
from jowa_jax.report.video import write_video
from launch import common
from launch.planner_flags import planner_options

_CONFIG = common.define_config('configs/evaluate.py:paper', 'The protocol.')
_CHECKPOINT = common.define_path(
  'checkpoint', None, "Run directory, packed agent, or 'pretrained'."
)
_STEP = flags.DEFINE_integer('step', None, 'Which checkpoint; default latest.')
_GAME = flags.DEFINE_string('game', None, 'Such as Assault.')
_OUTPUT = common.define_path('output', None, 'An .mp4 or .webp file.')
_SEED = flags.DEFINE_integer('seed', 0, 'Of the game and exploration.')
_ROLLOUT = flags.DEFINE_integer(
  'rollout', 0, 'Number of the rollout in its evaluation.'
)
_MAX_DECISIONS = flags.DEFINE_integer(
  'max_decisions', 900, 'Films no more, 15 to a second of video.'
)
_LATENTS = flags.DEFINE_string(
  'latents',
  None,
  'Latent actions, one after the other, as in 3,3,0; or all, each in a part of '
  'the picture and held for 16 decisions.',
)
_DREAM = flags.DEFINE_bool(
  'dream', False, 'Film one dream of the whole play beside it.'
)
_FPS = 15
# Of latent actions: real frames that are shown before, and decisions.
_BEFORE, _HELD = 8, 16


def main() -> None:
  drawing.check_film(_OUTPUT.value)  # said before anything is played
  if _DREAM.value and _LATENTS.value:
    raise ValueError('--dream and --latents are two films: give one of them')
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
  if _LATENTS.value:
    _film_latents(agent, recording)
    return
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


def latent_choices(text: str, count: int) -> np.ndarray:
  """The choices that --latents means, [E, H] of `count` latent actions."""
  if text == 'all':
    return np.repeat(np.arange(count)[:, None], _HELD, axis=1)
  numbers = text.split(',')
  if not all(number.strip().isdecimal() for number in numbers):
    raise ValueError(
      f'--latents={text}: give numbers from 0 to {count - 1}, as in 3,3,0; or '
      'all'
    )
  return np.array([[int(number) for number in numbers]])


def _film_latents(agent: Agent, recording: Recording) -> None:
  """Films where latent actions lead from the recording's last frame."""
  if agent.method.latents is None:
    raise ValueError(f'--latents: {agent.config["method"]} has none')
  choices = latent_choices(_LATENTS.value, agent.method.latents.count)
  dreamed = latents.follow(agent, recording.frames, choices)
  title = f'{recording.game}, imagined after {len(recording.frames)} decisions'
  before = recording.frames[-_BEFORE:]
  shown = latent_film.write_film(_OUTPUT.value, title, before, choices, dreamed)
  print(f'{_OUTPUT.value}: {shown} pictures of {recording.game}')


if __name__ == '__main__':
  flags.mark_flags_as_required(['checkpoint', 'game', 'output'])
  common.run(main)
