"""Dreamed environments by name: what `gymnasium.make` calls.

`gymnasium.make('jowa_jax.play:jowa/Dream-v0', checkpoint=..., game=...)`;
the part before the colon is what Gymnasium imports first.
"""

import os
import pathlib
from typing import Any

import numpy as np

from jowa_jax import agent as agent_lib
from jowa_jax import games as games_lib
from jowa_jax.agent import Agent
from jowa_jax.data.episodes import DataError
from jowa_jax.data.places import evenly
from jowa_jax.data.store import stored
from jowa_jax.envs.ale import AleEnv
from jowa_jax.envs.dream import Contexts, DreamEnv, DreamVectorEnv
from jowa_jax.play.session import check_trained
from jowa_jax.types import FRAME_SHAPE

# Decisions of random play that contexts are taken from, without data.
_RANDOM_PLAY = 1000


def make(**options: Any) -> DreamEnv:
  """One dreamed environment.

  Args:
    **options: see `make_vector`, but for `num_envs` and `autoreset_mode`.
  """
  agent, contexts, options = _prepare(**options)
  return DreamEnv(agent, contexts=contexts, **options)


def make_vector(num_envs: int = 1, **options: Any) -> DreamVectorEnv:
  """Dreamed environments, stepped together.

  Args:
    num_envs: E.
    **options: of `DreamVectorEnv`, and
      checkpoint: a run, a packed agent, 'pretrained' (the default), or an
        `Agent`.
      game: that it was trained on; its first by default.
      data: a directory of data sets that contexts are taken from; random play
        in the emulator by default.
      num_contexts: how many, evenly spaced, 256 by default.
      context: frames of each; by default half of what the model has room for.

  Raises:
    CheckpointError: there is no such checkpoint.
    DataError: the data has no such game, or no episode of so many frames.
    ValueError: the agent cannot dream, or was not trained on the game.
  """
  agent, contexts, options = _prepare(**options)
  return DreamVectorEnv(agent, contexts=contexts, num_envs=num_envs, **options)


def _prepare(
  checkpoint: str | os.PathLike | Agent = 'pretrained',
  game: str | None = None,
  data: str | os.PathLike | None = None,
  num_contexts: int = 256,
  context: int | None = None,
  **options: Any,
) -> tuple[Agent, Contexts, dict[str, Any]]:
  """The agent, its contexts, and the rest of what was asked for."""
  agent = checkpoint
  if not isinstance(checkpoint, Agent):
    agent = agent_lib.load(checkpoint)
  game = check_trained(agent, game or agent.games[0])
  contexts = contexts_of(agent, game, data, num_contexts, context)
  return agent, contexts, {'game': game, **options}


def contexts_of(
  agent: Agent,
  game: str,
  data: str | os.PathLike | None,
  count: int,
  length: int | None = None,
) -> Contexts:
  """What dreams of an agent begin with.

  Args:
    agent: that dreams.
    game: a name in `games.GAMES`.
    data: see `stored_contexts`; None for random play in the emulator.
    count: how many, at most.
    length: frames of each; by default half of what the agent has room for.

  Raises:
    DataError: see `stored_contexts`.
    ValueError: the agent cannot dream, or there is to be no context.
  """
  if count < 1:
    raise ValueError(f'num_contexts={count} must be at least 1')
  if length is None:
    length = max(1, agent.simulator.max_steps // 2)
  if data is None:
    return played_contexts(game, count, length)
  return stored_contexts(data, game, count, length)


def stored_contexts(
  directory: str | os.PathLike, game: str, count: int, length: int
) -> Contexts:
  """Contexts of a data set, evenly spaced over all of its play.

  Args:
    directory: what `launch.collect` or `launch.prepare_data` wrote.
    game: a name in `games.GAMES`.
    count: how many, at most.
    length: frames of each.

  Raises:
    DataError: the data has no such game, or no episode of so many frames.
  """
  episodes = stored.load_episodes(directory, (game,))
  starts = [
    (i, t)
    for i, episode in enumerate(episodes)
    for t in range(len(episode) - length + 1)
  ]
  if not starts:
    raise DataError(
      f'{pathlib.Path(directory)}: no episode of {game} has {length} frames'
    )
  frames = []
  chosen = [starts[place] for place in evenly(len(starts), count)]
  for i, t in chosen:
    frames.append(np.empty((length, *FRAME_SHAPE), np.uint8))
    episodes[i].decode(t, t + length, frames[-1])
  actions = [episodes[i].actions[t : t + length] for i, t in chosen]
  return Contexts(np.stack(frames), np.stack(actions).astype(np.int32))


def played_contexts(game: str, count: int, length: int) -> Contexts:
  """Contexts of random play, the same each time.

  Args:
    game: a name in `games.GAMES`.
    count: how many, at most.
    length: frames of each.
  """
  rng = np.random.default_rng(0)
  env, legal = AleEnv(game), games_lib.LEGAL_ACTIONS[game]
  frames, actions, starts = [], [], []
  while len(actions) < _RANDOM_PLAY + length:
    first, frame, ended = len(actions), env.reset(), False
    while not ended and len(actions) < _RANDOM_PLAY + length:
      frames.append(frame)
      actions.append(int(rng.choice(legal)))
      outcome = env.step(actions[-1])
      frame, ended = outcome.frame, outcome.terminated or outcome.truncated
    starts += range(first, len(actions) - length + 1)
  chosen = [starts[place] for place in evenly(len(starts), count)]
  return Contexts(
    np.stack([np.stack(frames[t : t + length]) for t in chosen]),
    np.array([actions[t : t + length] for t in chosen], np.int32),
  )
