"""Which episodes of a large data set are taken: as in the paper, by trajectory.

Of each game some runs are drawn, and whole trajectories from them until there
are enough transitions. The released program draws trajectories with
replacement; here none comes twice.
"""

import logging
import re
from collections.abc import Mapping, Sequence

import numpy as np

from jowa_jax import games
from jowa_jax.data.episodes import DataError, Episode, by_game
from jowa_jax.data.source import Split

# Shares of an agent's training, as the paper fine-tunes on them (appendix E.2
# and Table 21).
QUALITIES = {
  'expert': (0.8, 1.0),
  'suboptimal': (0.0, 1.0),
  'highly_suboptimal': (0.0, 0.2),
}
_RANGES = {'all': (0.0, 1.0), **QUALITIES}
# Of the transitions wanted: others cut episodes, and data sets, off elsewhere.
_ENOUGH = 0.95
_NUMBERS = re.compile(r'\d+(-\d+)?(,\d+(-\d+)?)*')


def parse_numbers(text: str) -> list[int]:
  """The numbers of a list such as '1,4' or '0-9,45-49'.

  Raises:
    ValueError: it is no such list.
  """
  if not _NUMBERS.fullmatch(text):
    raise ValueError(f'{text!r} is no list of numbers such as 1,4 or 40-49')
  numbers: list[int] = []
  for item in text.split(','):
    first, _, last = item.partition('-')
    numbers += range(int(first), int(last or first) + 1)
    if int(last or first) < int(first):
      raise ValueError(f'{text!r} has a range that ends before it begins')
  return sorted(set(numbers))


def is_named(checkpoints: str) -> bool:
  """Whether checkpoints are a list of numbers."""
  return checkpoints not in _RANGES


def draw_runs(splits: Sequence[Split], runs: str, seed: int) -> list[Split]:
  """The splits of the runs asked for.

  Args:
    splits: of one game.
    runs: 'all'; a list such as '1,4'; or 'random:2' for two runs that the seed
      and the game decide.
    seed: see `runs`.

  Raises:
    DataError: there are no such runs.
    ValueError: `runs` is not understood.
  """
  game = splits[0].game
  there = sorted({split.run for split in splits})
  if runs == 'all':
    wanted = there
  elif runs.startswith('random:'):
    text = runs.removeprefix('random:')
    if not text.isdecimal() or not int(text):
      raise ValueError(f'runs is {runs!r}, not a number of runs as in random:2')
    count = int(text)
    if count > len(there):
      raise DataError(f'{game} has runs {there}, fewer than {count}')
    rng = np.random.default_rng((seed, games.task_id(game), 0))
    wanted = sorted(rng.permutation(there)[:count].tolist())
  else:
    wanted = parse_numbers(runs)
  for run in wanted:
    if run not in there:
      raise DataError(f'{game} has no run {run}: there are {there}')
  return [split for split in splits if split.run in wanted]


def select_checkpoints(
  splits: Sequence[Split], checkpoints: str, whole_run: int | None = None
) -> list[Split]:
  """The splits of the checkpoints asked for.

  Args:
    splits: of one game.
    checkpoints: 'all', 'expert' (the last fifth by number), 'suboptimal' (all),
      'highly_suboptimal' (the first fifth), or a list such as '40-49'.
    whole_run: how many checkpoints a run has, though some may be missing here.

  Raises:
    DataError: a listed checkpoint is in none of the runs.
    ValueError: `checkpoints` is not understood.
  """
  there = sorted({split.checkpoint for split in splits})
  # Runs of a known length are numbered from 1, or from 0 if there is one.
  first = 0 if whole_run is None or 0 in there else 1
  total = max(there[-1] + 1 - first, whole_run or 0)
  if checkpoints in _RANGES:
    low, high = (round(share * total) for share in _RANGES[checkpoints])
    # Of few checkpoints the first or the last, never none.
    low, high = min(low, total - 1), max(high, 1)
    wanted = list(range(first + low, first + high))
  else:
    wanted = parse_numbers(checkpoints)
    for checkpoint in wanted:
      if checkpoint not in there:
        raise DataError(
          f'{splits[0].game} has no checkpoint {checkpoint}: there are {there}'
        )
  chosen = [split for split in splits if split.checkpoint in wanted]
  if not chosen:
    raise DataError(
      f'{splits[0].game} has no checkpoint among {checkpoints} '
      f'({wanted[0]}-{wanted[-1]}): there are {there}; name those that are '
      f'wanted, such as --checkpoints={there[-1]}'
    )
  return chosen


def check_amount(fraction: float | None, transitions: int | None) -> None:
  """Raises ValueError unless at most one is given, and that in its range."""
  if fraction is not None and transitions is not None:
    raise ValueError('Give a fraction or a number of transitions, not both')
  if fraction is not None and not 0 < fraction <= 1:
    raise ValueError(f'fraction is {fraction}, not in (0, 1]')
  if transitions is not None and transitions < 1:
    raise ValueError(f'transitions is {transitions}, not positive')


def draw_episodes(
  lengths: Mapping[Split, Sequence[int]],
  seed: int,
  fraction: float | None = None,
  transitions: int | None = None,
) -> dict[Split, list[int]]:
  """Draws whole episodes of a game, uniformly and without replacement.

  Args:
    lengths: transitions of every episode of every split, all of one game.
    seed: decides the order in which they are drawn.
    fraction: share of the transitions wanted.
    transitions: number of transitions wanted; all if both are None. The
      episode that reaches the number is the last one drawn. Where a little
      less is there, all of it is taken, with a warning.

  Returns:
    The places of the episodes of every split, ascending. Those in which
    nothing happens are never drawn.

  Raises:
    DataError: there are not enough transitions.
    ValueError: both are given, or out of range.
  """
  check_amount(fraction, transitions)
  line = [
    (split, place, length)
    for split in sorted(lengths)
    for place, length in enumerate(lengths[split])
    if length
  ]
  total = sum(length for _, _, length in line)
  game = next(iter(lengths)).game
  wanted = total
  if transitions is not None:
    wanted = transitions
  elif fraction is not None:
    wanted = fraction * total
  if line and _ENOUGH * wanted <= total < wanted:
    logging.warning(
      '%s has %d of %d transitions: all of them are taken', game, total, wanted
    )
  elif not line or wanted > total:
    raise DataError(
      f'{game} has {total} transitions in complete episodes, {wanted} are '
      'wanted: take more runs or checkpoints, or fewer transitions '
      f'(--transitions={total} where data are prepared, '
      f'--config.data.transitions={total} where they are trained on)'
    )
  rng = np.random.default_rng((seed, games.task_id(game), 1))
  drawn: dict[Split, list[int]] = {split: [] for split in lengths}
  count = 0
  for choice in rng.permutation(len(line)):
    if count >= wanted:
      break
    split, place, length = line[choice]
    drawn[split].append(place)
    count += length
  return {split: sorted(places) for split, places in drawn.items()}


def draw_prepared(
  episodes: Sequence[Episode],
  checkpoints: str,
  transitions: int | None,
  seed: int,
  whole_run: int | None = None,
) -> list[Episode]:
  """Draws from what was prepared for training, of every game as much.

  Args:
    episodes: what was loaded.
    checkpoints: see `select_checkpoints`.
    transitions: of each game, see `draw_episodes`; all if None.
    seed: of the draw.
    whole_run: see `select_checkpoints`.

  Returns:
    The episodes drawn, in their order.

  Raises:
    DataError: there are not enough transitions.
  """
  drawn: set[int] = set()
  for group in by_game(episodes).values():
    splits: dict[Split, list[Episode]] = {}
    for episode in group:
      split = Split(episode.game, episode.run, episode.checkpoint)
      splits.setdefault(split, []).append(episode)
    lengths = {
      split: [len(episode) for episode in splits[split]]
      for split in select_checkpoints(sorted(splits), checkpoints, whole_run)
    }
    for split, places in draw_episodes(
      lengths, seed, transitions=transitions
    ).items():
      drawn.update(splits[split][place].episode_id for place in places)
  return [episode for episode in episodes if episode.episode_id in drawn]
