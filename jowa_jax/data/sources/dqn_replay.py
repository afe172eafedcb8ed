"""Reads raw DQN-Replay logs, from a disk or straight from their bucket.

A run played into a ring of 1,000,000 rows. Whenever all but the last were
written, the ring was saved as it was: one gzipped .npy file a kind of value,
`add_count` counting all rows written so far. So the last row of a file is that
of a million steps ago. At the end of a run what was left was saved too, with
`add_count` set to its number of rows; what is past them was saved before.

Before every episode three rows of zeros were written, for stacks of four
frames. An episode that goes on in the next file goes on without them.

Source of the format: google-research/batch_rl, `logged_replay_buffer.py`, and
Dopamine's `circular_replay_buffer.py`.
"""

import dataclasses
import itertools
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from jowa_jax import games
from jowa_jax.data import episodes as episodes_lib
from jowa_jax.data.episodes import DataError, RawEpisode
from jowa_jax.data.source import DQN_REPLAY_CHECKPOINTS, Split
from jowa_jax.data.sources.logged_arrays import (
  BLOCK,
  BUCKET,
  REMEDY,
  damage_of,
  opened,
  read_whole,
)

NUM_PADDING = 3  # rows of zeros before an episode

_STORES = ('observation', 'action', 'reward', 'terminal')
_STORE_FILE = re.compile(rf'\$store\$_(?:{"|".join(_STORES)})_ckpt\.(\d+)\.gz')


class Rows(NamedTuple):
  """What was logged beside the frames, one row a transition."""

  actions: np.ndarray  # [N] integers, indices into the minimal action set
  rewards: np.ndarray  # [N] floats
  terminals: np.ndarray  # [N] 0 or 1

  def episode(
    self, start: int, stop: int, frames: list[bytes], terminated: bool
  ) -> RawEpisode:
    """The rows start..stop as an episode with clipped rewards."""
    return RawEpisode(
      frames=frames,
      actions=self.actions[start:stop].astype(np.int32),
      rewards=np.clip(self.rewards[start:stop], -1, 1).astype(np.float32),
      terminated=terminated,
    )


def check_rows(game: str, rows: Rows, where: Callable[[str], str]) -> None:
  """Checks what was logged beside the frames.

  Args:
    game: whose minimal action set the actions are indices into.
    rows: the rows, all of them valid.
    where: gives the file of 'action', 'reward' or 'terminal', for messages.

  Raises:
    DataError: an action is not in the game's set, a reward not finite, a
      terminal flag not 0 or 1.
  """
  count = len(games.LEGAL_ACTIONS[game])

  def check(name: str, values: np.ndarray, good: np.ndarray, problem: str):
    if not good.all():
      row = int(good.argmin())
      raise DataError(
        f'{where(name)}, row {row}: {name} is {values[row]}, {problem}'
      )

  actions, rewards, terminals = rows
  problem = f'but {game} has {count} minimal actions: is it of another game?'
  check('action', actions, (actions >= 0) & (actions < count), problem)
  problem = f'which is not finite: {REMEDY}'
  check('reward', rewards, np.isfinite(rewards), problem)
  problem = f'which is neither 0 nor 1: {REMEDY}'
  check('terminal', terminals, (terminals == 0) | (terminals == 1), problem)


class _Log(NamedTuple):
  """One checkpoint, its frames aside."""

  paths: dict[str, str]  # of the stores
  total: int  # rows that the files have
  rows: Rows  # those that were written for this checkpoint


class _Span(NamedTuple):
  """Rows of an episode: padding begin..start, transitions start..stop."""

  begin: int
  start: int
  stop: int


@dataclasses.dataclass(frozen=True)
class DqnReplaySource:
  """Raw logs as `<root>/<Game>/<run>/replay_logs/$store$_*_ckpt.<N>.gz`.

  `Split.checkpoint` is the number of its files, whichever others are there.

  A run's last log was saved before its ring was full. Which rows are old is
  told by its add_count file; without one it is doubted.

  An episode is what lies between two game overs of one file, or between the
  file's start and its first; what follows the last is left out. The limit of
  27,000 steps was logged as game over, and is read as one. Zero rows at
  the start of a file are taken to be padding, up to three.

  Frames are read as a stream: memory does not depend on the size of a file.
  A file of frames is read to its end, where its checksum is, only if its last
  episode is among those chosen; that episode is given after the check.
  """

  whole_run: ClassVar[int] = DQN_REPLAY_CHECKPOINTS

  root: str  # a folder or any other path that `tf.io.gfile` takes: gs://...

  def splits(self, game: str) -> list[Split]:
    """See `Source`. A checkpoint is listed if one of its stores is there."""
    games.check_game(game)
    folder = self._folder(game)
    found = []
    for run in sorted(int(name) for name in _list(folder) if name.isdecimal()):
      numbers = _numbers(_list(self._folder(game, run, 'replay_logs')))
      found += [Split(game, run, number) for number in numbers]
    if not found:
      raise DataError(
        f'{self.root} has no DQN-Replay logs of {game}: {folder}/<run>/'
        'replay_logs/$store$_observation_ckpt.<N>.gz is expected, and so on. '
        f'Give the folder that holds {game}/, or download the logs from '
        f'{BUCKET}'
      )
    return found

  def doubts(self, split: Split) -> str:
    """See `Source`."""
    names = _list(self._folder(split.game, split.run, 'replay_logs'))
    numbers = _numbers(names)
    # A whole run has as many, from 0 or from 1 on; of fewer none is its last.
    last = self.whole_run - (0 in numbers)
    count = f'add_count_ckpt.{split.checkpoint}.gz'
    if split.checkpoint != max([last, *numbers]) or count in names:
      return ''
    return (
      f"it is its run's last log and has no {count}, without which play of a "
      'whole ring ago in it cannot be told from new'
    )

  def lengths(self, split: Split) -> list[int]:
    """See `Source`. Reads all but the frames, and three of those."""
    log = self._read_log(split)
    with opened(log.paths, 'observation', log.total) as frames:
      spans = _spans(log, frames.read(min(NUM_PADDING, log.total)))
    return [span.stop - span.start for span in spans]

  def episodes(
    self, split: Split, chosen: Sequence[int]
  ) -> Iterator[RawEpisode]:
    """See `Source`."""
    if not len(chosen):
      return
    log = self._read_log(split)
    with opened(log.paths, 'observation', log.total) as frames:
      first = frames.read(min(BLOCK, log.total))
      spans = _spans(log, first[:NUM_PADDING])
      if list(chosen) != sorted(set(chosen) & set(range(len(spans)))):
        raise ValueError(
          f'{split} has {len(spans)} episodes; those chosen must be among '
          f'them, in ascending order: {list(chosen)}'
        )
      blocks = itertools.chain([first], frames.blocks())
      yield from _cut_out(log, spans, chosen, blocks)

  def files(self, split: Split) -> dict[str, int]:
    """See `Source`. DataError if one of the four stores is missing."""
    sizes = {}
    for path in self._find(split).values():
      with damage_of(path) as gfile:
        sizes[path] = gfile.stat(path).length
    return sizes

  def _folder(self, *path: str | int) -> str:
    return '/'.join([self.root.rstrip('/'), *map(str, path)])

  def _find(self, split: Split) -> dict[str, str]:
    """The paths of the four stores and of add_count if there."""
    folder = self._folder(split.game, split.run, 'replay_logs')
    names = _list(folder)
    number = split.checkpoint
    files = {store: f'$store$_{store}_ckpt.{number}.gz' for store in _STORES}
    for name in files.values():
      if name not in names:
        raise DataError(f'{folder}/{name} is missing: {REMEDY}')
    if f'add_count_ckpt.{number}.gz' in names:
      files['add_count'] = f'add_count_ckpt.{number}.gz'
    return {kind: f'{folder}/{name}' for kind, name in files.items()}

  def _read_log(self, split: Split) -> _Log:
    """Reads a checkpoint but for its frames, and checks it."""
    paths = self._find(split)
    actions = read_whole(paths, 'action')
    total = len(actions)
    rewards = read_whole(paths, 'reward', total)
    terminals = read_whole(paths, 'terminal', total)
    # The last row of a full log was written a whole ring ago.
    written = max(total - 1, 0)
    if 'add_count' in paths:
      add_count = int(read_whole(paths, 'add_count')[0])
      if add_count < 0:
        raise DataError(f'{paths["add_count"]} is negative: {REMEDY}')
      written = add_count if add_count < total else written
    else:
      logging.info('%s has no add_count file: taken to be full', split)
    rows = Rows(actions[:written], rewards[:written], terminals[:written])
    check_rows(split.game, rows, paths.__getitem__)
    return _Log(paths, total, rows)


def _list(folder: str) -> list[str]:
  """The names in a folder, none if it is not there."""
  with damage_of(folder) as gfile:
    if not gfile.exists(folder):
      return []
    # Buckets end the names of folders in a slash.
    return [name.rstrip('/') for name in gfile.listdir(folder)]


def _numbers(names: Iterable[str]) -> list[int]:
  """The numbers of the checkpoints that have a store, sorted."""
  matches = [_STORE_FILE.fullmatch(name) for name in names]
  return sorted({int(match[1]) for match in matches if match})


def _spans(log: _Log, head: np.ndarray) -> list[_Span]:
  """The complete episodes, given the first frames, [<= 3, 84, 84]."""
  actions, rewards, terminals = log.rows
  blank = (actions == 0) & (rewards == 0) & (terminals == 0)
  start = 0
  for row in range(min(len(head), len(blank))):
    start += start == row and blank[row] and not head[row].any()
  spans: list[_Span] = []
  begin = 0
  for stop in (np.flatnonzero(log.rows.terminals) + 1).tolist():
    if begin:
      start = begin + NUM_PADDING
      for row in range(begin, start):
        if not blank[row]:
          raise _no_padding(log.paths['action'], row)
    spans.append(_Span(begin, start, stop))
    begin = stop
  return spans


def _no_padding(path: str, row: int) -> DataError:
  return DataError(
    f'{path}, row {row}: no padding where the log should have it, '
    f'{NUM_PADDING} rows of zeros after a game over. It is no DQN-Replay log, '
    f'or damaged: {REMEDY} from {BUCKET}'
  )


def _cut_out(
  log: _Log,
  spans: Sequence[_Span],
  chosen: Sequence[int],
  blocks: Iterator[np.ndarray],
) -> Iterator[RawEpisode]:
  """Yields episodes from the frames of a file."""
  padding = np.zeros(log.total, bool)
  kept = np.zeros(log.total, bool)
  for span in spans:
    padding[span.begin : span.start] = True
  for number in chosen:
    kept[spans[number].start : spans[number].stop] = True
  to_the_end = chosen[-1] == len(spans) - 1
  left = [spans[number] for number in reversed(chosen)]
  frames: list[bytes] = []
  first = 0
  for block in blocks:
    rows = slice(first, first + len(block))
    for place in np.flatnonzero(padding[rows]):
      if block[place].any():
        raise _no_padding(log.paths['observation'], first + int(place))
    for place in np.flatnonzero(kept[rows]).tolist():
      frames.append(episodes_lib.encode_png(block[place]))
      if first + place + 1 == left[-1].stop:
        span = left.pop()
        episode = log.rows.episode(span.start, span.stop, frames, True)
        frames = []
        if left:
          yield episode
    first = rows.stop
    if not left and not to_the_end:
      break
  yield episode
