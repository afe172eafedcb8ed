"""What is in a data set, before anyone trains on it: numbers and a picture."""

import collections
import itertools
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import matplotlib.figure
import numpy as np

from jowa_jax import files, games
from jowa_jax.data.episodes import (
  DataError,
  Episode,
  RawEpisode,
  by_checkpoint,
  by_game,
  digest,
  missing_columns,
)
from jowa_jax.data.places import spread_frames

_FRAMES_SHOWN = 8
_UNKNOWN = 'not known: made of videos'


def summarize(episodes: Sequence[Episode]) -> dict[str, Any]:
  """What is in the episodes, by game, as JSON holds it.

  Of a game: `runs`, `steps`, `episodes`, `full_episodes` (that ended in game
  over), `lengths` and `returns` (unclipped if the source is; of full episodes)
  as quantiles, `rewards` (clipped reward -> count), `actions` (name -> count),
  and of every checkpoint its episodes, steps and mean return. Rewards and
  actions that are not known, of videos, are None.
  """
  return {
    game: _summarize_game(group) for game, group in by_game(episodes).items()
  }


def _summarize_game(group: Sequence[Episode]) -> dict[str, Any]:
  actions = np.zeros(games.NUM_ACTIONS, np.int64)
  rewards: collections.Counter[int] = collections.Counter()
  for episode in group:
    actions += np.bincount(episode.actions, minlength=games.NUM_ACTIONS)
    values, counts = np.unique(episode.rewards, return_counts=True)
    rewards.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
  facts = {
    'runs': sorted({episode.run for episode in group}),
    'steps': sum(map(len, group)),
    'episodes': len(group),
    'full_episodes': sum(episode.terminated for episode in group),
    'lengths': _quantiles([len(episode) for episode in group]),
    'returns': _quantiles([e.score for e in group if e.terminated]),
    'rewards': {str(value): rewards[value] for value in sorted(rewards)},
    'actions': {
      games.ACTION_NAMES[action]: int(count)
      for action, count in enumerate(actions)
      if count
    },
    'checkpoints': {
      name: {
        'episodes': stats.episodes,
        'steps': stats.steps,
        'mean_return': stats.mean_return,
      }
      for name, stats in by_checkpoint(group).items()
    },
  }
  for columns in missing_columns(group).values():
    facts |= dict.fromkeys(columns)
  return facts


def _quantiles(values: Sequence[float]) -> dict[str, float] | None:
  """Minimum, median, maximum and mean; None of no values."""
  if not values:
    return None
  return {
    'min': float(np.min(values)),
    'median': float(np.median(values)),
    'max': float(np.max(values)),
    'mean': float(np.mean(values)),
  }


def describe(summary: dict[str, Any]) -> str:
  """A summary as text."""
  lines = []
  for game, facts in summary.items():
    full = facts['full_episodes']
    lines += [
      f'{game} (runs {", ".join(map(str, facts["runs"]))})',
      f'  {facts["steps"]} transitions in {facts["episodes"]} episodes, {full} '
      'of them complete',
      f'  lengths: {_range(facts["lengths"])}',
      f'  returns: {_range(facts["returns"])}',
      f'  rewards, clipped: {_shares(facts["rewards"])}',
      f'  actions: {_shares(facts["actions"])}',
    ]
    for name, stats in facts['checkpoints'].items():
      mean = stats['mean_return']
      mean = 'unknown' if mean is None else format(mean, '.1f')
      lines.append(
        f'  {name}: {stats["steps"]} transitions, {stats["episodes"]} '
        f'episodes, mean return {mean}'
      )
  return '\n'.join(lines)


def _range(facts: dict[str, float] | None) -> str:
  if facts is None:
    return 'unknown, no episode is complete'
  return ', '.join(f'{name} {value:.1f}' for name, value in facts.items())


def _shares(counts: dict[str, int] | None) -> str:
  if counts is None:
    return _UNKNOWN
  total = sum(counts.values())
  return ', '.join(
    f'{name} {count / total:.1%}' for name, count in counts.items()
  )


def draw(episodes: Sequence[Episode], path: str | os.PathLike) -> None:
  """Writes a picture (.png, .svg or .pdf) with a row for each game.

  Histograms of episode lengths, returns, rewards and actions, and frames
  evenly spaced over the episodes.

  Raises:
    DataError: a frame is damaged.
    ValueError: the file's suffix is no format.
  """
  groups = by_game(episodes)
  figure = matplotlib.figure.Figure(
    figsize=(14, 4.6 * len(groups)), layout='constrained'
  )
  rows = figure.subfigures(len(groups), 1, squeeze=False)[:, 0]
  for row, (game, group) in zip(rows, groups.items(), strict=True):
    _draw_game(row, game, group)
  suffix = pathlib.Path(path).suffix.removeprefix('.')
  if suffix not in figure.canvas.get_supported_filetypes():
    raise ValueError(f'{path}: give a file that ends in .png, .svg or .pdf')
  with files.written_whole(path) as temporary:
    figure.savefig(temporary, dpi=100)


def _draw_game(row: Any, game: str, group: Sequence[Episode]) -> None:
  row.suptitle(game, weight='bold')
  facts = _summarize_game(group)
  above, below = row.subfigures(2, 1, height_ratios=(3, 2))
  axes = above.subplots(1, 4)
  axes[0].hist([len(episode) for episode in group], bins=20)
  axes[0].set_title('Episode lengths')
  scores = [episode.score for episode in group if episode.terminated]
  axes[1].hist(scores, bins=20)
  axes[1].set_title('Returns of complete episodes')
  for axis, name in ((axes[2], 'rewards'), (axes[3], 'actions')):
    if facts[name] is None:
      axis.set_title(f'{name.capitalize()}: {_UNKNOWN}')
      axis.set_axis_off()
      continue
    axis.barh(list(facts[name]), list(facts[name].values()))
    axis.set_title(f'{name.capitalize()}, steps')
    axis.tick_params(labelsize=7)
  if facts['rewards']:
    axes[2].set_xscale('log')
  frames = spread_frames(group, _FRAMES_SHOWN)
  for axis, frame in itertools.zip_longest(
    below.subplots(1, _FRAMES_SHOWN), frames
  ):
    axis.set_axis_off()
    if frame is not None:
      axis.imshow(frame, cmap='gray', vmin=0, vmax=255)


def verify(episodes: Sequence[Episode]) -> None:
  """Reads everything and compares it with the digests of when it was written.

  Raises:
    DataError: something is damaged or differs.
  """
  for episode in episodes:
    legal = np.array(games.LEGAL_ACTIONS[episode.game])
    order = np.argsort(legal)
    actions = order[np.searchsorted(legal, episode.actions, sorter=order)]
    raw = RawEpisode(
      frames=list(episode.frames[:]),
      actions=actions,
      rewards=episode.rewards,
      terminated=episode.terminated,
    )
    if digest(raw) != episode.digest:
      raise DataError(
        f'Episode {episode.episode_id} ({episode.game}, run {episode.run}, '
        f'checkpoint {episode.checkpoint}) is not what was written: prepare or '
        'collect the data again'
      )
