"""Online fine-tuning: an agent learns from its own play of a game."""

import json
from collections.abc import Mapping
from typing import Any

from jowa_jax import games as games_lib
from jowa_jax.collect.online import OnlineConfig
from jowa_jax.configuration import build, fill

_FILLS = 'launch.finetune_online fills it in from its flags'


def resolve(
  config: Mapping[str, Any], game: str, checkpoint: str | None
) -> tuple[dict[str, Any], OnlineConfig]:
  """The config of a run, and how it plays; reads nothing from disk.

  Args:
    config: of `configs/finetune_online.py`.
    game: a game or a variant of one, see `games.parse_variant`.
    checkpoint: directory of the pretrained run; None trains from scratch.

  Raises:
    ConfigError: a field that is filled in was set, or one is unknown, missing
      or of the wrong type.
    ValueError: there is no such game.
  """
  variant = games_lib.parse_variant(game)
  config = json.loads(json.dumps(config))
  online = build(OnlineConfig, config.pop('online', {}), 'online')
  fill(config['data'], 'games', [variant.game], 'data', _FILLS)
  fill(
    config['init_from'], 'checkpoints', checkpoint or '', 'init_from', _FILLS
  )
  if checkpoint is None:
    config['init_from'] |= {'params': [], 'task_row': None}
  return config, online
