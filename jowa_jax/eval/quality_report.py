"""What a trained model sees and dreams, as figures and pictures on disk."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jowa_jax import files, ownership
from jowa_jax.agent import Agent
from jowa_jax.data.episodes import Episode
from jowa_jax.eval import quality
from jowa_jax.eval.findings import NOTHING_HELD_OUT
from jowa_jax.eval.one_step import one_step
from jowa_jax.eval.open_loop import open_loop

# Written last: with it, all is there.
QUALITY = 'model_quality.json'


class Cloner(NamedTuple):
  """A behaviour-cloning agent and what it was trained on."""

  agent: Agent
  trained_on: Sequence[Episode]


def judge(
  agent: Agent,
  held_out: Sequence[Episode],
  medians: np.ndarray,
  folder: str | os.PathLike,
  num_dreams: int = 64,
  cloner: Cloner | None = None,
) -> None:
  """Judges an agent on episodes that it was not trained on.

  Writes `reconstructions.npz`, `dreams.npz`, `open_loop.json` and
  `model_quality.json`, which `report.write_report` shows.

  Args:
    agent: one with a tokenizer and a simulator.
    held_out: episodes that it was not trained on.
    medians: median frame of each game, [tasks, 84, 84] uint8.
    folder: where the files go.
    num_dreams: of each game, evenly spaced; what is told of dreams, and the
      open-loop curves, are means of so many.
    cloner: a behaviour-cloning agent whose accuracy is told too.

  Raises:
    ValueError: the agent has no tokenizer or no simulator, there are no
      episodes, or num_dreams is not positive.
    InUseError: another process writes such files there.
  """
  if num_dreams < 1:
    raise ValueError(f'num_dreams is {num_dreams}, not at least 1')
  if not held_out:
    raise ValueError(NOTHING_HELD_OUT)
  folder = pathlib.Path(folder)
  with ownership.owned(folder / '.judge.owner'):
    _judge(agent, held_out, medians, folder, num_dreams, cloner)


def _judge(
  agent: Agent,
  held_out: Sequence[Episode],
  medians: np.ndarray,
  folder: pathlib.Path,
  num_dreams: int,
  cloner: Cloner | None,
) -> None:
  seen = quality.reconstruct(agent, held_out, medians)
  dreamed = quality.dream(agent, held_out, num_sequences=num_dreams)
  for name, results in (('reconstructions', seen), ('dreams', dreamed)):
    arrays = {
      f'{game}/{key}': array
      for game, (_, pictures) in results.items()
      for key, array in pictures._asdict().items()
      if array is not None
    }
    with files.written_whole(folder / f'{name}.npz') as temporary:
      np.savez_compressed(temporary, **arrays)
  foreseen = one_step(agent, held_out)
  curves = open_loop(agent, held_out, num_sequences=num_dreams)
  files.write_text(folder / 'open_loop.json', json.dumps(curves, indent=2))
  tables = {
    game: {
      **metrics,
      **foreseen[game],
      **(dreamed[game][0] if game in dreamed else {}),
    }
    for game, (metrics, _) in seen.items()
  }
  if cloner is not None:
    majority = quality.majority_accuracy(cloner.trained_on, held_out)
    cloned = quality.policy_accuracy(cloner.agent, held_out)
    for game, table in tables.items():
      table['policy_accuracy'] = cloned[game]
      table['majority_accuracy'] = majority[game]
  files.write_text(folder / QUALITY, json.dumps(tables, indent=2))
