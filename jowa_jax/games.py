"""The 60 Atari games: task ids, legal actions, reference scores, game lists.

The tables are data; `tests/test_games.py` checks the actions against ale-py.
Sources: ALE (action sets), Agarwal et al. 2020 (reference scores; RoadRunner's
of random and human play: Wang et al. 2016), JOWA section 5.1, appendix D and
E.2 (game lists).
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

NUM_ACTIONS = 18
# The names of the shared action vocabulary, in ALE order.
ACTION_NAMES = (
  'NOOP FIRE UP RIGHT LEFT DOWN UPRIGHT UPLEFT DOWNRIGHT DOWNLEFT UPFIRE '
  'RIGHTFIRE LEFTFIRE DOWNFIRE UPRIGHTFIRE UPLEFTFIRE DOWNRIGHTFIRE '
  'DOWNLEFTFIRE'
).split()

_ALL = tuple(range(NUM_ACTIONS))


class ReferenceScore(NamedTuple):
  """Unclipped episode scores that normalise others."""

  random: float
  human: float
  dqn: float | None = None  # of DQN-Replay's last checkpoint, where it is told


# ALE's minimal action set of each game, as indices into the 18 actions. The
# order is ALE's: index i of a game's minimal set is entry i of its tuple.
LEGAL_ACTIONS: dict[str, tuple[int, ...]] = {
  'AirRaid': (0, 1, 3, 4, 11, 12),
  'Alien': _ALL,
  'Amidar': (0, 1, 2, 3, 4, 5, 10, 11, 12, 13),
  'Assault': (0, 1, 2, 3, 4, 11, 12),
  'Asterix': (0, 2, 3, 4, 5, 6, 7, 8, 9),
  'Asteroids': (0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15),
  'Atlantis': (0, 1, 11, 12),
  'BankHeist': _ALL,
  'BattleZone': _ALL,
  'BeamRider': (0, 1, 2, 3, 4, 6, 7, 11, 12),
  'Berzerk': _ALL,
  'Bowling': (0, 1, 2, 5, 10, 13),
  'Boxing': _ALL,
  'Breakout': (0, 1, 3, 4),
  'Carnival': (0, 1, 3, 4, 11, 12),
  'Centipede': _ALL,
  'ChopperCommand': _ALL,
  'CrazyClimber': (0, 2, 3, 4, 5, 6, 7, 8, 9),
  'DemonAttack': (0, 1, 3, 4, 11, 12),
  'DoubleDunk': _ALL,
  'ElevatorAction': _ALL,
  'Enduro': (0, 1, 3, 4, 5, 8, 9, 11, 12),
  'FishingDerby': _ALL,
  'Freeway': (0, 2, 5),
  'Frostbite': _ALL,
  'Gopher': (0, 1, 2, 3, 4, 10, 11, 12),
  'Gravitar': _ALL,
  'Hero': _ALL,
  'IceHockey': _ALL,
  'Jamesbond': _ALL,
  'JourneyEscape': (0, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17),
  'Kangaroo': _ALL,
  'Krull': _ALL,
  'KungFuMaster': (0, 2, 3, 4, 5, 8, 9, 11, 12, 13, 14, 15, 16, 17),
  'MontezumaRevenge': _ALL,
  'MsPacman': (0, 2, 3, 4, 5, 6, 7, 8, 9),
  'NameThisGame': (0, 1, 3, 4, 11, 12),
  'Phoenix': (0, 1, 3, 4, 5, 11, 12, 13),
  'Pitfall': _ALL,
  'Pong': (0, 1, 3, 4, 11, 12),
  'Pooyan': (0, 1, 2, 5, 10, 13),
  'PrivateEye': _ALL,
  'Qbert': (0, 1, 2, 3, 4, 5),
  'Riverraid': _ALL,
  'RoadRunner': _ALL,
  'Robotank': _ALL,
  'Seaquest': _ALL,
  'Skiing': (0, 3, 4),
  'Solaris': _ALL,
  'SpaceInvaders': (0, 1, 3, 4, 11, 12),
  'StarGunner': _ALL,
  'Tennis': _ALL,
  'TimePilot': (0, 1, 2, 3, 4, 5, 10, 11, 12, 13),
  'Tutankham': (0, 2, 3, 4, 5, 10, 11, 12),
  'UpNDown': (0, 1, 2, 5, 10, 13),
  'Venture': _ALL,
  'VideoPinball': (0, 1, 2, 3, 4, 5, 10, 11, 12),
  'WizardOfWor': (0, 1, 2, 3, 4, 5, 10, 11, 12, 13),
  'YarsRevenge': _ALL,
  'Zaxxon': _ALL,
}

# A game's task id is its place in this alphabetical list.
GAMES: tuple[str, ...] = tuple(LEGAL_ACTIONS)
NUM_TASKS = len(GAMES)

REFERENCE_SCORES: dict[str, ReferenceScore] = {
  'Alien': ReferenceScore(227.8, 7127.7, 2484.5),
  'Amidar': ReferenceScore(5.8, 1719.5, 1207.7),
  'Assault': ReferenceScore(222.4, 742.0, 1525.2),
  'Asterix': ReferenceScore(210.0, 8503.3, 2711.4),
  'Atlantis': ReferenceScore(12850.0, 29028.1, 853640.0),
  'BankHeist': ReferenceScore(14.2, 753.1, 601.8),
  'BattleZone': ReferenceScore(2360.0, 37187.5, 17784.8),
  'BeamRider': ReferenceScore(363.9, 16926.5, 5852.4),
  'Berzerk': ReferenceScore(123.7, 2630.4, 487.5),
  'Boxing': ReferenceScore(0.1, 12.1, 78.0),
  'Breakout': ReferenceScore(1.7, 30.5, 96.2),
  'Carnival': ReferenceScore(700.8, 3800, 4784.8),
  'Centipede': ReferenceScore(2090.9, 12017.0, 2583.0),
  'ChopperCommand': ReferenceScore(811.0, 7387.8, 2690.6),
  'CrazyClimber': ReferenceScore(10780.5, 35829.4, 104568.8),
  'DemonAttack': ReferenceScore(152.1, 1971.0, 6361.6),
  'DoubleDunk': ReferenceScore(-18.6, -16.4, -6.5),
  'Enduro': ReferenceScore(0.0, 860.5, 628.9),
  'FishingDerby': ReferenceScore(-91.7, -38.7, 0.6),
  'Freeway': ReferenceScore(0.0, 29.6, 26.3),
  'Frostbite': ReferenceScore(65.2, 4334.7, 367.1),
  'Gopher': ReferenceScore(257.6, 2412.5, 5479.9),
  'Gravitar': ReferenceScore(173.0, 3351.4, 330.1),
  'Hero': ReferenceScore(1027.0, 30826.4, 17325.4),
  'IceHockey': ReferenceScore(-11.2, 0.9, -5.8),
  'Jamesbond': ReferenceScore(29.0, 302.8, 573.3),
  'Kangaroo': ReferenceScore(52.0, 3035.0, 11486.0),
  'Krull': ReferenceScore(1598.0, 2665.5, 6097.6),
  'KungFuMaster': ReferenceScore(258.5, 22736.3, 23435.4),
  'MsPacman': ReferenceScore(307.3, 6951.6, 3402.4),
  'NameThisGame': ReferenceScore(2292.3, 8049.0, 7278.6),
  'Phoenix': ReferenceScore(761.4, 7242.6, 4996.6),
  'Pong': ReferenceScore(-20.7, 14.6, 16.6),
  'Pooyan': ReferenceScore(371.2, 0, 3212.0),
  'Qbert': ReferenceScore(163.9, 13455.0, 10117.5),
  'Riverraid': ReferenceScore(1338.5, 17118.0, 11638.9),
  'RoadRunner': ReferenceScore(11.5, 7845.0),
  'Robotank': ReferenceScore(2.2, 11.9, 59.8),
  'Seaquest': ReferenceScore(68.4, 42054.7, 1600.7),
  'SpaceInvaders': ReferenceScore(148.0, 1668.7, 1794.2),
  'StarGunner': ReferenceScore(664.0, 10250.0, 42165.2),
  'TimePilot': ReferenceScore(3568.0, 5229.2, 3654.4),
  'UpNDown': ReferenceScore(533.4, 11693.2, 8488.3),
  'VideoPinball': ReferenceScore(16256.9, 17667.9, 63406.1),
  'WizardOfWor': ReferenceScore(563.5, 4756.5, 2065.8),
  'YarsRevenge': ReferenceScore(3092.9, 54576.9, 23909.4),
  'Zaxxon': ReferenceScore(32.5, 9173.3, 4538.6),
}

PRETRAIN_GAMES = (
  'Phoenix',
  'Centipede',
  'SpaceInvaders',
  'Carnival',
  'NameThisGame',
  'Assault',
  'Atlantis',
  'DemonAttack',
  'BeamRider',
  'ChopperCommand',
  'Seaquest',
  'TimePilot',
  'StarGunner',
  'Berzerk',
  'Zaxxon',
)
HELD_OUT_GAMES = ('Pong', 'Robotank', 'YarsRevenge', 'Gravitar', 'MsPacman')
ABLATION_GAMES = (
  'Assault',
  'Carnival',
  'Centipede',
  'NameThisGame',
  'Phoenix',
  'SpaceInvaders',
)
# Those that Scaled-QL was pretrained on, and those that it was adapted to: RL
# Unplugged without RoadRunner, which has no reference scores.
SCALED_QL_HELD_OUT_GAMES = (
  'Alien',
  'MsPacman',
  'Pong',
  'SpaceInvaders',
  'StarGunner',
)
SCALED_QL_GAMES = tuple(
  game
  for game in REFERENCE_SCORES
  if game not in (*SCALED_QL_HELD_OUT_GAMES, 'Berzerk', 'RoadRunner')
)
GAME_LISTS: dict[str, tuple[str, ...]] = {
  'all': GAMES,
  'pretrain': PRETRAIN_GAMES,
  'held_out': HELD_OUT_GAMES,
  'ablation': ABLATION_GAMES,
  'scaled_ql': SCALED_QL_GAMES,
  'scaled_ql_held_out': SCALED_QL_HELD_OUT_GAMES,
}
# Those on which Scaled-QL was fine-tuned online: Freeway with buses, Hero from
# its fifth level on, Breakout whose bricks are invisible until they are hit.
VARIANT_LISTS: dict[str, tuple[str, ...]] = {
  'scaled_ql_variants': ('Freeway@m1d0', 'Hero@m1d0', 'Breakout@m12d0'),
}

# Held-out games borrow their task embedding's initial value from these
# (appendix E.2). Games that are not listed start from their own row.
RELATED_GAMES: dict[str, str] = {
  'Robotank': 'Phoenix',
  'YarsRevenge': 'ChopperCommand',
  'Gravitar': 'TimePilot',
  'MsPacman': 'Berzerk',
}


# What Gymnasium adds to a name: 'ALE/Pong-v5', 'PongNoFrameskip-v4'.
_GYMNASIUM = re.compile(r'^ale/|(deterministic|noframeskip)?-v\d+$')


def _letters(name: str) -> str:
  """What 'Ms. Pacman', 'ms_pacman' and 'MsPacman' have in common."""
  return re.sub(r'[^a-z0-9]', '', _GYMNASIUM.sub('', name.strip().lower()))


def _as_written(name: str) -> str | None:
  """The game that a name of another spelling means, None if there is none."""
  by_letters = {_letters(game): game for game in GAMES}
  return by_letters.get(_letters(name))


def check_game(name: str) -> str:
  """`name` if it is a known game; raises ValueError otherwise."""
  if name not in LEGAL_ACTIONS:
    close = _as_written(name)
    hint = f'did you mean {close!r}?' if close else f'one of {GAMES}'
    raise ValueError(f'Unknown game {name!r}: {hint}')
  return name


class Variant(NamedTuple):
  """A game as one of the switches of its cartridge sets it up.

  Attributes:
    game: a name in `GAMES`.
    mode: of the game, by ALE's number; None for the default.
    difficulty: by ALE's number; None for the default.
  """

  game: str
  mode: int | None = None
  difficulty: int | None = None


def parse_variant(name: str) -> Variant:
  """Reads 'Freeway', 'Freeway@m1' or 'Freeway@m1d0': mode and difficulty.

  Raises:
    ValueError: the game is unknown, or what follows is no such switch.
  """
  game, at, switches = name.partition('@')
  check_game(game)
  match = re.fullmatch(r'(?:m(\d+))?(?:d(\d+))?', switches)
  if match is None or (at and not switches):
    raise ValueError(
      f'{name!r} is no variant of {game}: write {game}@m1 for mode 1, or '
      f'{game}@m1d0 for mode 1 and difficulty 0'
    )
  return Variant(game, *(None if x is None else int(x) for x in match.groups()))


def parse_games(
  names: str | Sequence[str], variants: bool = False
) -> tuple[str, ...]:
  """Expands a list name ('pretrain') or games ('Pong,Zaxxon') to games.

  Games may be written as others write them: 'ALE/Pong-v5', 'ms_pacman'.

  Args:
    names: of games or lists.
    variants: whether variants and lists of them are taken, too, see
      `parse_variant`.

  Raises:
    ValueError: a name is neither a game nor a list, or none is given.
  """
  # A list that was typed for a tuple's field is one name with commas.
  text = names if isinstance(names, str) else ','.join(names)
  # A tuple that came as text, with its brackets and quotes, too.
  names = [name.strip(' ()[]"\'') for name in text.split(',')]
  names = [name for name in names if name]
  lists = {**GAME_LISTS, **(VARIANT_LISTS if variants else {})}
  expanded: list[str] = []
  for name in names:
    if name in VARIANT_LISTS and not variants:
      raise ValueError(
        f'{name} is a list of variants, {", ".join(VARIANT_LISTS[name])}, and '
        'games are asked for'
      )
    game, at, switches = name.partition('@') if variants else (name, '', '')
    known = _as_written(game) or game
    if at:
      games = (f'{known}@{switches}',)
      parse_variant(*games)
    else:
      games = lists.get(name) or (check_game(known),)
    expanded.extend(game for game in games if game not in expanded)
  if not expanded:
    raise ValueError(
      f'No game given: name games or one of the lists {tuple(lists)}'
    )
  return tuple(expanded)


def task_id(game: str) -> int:
  """The game's row in the task embedding tables."""
  return GAMES.index(check_game(game))


def rom_id(game: str) -> str:
  """Ale-py's name for the game: 'SpaceInvaders' -> 'space_invaders'."""
  return re.sub(r'(?<!^)(?=[A-Z])', '_', check_game(game)).lower()


def legal_mask() -> np.ndarray:
  """The legal actions of every game, [60, 18] bool."""
  mask = np.zeros((NUM_TASKS, NUM_ACTIONS), bool)
  for row, actions in enumerate(LEGAL_ACTIONS.values()):
    mask[row, list(actions)] = True
  return mask


def has_reference(game: str, reference: str = 'human') -> bool:
  """Whether scores can be normalised: Pooyan's human plays badly.

  Those of a variant cannot.
  """
  if parse_variant(game) != Variant(game):
    return False
  scores = REFERENCE_SCORES.get(check_game(game))
  if scores is None:
    return False
  if reference == 'dqn':
    return scores.dqn is not None
  return scores.human > scores.random


def normalized_score(
  game: str, score: float, reference: str = 'human'
) -> float:
  """(score - random) / (human - random), or the DQN analogue.

  The DQN-normalised score divides by max - min of (random, dqn) and starts
  at the smaller, so that it is defined where DQN is below random.

  Raises:
    ValueError: the game has no reference scores, or `reference` is unknown.
  """
  if check_game(game) not in REFERENCE_SCORES:
    raise ValueError(f'{game} has no reference scores')
  scores = REFERENCE_SCORES[game]
  if reference == 'human':
    low, high = scores.random, scores.human
  elif reference == 'dqn':
    if scores.dqn is None:
      raise ValueError(f'{game} has no score of DQN to compare with')
    low, high = sorted((scores.random, scores.dqn))
  else:
    raise ValueError(f"reference is {reference!r}, not 'human' or 'dqn'")
  return (score - low) / (high - low)
