"""Says what is in a data set, and draws it.

python -m launch.inspect_data --data=data/pretrain --games=Assault,Carnival \\
  --picture=data.png [--verify] [--rewards] [--scores=runs/eval/data.jsonl] \\
  [--actions [--checkpoint=pretrained]]
"""

import json
from typing import Any

import jax
from absl import flags

from jowa_jax import agent as agent_lib
from jowa_jax import files
from jowa_jax.data.episodes import by_game
from jowa_jax.data.prepare import inspection
from jowa_jax.data.store import stored
from jowa_jax.envs.ale import FRAME_SKIP
from jowa_jax.eval import visible_actions, visible_rewards
from jowa_jax.eval.records import (
  best_checkpoints,
  data_rollouts,
  write_rollouts,
)
from launch import common

_DATA = common.define_path('data', None, 'Of launch.prepare_data or collect.')
_GAMES = flags.DEFINE_string('games', None, 'Games, or a list; default all.')
_PICTURE = common.define_path('picture', None, 'A .png, .svg or .pdf file.')
_JSON = common.define_path('json', None, 'A file for the same numbers.')
_SCORES = common.define_path(
  'scores', None, 'JSON lines of its complete episodes, for launch.report.'
)
_BEST_SCORES = common.define_path(
  'best_scores', None, "JSON lines of each game's best checkpoint alone."
)
_MAX_FRAMES = flags.DEFINE_integer(
  'max_frames',
  0,
  'Of the evaluation beside which scores stand: episodes that were cut off '
  'after so many frames are complete by its rules.',
)
_REWARDS = flags.DEFINE_bool(
  'rewards',
  False,
  'Train a small network of two frames and the action, a minute or so for each '
  'game, to say in which games rewards are seen coming.',
)
_ACTIONS = flags.DEFINE_bool(
  'actions',
  False,
  'Train a small network of two frames, two minutes or so for each game, to '
  'say how many of the actions can be told from what is seen.',
)
_CHECKPOINT = common.define_path(
  'checkpoint', None, 'With --actions: an agent whose tokens are tried, too.'
)
_STEPS = flags.DEFINE_integer(
  'steps',
  None,
  'Of training for each of --rewards and --actions; default 2,000 and 4,000.',
  lower_bound=1,
)
_VERIFY = flags.DEFINE_bool('verify', False, 'Read and check every byte.')


def _tokens() -> dict[str, Any]:
  """How the agent that was named, if any, reads frames."""
  if not _CHECKPOINT.value:
    return {}
  agent = agent_lib.load(_CHECKPOINT.value)
  tokenizer = agent.tokenizer
  read = jax.jit(tokenizer.encode)

  def encode(frames):
    return read(agent.variables, frames).reshape(len(frames), -1)

  return {'encode': encode, 'vocab_size': tokenizer.vocab_size}


def _steps() -> dict[str, int]:
  """Of training, if they were given."""
  return {'steps': _STEPS.value} if _STEPS.value else {}


def main() -> None:
  if _CHECKPOINT.value and not _ACTIONS.value:
    raise ValueError('--checkpoint is for --actions: give both')
  there = stored.find_runs(_DATA.value)
  names = _GAMES.value or ','.join(sorted(there)) or 'all'
  episodes = stored.load_episodes(_DATA.value, names)
  summary = inspection.summarize(episodes)
  print(inspection.describe(summary))
  if _REWARDS.value:
    for game, group in by_game(episodes).items():
      summary[game]['visible_rewards'] = visible_rewards.visible_rewards(
        group, **_steps()
      )
      told = visible_rewards.describe(game, summary[game]['visible_rewards'])
      print(told, flush=True)
  if _ACTIONS.value:
    options = _tokens() | _steps()
    for game, group in by_game(episodes).items():
      summary[game]['visible_actions'] = visible_actions.visible_actions(
        group, **options
      )
      told = visible_actions.describe(game, summary[game]['visible_actions'])
      print(told, flush=True)
  if _JSON.value:
    files.write_text(_JSON.value, json.dumps(summary, indent=2))
  if _PICTURE.value:
    inspection.draw(episodes, _PICTURE.value)
  if _SCORES.value or _BEST_SCORES.value:
    limit = _MAX_FRAMES.value // FRAME_SKIP
    if not (complete := data_rollouts(episodes, limit=limit)):
      flag = '--scores' if _SCORES.value else '--best_scores'
      raise ValueError(
        f'{flag}: {_DATA.value} has no complete episode of {names}; '
        '--max_frames counts those that were cut off after as many'
      )
    if _SCORES.value:
      write_rollouts(_SCORES.value, complete)
    if _BEST_SCORES.value:
      best = best_checkpoints(episodes, limit)
      write_rollouts(
        _BEST_SCORES.value, data_rollouts(best, 'data_best', limit)
      )
  if _VERIFY.value:
    inspection.verify(episodes)
    print('Everything is as it was written.')


if __name__ == '__main__':
  flags.mark_flag_as_required('data')
  common.run(main)
