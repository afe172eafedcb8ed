"""Recorded play: what is there, what it scored, what an agent never saw."""

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jowa_jax import games as games_lib
from jowa_jax.agent import Agent
from jowa_jax.collect import recordings
from jowa_jax.collect.recordings import Recorded
from jowa_jax.collect.replay import replay
from jowa_jax.configuration import ConfigError, build
from jowa_jax.data.episodes import DataError, Episode, split_episodes
from jowa_jax.data.feed.training import DataConfig
from jowa_jax.data.prepare import selection
from jowa_jax.data.store import stored
from jowa_jax.envs import ale
from jowa_jax.eval.records import Rollout, is_complete

# The name of recorded play among those who play.
DATA = 'data'
ByGame = Mapping[str, Sequence[Recorded]]


class Beginning(NamedTuple):
  """The beginning of a checkpoint, and episodes in it."""

  run: int
  checkpoint: int
  steps: int  # decisions
  places: tuple[int, ...]  # of episodes that were held out, whole


def read(names: str) -> dict[str, list[Recorded]]:
  """Checkpoints by game, from poor to good.

  Args:
    names: of recordings, as `recordings.find` takes them; those of the package
      that are called as their game if empty.

  Raises:
    DataError: there is no such recording, or it is damaged.
  """
  if names:
    files = recordings.find(names)
  else:
    files = {
      name: file
      for name, file in recordings.packaged().items()
      if name in games_lib.GAMES
    }
  found: dict[str, list[Recorded]] = {}
  for path in files.values():
    for some in recordings.load(path).checkpoints:
      found.setdefault(some.game, []).append(some)
  return {
    game: sorted(group, key=lambda some: (some.run, some.checkpoint))
    for game, group in found.items()
  }


def check(
  recorded: ByGame, games: Iterable[str], checkpoints: Iterable[int], name: str
) -> None:
  """Raises DataError if what is to be played again is not recorded."""
  for game in games:
    if game not in recorded:
      raise DataError(
        f'data.{name}: {game} is not recorded, only '
        f'{", ".join(sorted(recorded)) or "nothing"}: choose other games, or '
        'name files in recordings'
      )
    there = {some.checkpoint for some in recorded[game]}
    for checkpoint in checkpoints:
      if checkpoint not in there:
        raise DataError(
          f'data.{name}.checkpoints: {game} has no checkpoint {checkpoint}, '
          f'only {sorted(there)}'
        )


def play_again(
  names: str,
  output: pathlib.Path,
  games: Sequence[str],
  checkpoints: Sequence[int],
  steps: int,
  progress: bool,
) -> None:
  """Writes data sets of recorded play, see `replay`; prints what is in them."""
  for split in replay(
    names or ','.join(games),
    output,
    games,
    checkpoints=checkpoints,
    steps_per_checkpoint=steps,
    # What is played again is checked against scores and frames anyway.
    any_version=True,
    progress=progress,
  ):
    print(split)


def rollouts(
  some: Iterable[Recorded], steps: int, limit: int = 0
) -> list[Rollout]:
  """Complete episodes as rollouts of 'data'.

  Args:
    some: checkpoints of one game.
    steps: decisions of each checkpoint that count, 0 for all.
    limit: decisions, see `records.is_complete`.
  """
  found = []
  for one in some:
    ends = np.cumsum(one.lengths)
    for place, length in enumerate(one.lengths.tolist()):
      if steps and ends[place] > steps:
        continue
      terminated = bool(one.terminated[place])
      if not is_complete(terminated, length, limit):
        continue
      found.append(
        Rollout(
          agent=DATA,
          game=one.game,
          rollout=len(found),
          seed=len(found),
          score=float(one.scores[place]),
          clipped_score=None,
          decisions=length,
          frames=ale.FRAME_SKIP * length,
          seconds=0.0,
          terminated=terminated,
        )
      )
  return found


def _seen(agent: Agent, some: Sequence[Recorded]) -> list[Recorded]:
  """The checkpoints of a game that an agent's data is of."""
  data = agent.config['data']
  return [
    one
    for one in some
    if (data.get('runs') is None or one.run in data['runs'])
    and (
      data.get('checkpoints') is None or one.checkpoint in data['checkpoints']
    )
  ]


def rollouts_of(
  agent: Agent, recorded: ByGame, game: str, limit: int
) -> list[Rollout]:
  """The episodes of a game that an agent's data has, if recorded."""
  return rollouts(_seen(agent, recorded.get(game, ())), 0, limit=limit)


def held_out(
  agent: Agent, recorded: ByGame, games: Iterable[str], decisions: int
) -> dict[str, Beginning]:
  """Which recorded episodes an agent's training held out.

  Nothing is played: lengths are recorded, and the split depends on them alone.

  Args:
    agent: trained on all of what is recorded of its games.
    recorded: checkpoints by game.
    games: the agent's, of which it is asked.
    decisions: how many are wanted of each game, in whole episodes; fewer if
      there are no more in the best checkpoint that has any.

  Raises:
    ConfigError: it was trained on other play than is recorded.
  """
  data = build(DataConfig, agent.config['data'], 'data')
  seed, beginnings = agent.config['run']['seed'], {}
  for game in games:
    seen = _seen(agent, recorded.get(game, ()))
    episodes = _outlines(seen)
    if data.quality or data.transitions:
      episodes = selection.draw_prepared(
        episodes, data.quality or 'all', data.transitions, seed
      )
    train, held = split_episodes(episodes, data.held_out_fraction, seed)
    trained_on = agent.data.get('games', {}).get(game)
    if not held or _counts(train) != _counts_of(trained_on):
      raise ConfigError(
        f'judge.agent: what was held out of {game} cannot be told, as it was '
        'trained on other play than is recorded: leave judge.agent empty'
      )
    beginnings[game] = _beginning(seen, {e.episode_id for e in held}, decisions)
  return beginnings


def _outlines(seen: Iterable[Recorded]) -> list[Episode]:
  """Episodes without frames, numbered in their order."""
  episodes = []
  for one in seen:
    for length in one.lengths.tolist():
      episodes.append(
        Episode(
          game=one.game,
          task=games_lib.task_id(one.game),
          run=one.run,
          checkpoint=one.checkpoint,
          episode_id=len(episodes),
          frames=(),
          actions=np.zeros(length, np.uint8),
          rewards=np.zeros(length, np.int8),
          score=0.0,
          terminated=True,
          digest=b'',
        )
      )
  return episodes


def _counts(episodes: Iterable[Episode]) -> dict[str, tuple[int, int]]:
  """Episodes and decisions by checkpoint, named as in identities."""
  counts: dict[str, tuple[int, int]] = {}
  for episode in episodes:
    name = f'run_{episode.run}/checkpoint_{episode.checkpoint:02d}'
    before = counts.get(name, (0, 0))
    counts[name] = (before[0] + 1, before[1] + len(episode))
  return counts


def _counts_of(identity: Mapping | None) -> dict[str, tuple[int, int]]:
  """The same from a game's entry in `TrainingData.identity`."""
  return {
    name: (part['episodes'], part['steps'])
    for name, part in (identity or {}).items()
  }


def _beginning(
  seen: Sequence[Recorded], held: set[int], decisions: int
) -> Beginning:
  """The beginning of the best checkpoint that has held-out episodes."""
  first, best = 0, None
  for one in seen:
    places, total = [], 0
    for place, length in enumerate(one.lengths.tolist()):
      if first + place in held and total < decisions:
        places.append(place)
        total += length
    if places:
      steps = int(one.lengths[: places[-1] + 1].sum())
      best = Beginning(one.run, one.checkpoint, steps, tuple(places))
    first += len(one.lengths)
  return best


def of_run(names: str, game: str, run: int) -> str:
  """The recordings among others that hold a run of a game, as `names` do."""
  return ','.join(
    name
    for name, path in recordings.find(names).items()
    if any(
      (some.game, some.run) == (game, run)
      for some in recordings.load(path).checkpoints
    )
  )


def load_held_out(
  names: str,
  beginnings: Mapping[str, Beginning],
  output: pathlib.Path,
  progress: bool,
) -> tuple[list[Episode], list[Episode]]:
  """Plays the beginnings of recordings again.

  Args:
    names: of the recordings, see `read`.
    beginnings: by game, see `held_out`.
    output: where their data sets go.
    progress: show progress bars.

  Returns:
    What was held out, and the episodes beside it.
  """
  held, others = [], []
  for game, some in beginnings.items():
    alone = of_run(names or game, game, some.run)
    play_again(alone, output, (game,), (some.checkpoint,), some.steps, progress)
    episodes = stored.load_episodes(output, (game,), (some.run,))
    for place, episode in enumerate(episodes):
      (held if place in some.places else others).append(episode)
  return held, others
