"""How often an agent names the right class, beside the commonest one.

Decision transformers name actions, returns and rewards. In most games one
reward, and in many one action, is so common that a share of right answers means
nothing until that of always naming it stands beside.
"""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jowa_jax import files
from jowa_jax.agent import Agent
from jowa_jax.data.episodes import Episode, by_game
from jowa_jax.eval.findings import NOTHING_HELD_OUT
from jowa_jax.eval.quality import windows

CLASSES = 'named_classes.json'
_BATCH = 32


def judge(
  agent: Agent,
  trained_on: Sequence[Episode],
  held_out: Sequence[Episode],
  folder: str | os.PathLike,
) -> dict[str, dict[str, dict[str, Any]]]:
  """Writes `named_classes.json`.

  Args:
    agent: one whose method answers, see `Method.answers`.
    trained_on: episodes that the commonest class is counted on.
    held_out: episodes that answers are about.
    folder: where the file goes.

  Returns:
    By game, and by what is named ('policy', 'returns', 'rewards'): `count` of
    answers, `accuracy`, and `commonest_accuracy`, that of always naming the
    class that was commonest of the game in training.

  Raises:
    ValueError: the method names nothing, or nothing is held out.
  """
  if agent.method.answers is None:
    raise ValueError(f'{agent.config["method"]} names no classes')
  if not held_out:
    raise ValueError(NOTHING_HELD_OUT)
  answer = jax.jit(agent.method.answers)

  @jax.jit
  def know(variables, batch):
    # What is true takes no network, and XLA leaves it out.
    found = agent.method.answers(variables, batch)
    return {
      name: each._replace(named=each.true) for name, each in found.items()
    }

  before, found = by_game(trained_on), {}
  for game, group in by_game(held_out).items():
    commonest = {
      name: int(np.bincount(true).argmax())
      for name, (_, true) in _answers(agent, know, before[game]).items()
    }
    found[game] = {
      name: {
        'count': len(true),
        'accuracy': float((named == true).mean()),
        'commonest_accuracy': float((true == commonest[name]).mean()),
      }
      for name, (named, true) in _answers(agent, answer, group).items()
    }
  files.write_text(pathlib.Path(folder) / CLASSES, json.dumps(found, indent=2))
  return found


def describe(game: str, found: dict[str, dict[str, Any]]) -> str:
  """A line for people."""
  return f'{game}: ' + '; '.join(
    f'{name} right {each["accuracy"]:.1%}, the commonest '
    f'{each["commonest_accuracy"]:.1%}'
    for name, each in found.items()
  )


def _answers(
  agent: Agent, answer: Any, episodes: Sequence[Episode]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """(what was named, what was true) of all that counts, by name."""
  parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
  for batch, counted in windows(agent, episodes, _BATCH):
    for name, each in answer(agent.variables, batch).items():
      mask = np.asarray(each.mask) & counted[:, None]
      part = np.asarray(each.named)[mask], np.asarray(each.true)[mask]
      parts.setdefault(name, []).append(part)
  return {
    name: tuple(np.concatenate(column) for column in zip(*each, strict=True))
    for name, each in parts.items()
  }
