"""An episode dreamed from its beginning, under the actions really taken."""

import zlib

import jax
import numpy as np

from jowa_jax.eval.recording import Recording
from jowa_jax.play.programs import Programs
from jowa_jax.play.states import Scene


def dreamed_scenes(programs: Programs, recording: Recording) -> list[Scene]:
  """A recording beside one dream of all of it, to be filmed.

  The dream begins with the recording's first frames, as many as the agent acts
  on, and sees nothing of the others.

  Args:
    programs: of the agent.
    recording: of T decisions; its agent need not be the one that dreams.

  Returns:
    A scene for every frame after the context.

  Raises:
    ValueError: the recording is no longer than the context.
  """
  frames, actions = recording.frames, recording.actions
  first = programs.context - 1
  if len(frames) <= programs.context:
    raise ValueError(
      f'A dream begins with {programs.context} frames, and there are '
      f'{len(frames)}: record more'
    )
  history, before = programs.empty(recording.game), 0
  for t in range(first + 1):
    history = programs.see(history, before, frames[t]).history
    before = actions[t]
  window, scenes, rewards = programs.branch(history), [], 0.0
  for t in range(first, len(frames) - 1):
    step = programs.dream(window, actions[t], 0, t - first, 0.0)
    history = programs.see(history, actions[t], frames[t + 1]).history
    window = step.history
    tokens, frame, reward, real = jax.device_get(
      (step.tokens, step.frame, step.reward, history.seen[0, -1])
    )
    rewards += float(reward)
    scenes.append(
      Scene(
        number=t + 1,
        real=zlib.compress(np.ascontiguousarray(frames[t + 1]), 1),
        dream=zlib.compress(np.ascontiguousarray(frame), 1),
        action=int(actions[t]),
        score=int(recording.scores[t + 1]),
        dream_score=rewards,
        dreamed=t - first + 1,
        dream_on=False,
        token_accuracy=float((tokens == real).mean()),
      )
    )
  return scenes
