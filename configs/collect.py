"""What `launch.collect` plays: `default`, a game, or what networks play.

`:default|smoke|distilled|noisy|players|<Game>[_2]`.

The variants by a game's name made recordings that the package ships. Those
that end in `_2` play another run, in episodes that are cut off. `players` is
played by the networks of `launch.train_player`, as run 3, `noisy` by the best
of them, with more at random, as run 4, and `distilled` by networks on frames
that these taught (`launch.distill_player`), as run 5.
"""

import ml_collections

# Depth of the search for the recorded games, chosen after 130 to 1500 decisions
# with one to three of 8, 12, 18, 24, 36, 44 and 60 each.
DEPTHS = dict(
  Asterix=18,
  Boxing=12,
  Freeway=44,
  MsPacman=12,
  Qbert=24,
  RoadRunner=12,
  SpaceInvaders=24,
  UpNDown=18,
)
# Where a random decision costs more, play is random less often.
_DEADLY = ('Freeway', 'RoadRunner')


def _recorded(game: str, run: int, config: ml_collections.ConfigDict) -> None:
  """One run of a game's recording."""
  config.games = game
  config.run = run
  config.steps_per_checkpoint = 12_000
  config.search.depth = DEPTHS[game]
  if game in _DEADLY:
    config.epsilons = (1.0, 0.3, 0.15, 0.05, 0.02)
  elif run == 1:
    config.epsilons = (1.0, 0.6, 0.3, 0.1, 0.02)
  else:
    config.epsilons = (1.0, 0.3, 0.2, 0.1, 0.05)
  # How games begin is what an agent plays that dies soon: many beginnings.
  if game in _DEADLY or run == 2:
    config.max_episode_steps = 500


def _played(arg: str, config: ml_collections.ConfigDict) -> None:
  """What networks play."""
  # As evaluations of at most 4,000 frames play them, many beginnings.
  config.max_episode_steps = 1000
  config.players = 'students' if arg == 'distilled' else 'players'
  if arg == 'players':
    config.run = 3
    # The first has hardly begun to learn.
    config.epsilons = (1.0, 0.1, 0.1, 0.1, 0.05)
    config.steps_per_checkpoint = 12_000
  elif arg == 'distilled':
    config.run = 5
    config.epsilons = (0.5, 0.3, 0.2, 0.1, 0.05)
    config.steps_per_checkpoint = 20_000
  else:
    config.run = 4
    # How to go on from where a mistake leads is seen in noisy play alone
    # (Laskey et al., 2017, arXiv 1703.09327), and an imitator makes many.
    config.epsilons = (1.0, 0.5, 0.3, 0.2, 0.1)
    config.steps_per_checkpoint = 30_000


def get_config(arg: str = 'default') -> ml_collections.ConfigDict:
  """The configuration of a variant.

  Raises:
    ValueError: the variant is unknown.
  """
  seconds = tuple(f'{game}_2' for game in DEPTHS)
  variants = (
    *('default', 'smoke', 'distilled', 'noisy', 'players'),
    *(*DEPTHS, *seconds),
  )
  if arg not in variants:
    raise ValueError(f'Variant {arg!r} is unknown: one of {variants}')
  config = ml_collections.ConfigDict()
  # Games separated by commas, or a list of games.py such as 'pretrain'.
  config.games = 'MsPacman,SpaceInvaders'
  # The share of random decisions of each checkpoint, from poor to good.
  config.epsilons = (1.0, 0.4, 0.15, 0.02)
  # Decisions played for each checkpoint.
  config.steps_per_checkpoint = 2000
  # Decisions after which an episode is cut off; 0 leaves that to the game.
  config.max_episode_steps = 0
  config.seed = 0  # of what is random in the play
  # The number in the name of the data set.
  config.run = 1
  # The chance that a frame repeats the action before it (DQN-Replay: 0.25).
  config.sticky = 0.0
  # Processes that play; 0 takes one per core.
  config.num_processes = 0

  # Directory of the networks <Game>/*.npz that play instead of the look-ahead
  # teacher, one for each epsilon or one for all (launch.train_player or
  # launch.distill_player).
  config.players = ''

  # The look-ahead teacher.
  config.search = ml_collections.ConfigDict()
  # Decisions that every action is tried for.
  config.search.depth = 16
  # Decisions between searches; the action is held in between.
  config.search.every = 2
  config.search.discount = 0.97
  # Points that losing a life costs.
  config.search.life_penalty = 100.0

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
  elif arg in ('distilled', 'noisy', 'players'):
    _played(arg, config)
  elif arg != 'default':
    game, _, second = arg.partition('_')
    _recorded(game, 2 if second else 1, config)
  return config.lock()
