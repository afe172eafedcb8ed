"""What a trained model sees and dreams, as figures and pictures on disk."""

import json
import os
import pathlib

import numpy as np

from jowa_jax import files
from jowa_jax.agent import Agent
from jowa_jax.data.training import TrainingData
from jowa_jax.eval import quality
from jowa_jax.eval.one_step import one_step
from jowa_jax.eval.open_loop import open_loop

# Written last: with it, all is there.
QUALITY = 'model_quality.json'


def judge(
  agent: Agent,
  data: TrainingData,
  folder: str | os.PathLike,
  cloner: Agent | None = None,
  num_dreams: int = 64,
) -> None:
  """Judges an agent on the episodes that the data holds out.

  Writes `reconstructions.npz`, `dreams.npz`, `open_loop.json` and
  `model_quality.json`, which `report.write_report` shows.

  Args:
    agent: of JOWA.
    data: with held-out episodes.
    folder: where the files go.
    cloner: a behaviour-cloning agent whose accuracy is told too.
    num_dreams: of each game, evenly spaced; what is told of dreams, and the
      open-loop curves, are means of so many.

  Raises:
    ValueError: the data holds nothing out, or num_dreams is not positive.
  """
  if num_dreams < 1:
    raise ValueError(f'num_dreams is {num_dreams}, not at least 1')
  if data.held_out is None:
    raise ValueError(
      'No episodes are held out (data.held_out_fraction=0), and what a model '
      'was trained on says little of it: give --held_out_fraction'
    )
  folder = pathlib.Path(folder)
  held_out = data.held_out.episodes
  seen = quality.reconstruct(agent, held_out, data.statistics['median_frames'])
  dreamed = quality.dream(agent, held_out, num_sequences=num_dreams)
  for name, results in (('reconstructions', seen), ('dreams', dreamed)):
    arrays = {
      f'{game}/{key}': array
      for game, (_, pictures) in results.items()
      for key, array in pictures._asdict().items()
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
    majority = quality.majority_accuracy(data.train.episodes, held_out)
    cloned = quality.policy_accuracy(cloner, held_out)
    for game, table in tables.items():
      table['policy_accuracy'] = cloned[game]
      table['majority_accuracy'] = majority[game]
  files.write_text(folder / QUALITY, json.dumps(tables, indent=2))
