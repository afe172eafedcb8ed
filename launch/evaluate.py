"""Plays whole episodes with a trained agent and writes their scores.

python -m launch.evaluate --checkpoint=runs/jowa --games=Assault,Carnival \
  --planner=beam --output=runs/eval/jowa_beam.jsonl

The rules, and beam widths by game, are those of --config, the paper's by
default. Without a checkpoint, uniform random play is evaluated. An evaluation
that was interrupted goes on with the same command.
"""

import pathlib

import numpy as np
from absl import flags

from jowa_jax import devices
from jowa_jax import games as games_lib
from jowa_jax.configuration import build
from jowa_jax.envs.protocol import Protocol
from jowa_jax.eval import evaluation
from jowa_jax.eval.players import game_options, load_player
from jowa_jax.recipes import finetuning
from launch import common
from launch.planner_flags import planner_options

_CONFIG = common.define_config('configs/evaluate.py:paper', 'The protocol.')
_CHECKPOINT = common.define_path(
  'checkpoint', None, "Run directory, packed agent, or 'pretrained'."
)
_STEP = flags.DEFINE_integer('step', None, 'Which checkpoint; default latest.')
_BEST = flags.DEFINE_bool(
  'best', False, "The checkpoint that is best by the run's run.best_metric."
)
_GAMES = flags.DEFINE_string(
  'games', None, 'Games, or a list: all, pretrain, held_out or ablation.'
)
_OUTPUT = common.define_path('output', None, 'JSON lines; named as the agent.')
_ROLLOUTS = flags.DEFINE_integer(
  'rollouts', None, "Episodes per game; the config's by default."
)
_SEED = flags.DEFINE_integer('seed', 0, 'Of environments and exploration.')
_SHARD = flags.DEFINE_string(
  'shard', '1/1', 'i/n: plays part i of n, into a file of its own.'
)
_SLOTS = flags.DEFINE_integer('slots', None, 'Environments per game at once.')
_ENVIRONMENTS = flags.DEFINE_integer(
  'max_environments', evaluation.MAX_ENVIRONMENTS, 'At once, of all games.'
)
_SHRINK = flags.DEFINE_bool(
  'shrink',
  False,
  'Halve the batch when half of its episodes are over: faster where they are '
  'of different lengths.',
)
_ROMS = common.define_path(
  'rom_directory', '', "Of other cartridges than ale-py's: pong.bin, ..."
)
_PROGRESS = flags.DEFINE_bool('progress', True, 'Show a progress bar.')


def main() -> None:
  devices.divide_cpu()
  games = games_lib.parse_games(_GAMES.value, variants=True)
  rules = _CONFIG.value.protocol.to_dict()
  if _ROLLOUTS.value is not None:
    rules['rollouts'] = _ROLLOUTS.value
  protocol = build(Protocol, rules, 'protocol')
  shard = evaluation.Shard.parse(_SHARD.value)
  output = pathlib.Path(_OUTPUT.value)
  options = planner_options(_CHECKPOINT.value)
  step = _STEP.value
  if _BEST.value:
    step = _best_step()
  player = load_player(output.stem, _CHECKPOINT.value, step)
  by_game = _CONFIG.value.games.to_dict() if _CHECKPOINT.value else {}
  rollouts = evaluation.play(
    player,
    games,
    protocol,
    _SEED.value,
    output,
    options=game_options(games, options, by_game, player.acting),
    shard=shard,
    slots_per_game=_SLOTS.value,
    max_environments=_ENVIRONMENTS.value,
    shrink=_SHRINK.value,
    rom_directory=_ROMS.value,
    progress=_PROGRESS.value,
  )
  for game in games:
    scores = [r.score for r in rollouts if r.game == game]
    print(f'{game}: mean score {np.mean(scores):.1f} of {scores}')


def _best_step() -> int:
  if _CHECKPOINT.value is None or _STEP.value is not None:
    raise ValueError('--best goes with a --checkpoint and without a --step')
  return finetuning.best_step(_CHECKPOINT.value)


if __name__ == '__main__':
  flags.mark_flags_as_required(['games', 'output'])
  common.run(main)
