"""Reads Atari data sets in RL Unplugged's TFDS format: theirs or ours.

Source of the format: tensorflow_datasets.rl_unplugged.atari_utils; of the
alignment: `atari_example_to_rlds` there.
"""

import dataclasses
import functools
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from etils import epath
from google.protobuf import json_format

from jowa_jax import files
from jowa_jax.data.episodes import DataError, RawEpisode
from jowa_jax.data.source import Split
from jowa_jax.data.store import formats
from jowa_jax.data.tf_libraries import rlds, tf, tfds

_FOLDER = re.compile(r'(?P<game>[A-Za-z]+)_run_(?P<run>\d+)')
_VERSION = re.compile(r'\d+\.\d+\.\d+')
_SPLIT = re.compile(r'checkpoint_(?P<checkpoint>\d+)')
_EPISODE_FEATURES = ('checkpoint_id', 'episode_id')
_STEP_FEATURES = {
  rlds.OBSERVATION: ((84, 84, 1), np.uint8),
  rlds.ACTION: ((), np.int64),
  rlds.REWARD: ((), np.float32),
  rlds.IS_TERMINAL: ((), np.bool_),
}


@dataclasses.dataclass(frozen=True)
class RldsSource:
  """A directory of RLDS Atari data sets.

  Attributes:
    root: holds `<Game>_run_<n>/<version>` directories, or its subdirectories
      do (`jowa_atari`, or TFDS's `rlu_atari_checkpoints_ordered`). Of several
      versions the highest is read. May be remote.
  """

  whole_run: ClassVar[int | None] = None

  root: str

  def splits(self, game: str) -> list[Split]:
    """See `Source`."""
    _find_runs.cache_clear()
    runs = _find_runs(self.root)
    splits = []
    for (name, run), path in sorted(runs.items()):
      if name == game:
        splits += [
          Split(game, run, _checkpoint(path, there))
          for there in sorted(_open(path).info.splits)
        ]
    if not splits:
      raise DataError(
        f'{self.root} has no data set of {game} (found: '
        f'{", ".join(sorted({name for name, _ in runs})) or "none"}): collect '
        'it, or choose among these; of games that RL Unplugged lacks (such as '
        'Berzerk) read the raw logs, with --source=dqn_replay'
      )
    return splits

  def doubts(self, split: Split) -> str:
    """See `Source`."""
    return ''

  def lengths(self, split: Split) -> list[int]:
    """See `Source`; 0 for an episode in which nothing happens."""
    return [
      _length(where, episode[rlds.STEPS][rlds.IS_TERMINAL])
      for where, episode in self._read(split)
    ]

  def episodes(
    self, split: Split, chosen: Sequence[int]
  ) -> Iterator[RawEpisode]:
    """See `Source`."""
    wanted, last = set(chosen), max(chosen, default=-1)
    for place, (where, episode) in enumerate(self._read(split)):
      if place in wanted:
        yield _convert(where, episode)
      if place == last:
        return

  def files(self, split: Split) -> dict[str, int]:
    """See `Source`."""
    path = _find_runs(self.root)[split.game, split.run]
    return {
      os.fspath(name): name.stat().length
      for name in files.matching(path, f'*-{split.checkpoint_name}.*')
    }

  def _read(self, split: Split) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields where an episode is and its arrays, frames encoded."""
    path = _find_runs(self.root)[split.game, split.run]
    builder = _open(path)
    name = split.checkpoint_name
    where = f'Split {name!r} of {path}'
    remedy = 'collect or get the data set again'
    expected = builder.info.splits[name].num_examples
    if not expected:  # which TFDS refuses to open
      return
    count = 0
    try:
      dataset = builder.as_dataset(
        split=name,
        decoders={rlds.STEPS: tfds.decode.SkipDecoding()},
        shuffle_files=False,
      )
      for episode in tfds.as_numpy(dataset):
        count += 1
        yield f'Episode {episode["episode_id"]} of {where}', episode
    except (tf.errors.OpError, OSError) as error:
      raise DataError(
        f'{where} is damaged or incomplete: {remedy} ({error})'
      ) from error
    if count != expected:
      raise DataError(
        f'{where} has {count} episodes instead of {expected}: {remedy}'
      )


@functools.lru_cache(maxsize=8)
def _find_runs(name: str) -> dict[tuple[str, int], epath.Path]:
  """The directory of every run at or just below a root."""
  root = epath.Path(name)
  if not root.is_dir():
    raise DataError(
      f'{root} is no directory: collect data there first, or give the '
      'directory of a data set'
    )
  runs: dict[tuple[str, int], epath.Path] = {}
  below = files.matching(root, '*')
  for folder in [
    *below,
    *(
      inner
      for outer in below
      if not outer.name.startswith('.')
      for inner in files.matching(outer, '*')
    ),
  ]:
    match = _FOLDER.fullmatch(folder.name)
    # What training reads has the same names; its frames are in chunks.
    if not match or folder.parent.name == formats.FRAMES:
      continue
    versions = [
      path
      for path in files.matching(folder, '*')
      if _VERSION.fullmatch(path.name)
    ]
    if not versions:
      continue
    run = match['game'], int(match['run'])
    if run in runs:
      raise DataError(
        f'{root} has {folder.name} twice, in {runs[run].parent} and {folder}: '
        'give the directory of one data set'
      )
    runs[run] = max(
      versions,
      key=lambda path: [int(number) for number in path.name.split('.')],
    )
  return runs


def _checkpoint(path: epath.Path, name: str) -> int:
  match = _SPLIT.fullmatch(name)
  if not match:
    raise DataError(
      f'{path} has a split {name!r}: this reader takes splits named '
      'checkpoint_<number>'
    )
  return int(match['checkpoint'])


def _open(path: epath.Path) -> Any:
  """A data set's builder, once its features are as expected."""
  try:
    builder = tfds.builder_from_directory(path)
  except (OSError, ValueError, KeyError, json_format.ParseError) as error:
    raise DataError(
      f'{path} is not a complete TFDS data set ({error}): collect or get it '
      'again'
    ) from error
  folder, inside = path.parent.name, builder.info.config_name
  if inside not in (None, folder):
    raise DataError(
      f'{path} says it holds {inside}, not {folder}: give the folder its own '
      'name back'
    )
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


def _length(where: str, terminal: np.ndarray) -> int:
  """An episode's transitions.

  An episode that ends in a terminal state has a last step that is valid for
  its observation alone.
  """
  if terminal[:-1].any():
    raise DataError(f'{where} goes on after a terminal state')
  return len(terminal) - int(len(terminal) and terminal[-1])


def _convert(where: str, episode: dict[str, Any]) -> RawEpisode:
  """An RLDS episode in our alignment: the transitions alone."""
  steps = episode[rlds.STEPS]
  length = _length(where, steps[rlds.IS_TERMINAL])
  return RawEpisode(
    frames=steps[rlds.OBSERVATION].tolist(),
    actions=steps[rlds.ACTION][:length].astype(np.int32),
    rewards=steps[rlds.REWARD][:length],
    terminated=length < len(steps[rlds.IS_TERMINAL]),
  )
