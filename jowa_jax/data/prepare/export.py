"""From what was collected or prepared to the formats of others."""

import json
import logging
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import tqdm

from jowa_jax import files, games
from jowa_jax.data.episodes import DataError, RawEpisode
from jowa_jax.data.source import Split
from jowa_jax.data.sources.minari_environment import FRAMES_PER_DECISION
from jowa_jax.data.sources.minari_sets import CHECKPOINT, RUN_PREFIX
from jowa_jax.data.sources.rlds_atari import RldsSource
from jowa_jax.data.store import formats
from jowa_jax.types import FRAME_SHAPE

FORMATS = ('minari',)
STORAGES = ('hdf5', 'arrow', 'parquet')
_VERSION = 0
# Sticky actions of what was played by Dopamine's rules.
_STICKY = dict.fromkeys(('dqn_replay', 'rlu', 'jowa_hdf5'), 0.25)


def export_minari(
  data: str | os.PathLike,
  output: str | os.PathLike,
  wanted: Sequence[str],
  namespace: str = 'jowa',
  storage: str = 'hdf5',
  progress: bool = True,
) -> list[str]:
  """Writes a data set of Minari for every run of every game.

  Frames are kept as they are, without JPEG, which Minari reads since 0.5.4.
  Rewards are those of the source. Of an episode that was cut off, what followed
  its last transition is not known, as Minari wants it, so that this one is left
  out. A data set that is there is left as it is, with a warning.

  Args:
    data: what `launch.prepare_data` or `launch.collect` wrote.
    output: a root of data sets, such as Minari's own (`MINARI_DATASETS_PATH`).
    wanted: games.
    namespace: what the ids begin with: `<namespace>/pong/run_1-v0`.
    storage: one of `STORAGES`.
    progress: show a progress bar.

  Returns:
    The ids, for `minari.load_dataset`, of games in order.

  Raises:
    DataError: a game is not there, or a file is damaged.
    ValueError: the storage or the namespace is none.
    OSError: the disk is full or cannot be written.
  """
  from minari.dataset import minari_dataset

  if storage not in STORAGES:
    raise ValueError(f'storage={storage!r} is none of {STORAGES}')
  source, written = RldsSource(str(data)), []
  runs: dict[str, list[Split]] = {}
  for game in wanted:
    for split in source.splits(game):
      name = f'{game.lower()}/{RUN_PREFIX}{split.run}-v{_VERSION}'
      runs.setdefault(f'{namespace}/{name}', []).append(split)
  for name, splits in runs.items():
    if not minari_dataset.DATASET_ID_RE.fullmatch(name):
      raise ValueError(
        f'--namespace={namespace}: letters, digits, - and _, in parts between '
        'slashes'
      )
    path = pathlib.Path(output, name)
    if path.exists():
      logging.warning('%s is there already and left as it is', path)
    else:
      episodes = _episodes(source, splits)
      if progress:
        episodes = tqdm.tqdm(episodes, desc=name, unit='episode')
      with files.directory_written_whole(path) as folder:
        _write(folder / 'data', name, source, splits, episodes, storage)
    written.append(name)
  return written


def _episodes(
  source: RldsSource, splits: Sequence[Split]
) -> Iterator[tuple[int, RawEpisode]]:
  """Yields the episodes of a run, each with its checkpoint."""
  for split in splits:
    for episode in source.episodes(split, range(len(source.lengths(split)))):
      yield split.checkpoint, episode


def _write(
  path: pathlib.Path,
  name: str,
  source: RldsSource,
  splits: Sequence[Split],
  episodes: Iterator[tuple[int, RawEpisode]],
  storage: str,
) -> None:
  """Writes a data set, with an episode at a time in memory."""
  import gymnasium
  import minari
  from minari.data_collector import EpisodeBuffer
  from minari.dataset.minari_storage import MinariStorage

  split = splits[0]
  # Minari joins a relative path to itself.
  path = path.absolute()
  path.mkdir()
  written = MinariStorage.new(
    path,
    gymnasium.spaces.Box(0, 255, FRAME_SHAPE, np.uint8),
    gymnasium.spaces.Discrete(len(games.LEGAL_ACTIONS[split.game])),
    *(_environment(source, split), storage),
    jpeg_encoding=False,
  )
  written.update_metadata(
    {
      'dataset_id': name,
      'minari_version': minari.__version__,
      'description': f'Play of {split.game}, run {split.run}, as jowa_jax '
      'keeps it: grey frames of 84 x 84, a decision of four frames a step.',
      'requirements': ['ale-py>=0.12', 'opencv-python-headless>=4.5'],
    }
  )
  count = 0
  for checkpoint, episode in episodes:
    length = len(episode.actions)
    if len(episode.frames) == length:
      length -= 1  # what it led to was not kept
    if length < 1:
      continue
    ends = np.zeros((2, length), bool)
    ends[:, -1] = episode.terminated, not episode.terminated
    buffer = EpisodeBuffer(
      observations=np.stack([*map(_decode, episode.frames[: length + 1])]),
      actions=episode.actions[:length].astype(np.int64),
      rewards=episode.rewards[:length],
      terminations=ends[0],
      truncations=ends[1],
    )
    written.update_episodes([buffer])
    written.update_episode_metadata([{CHECKPOINT: checkpoint}], [count])
    count += 1
  if not count:
    raise DataError(f'{split.run_name} has no episode of two steps to export')


def _decode(png: bytes) -> np.ndarray:
  frame = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
  if frame is None:
    raise DataError('A frame is no PNG file: prepare or collect the data again')
  return frame


def _environment(source: RldsSource, split: Split) -> Any:
  """What plays as the data were played, for `recover_environment`."""
  import ale_py
  import gymnasium

  gymnasium.register_envs(ale_py)
  played = gymnasium.make(
    f'ALE/{split.game}-v5',
    frameskip=1,
    repeat_action_probability=_sticky(source, split),
    full_action_space=False,
  )
  return gymnasium.wrappers.AtariPreprocessing(
    played, noop_max=0, frame_skip=FRAMES_PER_DECISION
  ).spec


def _sticky(source: RldsSource, split: Split) -> float:
  """How often the emulator repeated an action, as a run's record says."""
  path = formats.data_set_path(source.root, split.game, split.run)
  try:
    record = json.loads((path / formats.RECORD).read_text())
  except (OSError, ValueError):
    record = {}
  if settings := record.get('settings'):
    return settings[0].get('sticky', 0.0)
  return _STICKY.get(record.get('source'), 0.0)
