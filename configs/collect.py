"""What `launch.collect` plays: `configs/collect.py:default|smoke`."""

import ml_collections


def get_config(arg: str = 'default') -> ml_collections.ConfigDict:
  """Returns the configuration of a variant.

  Raises:
    ValueError: the variant is unknown.
  """
  if arg not in ('default', 'smoke'):
    raise ValueError(f"Variant {arg!r} is unknown: 'default' or 'smoke'")
  config = ml_collections.ConfigDict()
  # Games separated by commas, or a list of games.py such as 'pretrain'.
  config.games = 'Assault,Carnival'
  # The share of random decisions of each checkpoint, from poor to good.
  config.epsilons = (1.0, 0.4, 0.15, 0.02)
  # Decisions played for each checkpoint.
  config.steps_per_checkpoint = 2000
  config.seed = 0
  # The number in the name of the data set.
  config.run = 1
  # The chance that a frame repeats the action before it (DQN-Replay: 0.25).
  config.sticky = 0.0
  # Processes that play; 0 takes one per core.
  config.num_processes = 0

  # The look-ahead teacher.
  config.search = ml_collections.ConfigDict()
  # Random plays tried after each legal first action.
  config.search.rollouts = 2
  # Decisions in each.
  config.search.depth = 12
  config.search.discount = 0.97
  # Points that losing a life costs.
  config.search.life_penalty = 100.0
  # Decisions that each action of a random play is held.
  config.search.hold = 2

  # What --replay plays again; of all the above, num_processes counts then, and
  # games if it is given, too.
  config.replay = ml_collections.ConfigDict()
  # Numbers of the checkpoints, such as (0, 3); all if empty.
  config.replay.checkpoints = ()
  # Decisions of each, the last episode cut off and not verified; 0 for all.
  config.replay.steps_per_checkpoint = 0
  # Whether to try recordings of another version of ale-py.
  config.replay.any_version = False

  if arg == 'smoke':
    config.epsilons = (1.0, 0.2)
    config.steps_per_checkpoint = 120
  return config.lock()
