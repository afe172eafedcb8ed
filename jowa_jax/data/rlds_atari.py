"""Reads Atari data sets in RL Unplugged's TFDS format: theirs or ours.

Source of the format: tensorflow_datasets.rl_unplugged.atari_utils; of the
alignment: `atari_example_to_rlds` there.
"""

import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from google.protobuf import json_format

from jowa_jax import games as game_tables
from jowa_jax.data import episodes as episodes_lib
from jowa_jax.data.episodes import DataError
from jowa_jax.data.tf_libraries import rlds, tf, tfds

_FOLDER = re.compile(r'(?P<game>[A-Za-z]+)_run_(?P<run>\d+)')
_VERSION = re.compile(r'\d+\.\d+\.\d+')
_EPISODE_FEATURES = ('checkpoint_id', 'episode_id')
_STEP_FEATURES = {
  rlds.OBSERVATION: ((84, 84, 1), np.uint8),
  rlds.ACTION: ((), np.int64),
  rlds.REWARD: ((), np.float32),
  rlds.IS_TERMINAL: ((), np.bool_),
}


class _Source(NamedTuple):
  """A prepared data set of one run of one game."""

  game: str
  run: int
  path: pathlib.Path


def load_episodes(
  data_dir: str | os.PathLike,
  games: str | Sequence[str],
  runs: Sequence[int] | None = None,
  checkpoints: Sequence[int] | None = None,
) -> list[episodes_lib.Episode]:
  """Reads the episodes of some games, frames still PNG-encoded.

  Args:
    data_dir: a directory that holds `<Game>_run_<n>/<version>` directories,
      or whose subdirectories do (`jowa_atari`, or TFDS's
      `rlu_atari_checkpoints_ordered`). Of several versions the highest is
      read.
    games: games or a list of them, as `games.parse_games` takes them.
    runs: which runs of every game; all there are if None.
    checkpoints: which checkpoints of every run; all there are if None.

  Returns:
    The episodes, by game in the order given, run, checkpoint and place.
    Actions are in the 18-action vocabulary, rewards clipped to [-1, 1].

  Raises:
    DataError: the directory, a game, a run or a checkpoint is not there; a
      file is damaged; or the data set is not of this format.
    ValueError: a game is unknown.
  """
  data_dir = pathlib.Path(data_dir)
  names = game_tables.parse_games(games)
  sources = _find(data_dir)
  episodes: list[episodes_lib.Episode] = []
  for source in _select(data_dir, sources, names, runs):
    for episode in _read_source(source, checkpoints, len(episodes)):
      episodes.append(episode)
  return episodes


def _find(data_dir: pathlib.Path) -> list[_Source]:
  """Returns every data set at or just below a directory."""
  if not data_dir.is_dir():
    raise DataError(
      f'{data_dir} is no directory: collect data there first, or give the '
      'directory of a data set'
    )
  sources = []
  for folder in sorted([*data_dir.glob('*/'), *data_dir.glob('[!.]*/*/')]):
    match = _FOLDER.fullmatch(folder.name)
    versions = [
      path for path in folder.glob('*/') if _VERSION.fullmatch(path.name)
    ]
    if match and versions:
      newest = max(
        versions, key=lambda path: [int(part) for part in path.name.split('.')]
      )
      sources.append(_Source(match['game'], int(match['run']), newest))
  return sources


def _select(
  data_dir: pathlib.Path,
  sources: Sequence[_Source],
  names: Sequence[str],
  runs: Sequence[int] | None,
) -> list[_Source]:
  """Returns the data sets asked for."""
  found = sorted({source.game for source in sources})
  selected = []
  for name in names:
    mine = [source for source in sources if source.game == name]
    if not mine:
      raise DataError(
        f'{data_dir} has no data set of {name} (found: '
        f'{", ".join(found) or "none"}): collect it, or choose among these'
      )
    for run in runs if runs is not None else []:
      if run not in {source.run for source in mine}:
        raise DataError(
          f'{data_dir} has no run {run} of {name} (found: '
          f'{sorted(source.run for source in mine)})'
        )
    mine.sort(key=lambda source: source.run)
    selected += [s for s in mine if runs is None or s.run in runs]
  return selected


def _read_source(
  source: _Source, checkpoints: Sequence[int] | None, first_id: int
) -> Iterator[episodes_lib.Episode]:
  """Yields the episodes of one data set, numbered from `first_id`."""
  builder = _open(source.path)
  folder, inside = source.path.parent.name, builder.info.config_name
  if inside not in (None, folder):
    raise DataError(
      f'{source.path} says it holds {inside}, not {folder}: give the folder '
      'its own name back'
    )
  count = first_id
  for split in _choose_splits(source, builder, checkpoints):
    for episode in _read_split(source, builder, split):
      converted = _convert(source, split, episode, count)
      if converted is not None:
        count += 1
        yield converted
  if count == first_id:
    raise DataError(f'{source.path} has no episodes: collect or get it again')


def _open(path: pathlib.Path) -> Any:
  """Returns a data set's builder, once its features are as expected."""
  try:
    builder = tfds.builder_from_directory(path)
  except (OSError, ValueError, KeyError, json_format.ParseError) as error:
    raise DataError(
      f'{path} is not a complete TFDS data set ({error}): collect or get it '
      'again'
    ) from error
  features = builder.info.features
  if isinstance(features, tfds.features.FeaturesDict):
    missing = {rlds.STEPS, *_EPISODE_FEATURES} - set(features)
  else:
    missing = {rlds.STEPS}
  if missing or not isinstance(features[rlds.STEPS], tfds.features.Dataset):
    raise DataError(
      f'{path} is no RLDS data set (missing: {sorted(missing)}): this reader '
      'takes RL Unplugged Atari data sets'
    )
  steps = features[rlds.STEPS].feature
  for name, (shape, dtype) in _STEP_FEATURES.items():
    if name not in steps:
      raise DataError(
        f'The steps of {path} have no feature {name!r} (found: '
        f'{sorted(steps)}): this reader takes RL Unplugged Atari data sets'
      )
    feature = steps[name]
    if feature.shape != shape or feature.np_dtype != dtype:
      raise DataError(
        f'{path}: {name} is {np.dtype(feature.np_dtype)} of shape '
        f'{feature.shape}, not {np.dtype(dtype)} of shape {shape}: this '
        'reader takes RL Unplugged Atari data sets'
      )
  return builder


def _choose_splits(
  source: _Source, builder: Any, checkpoints: Sequence[int] | None
) -> list[str]:
  found = sorted(builder.info.splits)
  if checkpoints is None:
    return found
  wanted = [f'checkpoint_{checkpoint:02d}' for checkpoint in checkpoints]
  for split in wanted:
    if split not in found:
      raise DataError(
        f'{source.path} has no split {split!r} (found: '
        f'{", ".join(found) or "none"})'
      )
  return wanted


def _read_split(
  source: _Source, builder: Any, split: str
) -> Iterator[dict[str, Any]]:
  """Yields a split's episodes as arrays, frames encoded, all of them."""
  where = f'Split {split!r} of {source.path}'
  remedy = 'collect or get the data set again'
  expected = builder.info.splits[split].num_examples
  if not expected:  # which TFDS refuses to open
    return
  count = 0
  try:
    dataset = builder.as_dataset(
      split=split,
      decoders={rlds.STEPS: tfds.decode.SkipDecoding()},
      shuffle_files=False,
    )
    for episode in tfds.as_numpy(dataset):
      count += 1
      yield episode
  except (tf.errors.OpError, OSError) as error:
    raise DataError(
      f'{where} is damaged or incomplete: {remedy} ({error})'
    ) from error
  if count != expected:
    raise DataError(
      f'{where} has {count} episodes instead of {expected}: {remedy}'
    )


def _convert(
  source: _Source, split: str, episode: dict[str, Any], number: int
) -> episodes_lib.Episode | None:
  """Returns an RLDS episode in our alignment, None if nothing happens in it.

  An episode that ends in a terminal state has a last step that is valid for
  its observation alone: transition t's end is `is_terminal[t + 1]`.
  """
  steps = episode[rlds.STEPS]
  terminal = steps[rlds.IS_TERMINAL]
  where = f'Episode {episode["episode_id"]} of split {split!r}, {source.path}'
  if terminal[:-1].any():
    raise DataError(f'{where}, goes on after a terminal state')
  terminated = bool(len(terminal) and terminal[-1])
  length = len(terminal) - terminated
  if length < 1:
    return None
  legal = np.array(game_tables.LEGAL_ACTIONS[source.game], np.int32)
  actions = steps[rlds.ACTION][:length]
  if actions.min() < 0 or actions.max() >= len(legal):
    raise DataError(
      f'{where}, has action indices {actions.min()}..{actions.max()}, but '
      f'{source.game} has {len(legal)} minimal actions: is it of another game?'
    )
  rewards = steps[rlds.REWARD][:length]
  ends = np.zeros(length, bool)
  ends[-1] = terminated
  return episodes_lib.Episode(
    game=source.game,
    task=game_tables.task_id(source.game),
    run=source.run,
    checkpoint=int(episode['checkpoint_id']),
    episode_id=number,
    frames=steps[rlds.OBSERVATION][:length].tolist(),
    actions=legal[actions],
    rewards=np.clip(rewards, -1, 1).astype(np.float32),
    ends=ends,
    score=float(rewards.sum(dtype=np.float64)),
    terminated=terminated,
  )
