"""Writes played episodes as a TFDS data set in RL Unplugged's Atari format."""

import contextlib
import io
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping

import numpy as np
from absl import logging

from jowa_jax.collect import play

DATA_SET = 'jowa_atari'
VERSION = '1.0.0'
# Beside the shards: what was played and how it went.
RECORD = 'collection.json'


def data_set_path(output: pathlib.Path, game: str, run: int) -> pathlib.Path:
  """Returns the directory of a game's finished data set."""
  return output / DATA_SET / f'{game}_run_{run}' / VERSION


def write(
  output: pathlib.Path,
  game: str,
  run: int,
  pieces: Mapping[str, tuple[int, pathlib.Path]],
  record: dict,
  work: pathlib.Path,
) -> None:
  """Writes a game's data set, which appears when it is complete.

  Args:
    output: where `jowa_atari/<Game>_run_<run>/1.0.0` goes.
    game: a name in `games.GAMES`.
    run: the run's number.
    pieces: split -> (checkpoint id, file of `play.save`).
    record: what goes to `collection.json`.
    work: a directory on the same file system for what is not complete.

  Raises:
    FileExistsError: the data set is there already.
  """
  # Here, so that the processes that play do not load TensorFlow.
  from tensorflow_datasets.rl_unplugged import atari_utils

  from jowa_jax.data.tf_libraries import tfds

  final = data_set_path(output, game, run)
  if final.exists():
    raise FileExistsError(f'{final} is there already: remove it first')
  temporary = work / f'tfds.{os.getpid()}'
  shutil.rmtree(temporary, ignore_errors=True)
  with _quiet_tfds(tfds):
    builder = tfds.dataset_builders.store_as_tfds_dataset(
      name=DATA_SET,
      config=final.parent.name,
      version=VERSION,
      data_dir=temporary,
      features=atari_utils.features_dict(),
      split_datasets={
        split: _rlds_episodes(checkpoint, path)
        for split, (checkpoint, path) in pieces.items()
      },
      description=(
        f'{game}, played in the Arcade Learning Environment by a look-ahead '
        'search mixed with random decisions; one split per mixture, from '
        f'poor to good. Rewards are not clipped; see {RECORD}.'
      ),
      # Integer keys keep the order of the episodes.
      disable_shuffling=True,
    )
  prepared = pathlib.Path(builder.data_dir)
  (prepared / RECORD).write_text(json.dumps(record, indent=2) + '\n')
  final.parent.mkdir(parents=True, exist_ok=True)
  prepared.rename(final)
  shutil.rmtree(temporary)


@contextlib.contextmanager
def _quiet_tfds(tfds) -> Iterator[None]:
  """Keeps TFDS's bars, prints and logs off the caller's progress bar."""
  verbosity = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)
  tfds.disable_progress_bar()
  try:
    with contextlib.redirect_stdout(io.StringIO()):
      yield
  finally:
    tfds.enable_progress_bar()
    logging.set_verbosity(verbosity)


def _rlds_episodes(
  checkpoint: int, path: pathlib.Path
) -> Iterator[tuple[int, dict]]:
  """Yields the key and the RLDS episode of every played episode."""
  for number, episode in enumerate(play.load(path).episodes):
    yield number, rlds_episode(episode, checkpoint, number)


def rlds_episode(
  episode: play.PlayedEpisode, checkpoint: int, number: int
) -> dict:
  """Returns an episode as RL Unplugged aligns it.

  A terminated episode ends in a step of which only the observation counts;
  a cut one ends in its last decision. `discount` is that of the transition.
  Source: tensorflow_datasets.rl_unplugged.atari_utils.atari_example_to_rlds.
  """
  length = len(episode.frames)
  extra = int(episode.terminated)
  is_last = np.arange(length) == length - 1
  discount = np.ones(length, np.float32)
  if episode.terminated:
    discount[-2:] = 0
  return {
    'checkpoint_id': checkpoint,
    'episode_id': number,
    'episode_return': np.clip(episode.rewards, -1, 1).sum(dtype=np.float32),
    'steps': {
      'observation': episode.frames,
      'action': np.pad(episode.actions, (0, extra)).astype(np.int64),
      'reward': np.pad(episode.rewards, (0, extra)),
      'discount': discount,
      'is_first': np.arange(length) == 0,
      'is_last': is_last,
      'is_terminal': is_last & episode.terminated,
    },
  }
