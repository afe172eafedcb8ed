"""What the latent actions of an agent that watched mean, and do."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jowa_jax import files, games
from jowa_jax.agent import Agent
from jowa_jax.data.episodes import Episode, by_game
from jowa_jax.data.feed.dataset import SegmentDataset
from jowa_jax.data.places import evenly
from jowa_jax.eval.findings import NOTHING_HELD_OUT
from jowa_jax.losses import agreement

LATENTS = 'latent_actions.json'
_BATCH = 32


def judge(
  agent: Agent,
  episodes: Sequence[Episode],
  folder: str | os.PathLike,
  num_segments: int = 512,
) -> dict[str, dict[str, Any]]:
  """Writes `latent_actions.json`, which `report.write_report` shows.

  Args:
    agent: one with latent actions.
    episodes: with actions.
    folder: where the file goes.
    num_segments: of each game, evenly spaced.

  Returns:
    By game: `actions`, the names of those that were taken; `counts`, how often
    each was told as each latent one; `transitions`; `used`, the share of
    latent actions that were told at all, and their `perplexity`; `purity`, the
    share of transitions of which the latent action tells the real one, and
    `purity_of_chance`, that of always saying the game's most frequent one;
    `information` that the one has of the other, in nats, and
    `information_of_chance`, of the same actions in another order.

  Raises:
    ValueError: the agent has no latent actions, or an episode no actions.
  """
  if agent.method.latents is None:
    raise ValueError(f'{agent.config["method"]} has no latent actions')
  if not episodes:
    raise ValueError(NOTHING_HELD_OUT)
  for episode in episodes:
    if 'actions' in episode.missing:
      raise ValueError(
        f'{episode.game}: what latent actions mean is told from play with '
        "'actions', and this was made of videos: give --data with actions"
      )
  found = {
    game: _figures(_counts(agent, group, num_segments), group[0].task)
    for game, group in by_game(episodes).items()
  }
  files.write_text(pathlib.Path(folder) / LATENTS, json.dumps(found, indent=2))
  return found


def _counts(
  agent: Agent, episodes: Sequence[Episode], num_segments: int
) -> np.ndarray:
  """How often actions were told as latent ones, [60, A, K]."""
  spec = agent.method.spec
  data = SegmentDataset(
    episodes, spec.length, spec.length, 'right', **spec.reading
  )
  places = evenly(data.num_segments, num_segments)
  tell = jax.jit(agent.method.latents.told)
  total = 0
  for start in range(0, len(places), _BATCH):
    chosen = places[start : start + _BATCH]
    # Of one shape: what fills the last batch is no part of any episode.
    batch = data.batch(np.resize(chosen, _BATCH))
    mask = batch.mask & (np.arange(_BATCH) < len(chosen))[:, None]
    counts = tell(agent.variables, batch.replace(mask=mask))
    total = total + np.asarray(counts, np.int64)
  return total


def _figures(counts: np.ndarray, task: int) -> dict[str, Any]:
  """What there is to say of a game's counts, [60, A, K]."""
  of_game = jnp.asarray(counts[task][None], jnp.float32)
  found, chance = agreement.purity(of_game)
  taken = np.flatnonzero(counts[task].sum(axis=1))
  return {
    'transitions': int(counts[task].sum()),
    'used': float((counts[task].sum(axis=0) > 0).mean()),
    'perplexity': float(agreement.perplexity(of_game)),
    'purity': float(found),
    'purity_of_chance': float(chance),
    'information': float(agreement.mutual_information(of_game)),
    'information_of_chance': _shuffled(counts[task]),
    'actions': [games.ACTION_NAMES[action] for action in taken],
    'counts': counts[task][taken].tolist(),
  }


def _shuffled(counts: np.ndarray) -> float:
  """The information of chance, of a game's counts [A, K]."""
  action, code = (
    np.repeat(places.reshape(-1), counts.reshape(-1))
    for places in np.indices(counts.shape)
  )
  other = np.zeros_like(counts)
  np.add.at(other, (np.random.default_rng(0).permutation(action), code), 1)
  found = agreement.mutual_information(jnp.asarray(other[None], jnp.float32))
  return float(found)


def follow(agent: Agent, frames: np.ndarray, choices: np.ndarray) -> np.ndarray:
  """The frames that latent actions lead to, [E, H, 84, 84] uint8.

  Args:
    agent: one with latent actions.
    frames: [T, 84, 84] uint8, of real play, the last one last; before the
      first there is nothing.
    choices: [E, H] latent actions, each row from the same frames on.

  Raises:
    ValueError: the agent has no latent actions, or not those.
  """
  latents = agent.method.latents
  if latents is None:
    raise ValueError(f'{agent.config["method"]} has no latent actions')
  if choices.min() < 0 or choices.max() >= latents.count:
    raise ValueError(
      f'Latent actions {choices.min()}..{choices.max()}: this agent has those '
      f'from 0 to {latents.count - 1}'
    )
  stack = np.zeros((latents.stack, 84, 84), np.uint8)
  recent = frames[-latents.stack :]
  stack[len(stack) - len(recent) :] = recent
  stacks = np.broadcast_to(stack, (len(choices), *stack.shape))
  memory = jax.jit(latents.remember)(agent.variables, stacks)
  step, shown = jax.jit(latents.follow), []
  for latent in np.asarray(choices, np.int32).T:
    frame, memory = step(agent.variables, memory, latent)
    shown.append(np.asarray(frame))
  return np.stack(shown, axis=1)
