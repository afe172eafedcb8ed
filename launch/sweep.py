"""Finds the planner's settings for each game, and scores them on new seeds.

python -m launch.sweep --checkpoint=runs/jowa --games=pretrain \
  --settings="planner=none; planner=beam,width=2,horizon=2" \
  --context_lengths=1,2,4,6 --output=runs/sweep
"""

import itertools
import json
import pathlib
from typing import Any

from absl import flags

from jowa_jax import devices
from jowa_jax import games as games_lib
from jowa_jax.configuration import build
from jowa_jax.envs.protocol import Protocol
from jowa_jax.eval import evaluation
from jowa_jax.eval.players import load_player
from jowa_jax.eval.sweep import sweep
from launch import common

_CONFIG = common.define_config(
  'configs/evaluate.py:paper',
  'The protocol; its settings by game are not used.',
)
_CHECKPOINT = common.define_path(
  'checkpoint', None, "Run directory, packed agent, or 'pretrained'."
)
_STEP = flags.DEFINE_integer('step', None, 'Which checkpoint; default latest.')
_GAMES = flags.DEFINE_string('games', None, 'Games, or a list: pretrain, ...')
_OUTPUT = common.define_path('output', None, 'Directory; named as the agent.')
_SETTINGS = flags.DEFINE_string(
  'settings', 'planner=none', 'Of the policy, as name=value,...; name=value...'
)
_CONTEXTS = flags.DEFINE_list(
  'context_lengths', [], 'Each tried with all settings.'
)
_SELECT = flags.DEFINE_integer('select_rollouts', 4, 'That choose, per game.')
_SELECT_SEED = flags.DEFINE_integer('select_seed', 1_000_000, 'That chooses.')
_SEED = flags.DEFINE_integer('seed', 0, 'That reports.')
_PROGRESS = flags.DEFINE_bool('progress', True, 'Show a progress bar.')


def parse_settings(text: str, contexts: list[str]) -> list[dict[str, Any]]:
  """One dict of options per setting and context length."""
  settings = []
  for setting, context in itertools.product(text.split(';'), contexts or ['']):
    pairs = [item.partition('=') for item in setting.split(',') if item.strip()]
    if not all(name.strip() and value.strip() for name, _, value in pairs):
      raise ValueError(f'--settings: {setting!r} is not name=value,...')
    options = {name.strip(): _value(value.strip()) for name, _, value in pairs}
    settings.append(
      {**options, **({'context_length': _value(context)} if context else {})}
    )
  return settings


def _value(text: str) -> Any:
  try:
    return json.loads(text)
  except json.JSONDecodeError:
    return text


def main() -> None:
  devices.divide_cpu()
  rules = _CONFIG.value.protocol.to_dict()
  output = pathlib.Path(_OUTPUT.value)
  settings = parse_settings(_SETTINGS.value, _CONTEXTS.value)
  found = sweep(
    load_player(output.name, _CHECKPOINT.value, _STEP.value),
    games_lib.parse_games(_GAMES.value, variants=True),
    settings,
    output,
    select=build(Protocol, {**rules, 'rollouts': _SELECT.value}, 'protocol'),
    select_seed=_SELECT_SEED.value,
    report=build(Protocol, rules, 'protocol'),
    report_seed=_SEED.value,
    max_environments=evaluation.MAX_ENVIRONMENTS,
    progress=_PROGRESS.value,
  )
  for game, row in found.items():
    print(
      f'{game}: {row["options"]} chosen with {row["mean"]:.1f}, '
      f'scored {row["reported"]:.1f} on other seeds'
    )


if __name__ == '__main__':
  flags.mark_flags_as_required(['checkpoint', 'games', 'output'])
  common.run(main)
