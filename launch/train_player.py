"""Trains a player whose games are recorded, from the emulator's memory.

pip install '.[dream]'
python -m launch.train_player --game=Boxing --output=players/Boxing
python -m launch.collect --config=configs/collect.py:players \
  --config.games=Boxing --config.players=players --record=Boxing.npz

The player is PPO of stable-baselines3 on the console's 128 bytes, which learns
in minutes of one core what takes hours from pixels. `launch.collect` plays its
checkpoints, from poor to good.
"""

import pathlib

from absl import flags

from jowa_jax import files
from jowa_jax.collect.player_config import PlayerConfig
from jowa_jax.stable_baselines import import_library
from launch import common

_GAME = flags.DEFINE_string('game', None, 'That it learns to play.')
_OUTPUT = common.define_path(
  'output', None, 'Directory for its checkpoints, which names the game.'
)
_DECISIONS = flags.DEFINE_integer(
  'decisions', 1_500_000, 'Of all environments together.'
)
_ACTIONS = flags.DEFINE_list(
  'actions',
  [],
  "That it chooses among, of ALE's 18 by number; default all that are legal.",
)
_CHECKPOINTS = flags.DEFINE_integer(
  'checkpoints', 5, 'Files that are kept, at equal distances.'
)
_ENVIRONMENTS = flags.DEFINE_integer('environments', 16, 'That play at once.')
_MAX_EPISODE_STEPS = flags.DEFINE_integer(
  'max_episode_steps', 2000, 'Decisions after which an episode is cut off.'
)
_EPSILON = flags.DEFINE_float('epsilon', 0.02, 'Chance of a random decision.')
_SEED = flags.DEFINE_integer('seed', 0, 'Of the weights and of all chance.')


def main() -> None:
  try:
    actions = tuple(int(action) for action in _ACTIONS.value)
  except ValueError as error:
    raise ValueError(f'--actions: numbers are wanted ({error})') from error
  config = PlayerConfig(
    game=_GAME.value,
    decisions=_DECISIONS.value,
    actions=actions,
    checkpoints=_CHECKPOINTS.value,
    environments=_ENVIRONMENTS.value,
    max_episode_steps=_MAX_EPISODE_STEPS.value,
    epsilon=_EPSILON.value,
    seed=_SEED.value,
  )
  output = pathlib.Path(_OUTPUT.value)
  files.check_new(output)
  import_library('A player that learns from memory')
  # It imports torch.
  from jowa_jax.collect import network_training

  with files.directory_written_whole(output) as unfinished:
    scores = network_training.train(config, unfinished)
  recent = scores[-60:]
  told = 'no episode ended'
  if recent:
    mean = sum(recent) / len(recent)
    told = f'mean score {mean:.1f} of the last {len(recent)} episodes'
  print(f'{output}: {config.game}, {told}')


if __name__ == '__main__':
  flags.mark_flags_as_required(['game', 'output'])
  common.run(main)
