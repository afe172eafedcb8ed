"""Play that grows while it is learned from, in parts on disk.

Every decision of all environments is a row. What was saved is read from disk;
what came since is in memory. A part is a folder that is there whole or not at
all, and never changes.
"""

import bisect
import pathlib
import shutil
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jowa_jax import files
from jowa_jax import games as games_lib
from jowa_jax.data.episodes import DataError, Episode, encode_png
from jowa_jax.data.store.mapped import open_array

_FRAMES, _ROWS = 'frames.npy', 'rows.npz'
_FIELDS = ('actions', 'rewards', 'terminated', 'truncated')


class Row(NamedTuple):
  """A decision of E environments."""

  frames: np.ndarray  # [E, 84, 84] uint8, that were decided on
  actions: np.ndarray  # [E] of the 18-action vocabulary
  rewards: np.ndarray  # [E], unclipped
  terminated: np.ndarray  # [E] bool, the game was over after it
  truncated: np.ndarray  # [E] bool, the episode was cut off after it


class _Span(NamedTuple):
  """Rows of an environment that are one episode, or its beginning."""

  env: int
  start: int
  stop: int
  terminated: bool


class _Part(NamedTuple):
  """PNG files of some rows, one after the other."""

  first: int  # number of the first frame
  stops: np.ndarray  # [N] int64, where each ends
  data: np.ndarray  # [bytes] uint8, on disk


class _Frames(Sequence):
  """The PNG files of one environment's rows."""

  def __init__(self, replay: 'Replay', span: _Span):
    self._replay, self._span = replay, span

  def __len__(self) -> int:
    return self._span.stop - self._span.start

  def __getitem__(self, place):
    rows = range(self._span.start, self._span.stop)[place]
    if isinstance(place, slice):
      return [self._replay.png(row, self._span.env) for row in rows]
    return self._replay.png(rows, self._span.env)


class Replay:
  """All that some environments of one game played."""

  def __init__(self, game: str, environments: int):
    """Begins with nothing.

    Args:
      game: a name in `games.GAMES`; of variants, their game.
      environments: E.
    """
    self.game, self.environments = game, environments
    self._clear()

  def _clear(self) -> None:
    shape = (0, self.environments)
    self._rows = {
      'actions': np.zeros(shape, np.uint8),
      'rewards': np.zeros(shape, np.int8),
      'terminated': np.zeros(shape, bool),
      'truncated': np.zeros(shape, bool),
    }
    self._size = 0
    self._parts: list[_Part] = []
    self._bounds = [0]  # rows at which saved parts begin and end
    self._recent: list[bytes] = []  # frames that are not saved yet
    self._begun = [0] * self.environments
    self._ended: list[Episode] = []

  def __len__(self) -> int:
    """Rows; each is a transition of every environment."""
    return self._size

  @property
  def bounds(self) -> tuple[int, ...]:
    """Rows at which the parts that were saved begin and end."""
    return tuple(self._bounds)

  def append(self, row: Row) -> None:
    """Adds a decision of all environments."""
    self._recent += [encode_png(frame) for frame in row.frames]
    self._add(
      row.actions, np.clip(row.rewards, -1, 1), row.terminated, row.truncated
    )

  def _add(self, *fields: np.ndarray) -> None:
    at = self._size
    for name, values in zip(_FIELDS, fields, strict=True):
      if at == len(self._rows[name]):
        more = np.zeros_like(self._rows[name], shape=(at + 1024, *values.shape))
        more[:at] = self._rows[name]
        self._rows[name] = more
      self._rows[name][at] = values
    self._size += 1
    terminated, truncated = fields[2:]
    for env in np.flatnonzero(terminated | truncated):
      span = _Span(
        int(env), self._begun[env], self._size, bool(terminated[env])
      )
      self._ended.append(self._episode(span, len(self._ended)))
      self._begun[env] = self._size

  def _episode(self, span: _Span, number: int) -> Episode:
    rows = slice(span.start, span.stop)
    actions, rewards = (
      self._rows[name][rows, span.env].copy() for name in _FIELDS[:2]
    )
    return Episode(
      game=self.game,
      task=games_lib.task_id(self.game),
      run=span.env,
      checkpoint=0,
      episode_id=number,
      frames=_Frames(self, span),
      actions=actions,
      rewards=rewards,
      score=float(rewards.sum()),
      terminated=span.terminated,
      digest=b'',
    )

  def episodes(self) -> list[Episode]:
    """All episodes as far as they were played; those that go on come last."""
    running = [
      _Span(env, begun, self._size, False)
      for env, begun in enumerate(self._begun)
      if begun < self._size
    ]
    count = len(self._ended)
    return self._ended + [
      self._episode(span, count + i) for i, span in enumerate(running)
    ]

  def png(self, row: int, env: int) -> bytes:
    """The frame that an environment's decision was made on, a PNG file."""
    number = row * self.environments + env
    saved = self._bounds[-1] * self.environments
    if number >= saved:
      return self._recent[number - saved]
    place = bisect.bisect_right(self._bounds, row) - 1
    part = self._parts[place]
    number -= part.first
    start = part.stops[number - 1] if number else 0
    return part.data[start : part.stops[number]].tobytes()

  def save(self, folder: pathlib.Path) -> None:
    """Writes the rows since the last part, if any, as another part.

    Raises:
      OSError: it cannot be written; what was there is as it was.
    """
    self.write(folder)
    self.forget_written(folder)

  def write(self, folder: pathlib.Path) -> None:
    """The first half of `save`: rows are on disk, and still in memory."""
    first, stop = self._bounds[-1], self._size
    path = _part_path(folder, first, stop)
    # After going back to an earlier step the same rows are played again.
    if first == stop or path.exists():
      return
    with files.directory_written_whole(path) as temporary:
      rows = {name: self._rows[name][first:stop] for name in _FIELDS}
      stops = np.cumsum([len(png) for png in self._recent])
      np.savez(temporary / _ROWS, stops=stops, **rows)
      data = np.frombuffer(b''.join(self._recent), np.uint8)
      np.save(temporary / _FRAMES, data)

  def forget_written(self, folder: pathlib.Path) -> None:
    """The other half: frames that this or another process wrote are read.

    Raises:
      DataError: they are not there.
    """
    first, stop = self._bounds[-1], self._size
    if first != stop:
      self._open(_part_path(folder, first, stop), first, stop)

  def _open(self, path: pathlib.Path, first: int, stop: int) -> None:
    """Reads a part's frames from disk from now on."""
    try:
      with np.load(path / _ROWS) as rows:
        stops = rows['stops']
      data = open_array(path / _FRAMES)
    except (OSError, ValueError, EOFError, KeyError) as error:
      raise DataError(f'{path} cannot be read: {error}') from error
    self._parts.append(_Part(first * self.environments, stops, data))
    self._bounds.append(stop)
    self._recent = []

  def restore(self, folder: pathlib.Path, bounds: Sequence[int]) -> None:
    """Goes back to what some parts hold.

    Args:
      folder: where they were saved.
      bounds: rows at which they begin and end.

    Raises:
      DataError: a part is missing or damaged.
    """
    self._clear()
    for left in files.matching(folder, '.rows_*.tmp'):
      shutil.rmtree(left, ignore_errors=True)  # or another process does
    for first, stop in zip(bounds[:-1], bounds[1:], strict=True):
      path = _part_path(folder, first, stop)
      try:
        with np.load(path / _ROWS) as rows:
          fields = [rows[name] for name in _FIELDS]
      except (OSError, ValueError, EOFError, KeyError) as error:
        raise DataError(f'{path} cannot be read: {error}') from error
      for each in zip(*fields, strict=True):
        self._add(*each)
      self._open(path, first, stop)


def _part_path(folder: pathlib.Path, first: int, stop: int) -> pathlib.Path:
  return folder / f'rows_{first:09d}_{stop:09d}'
