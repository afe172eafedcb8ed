"""Reads the JOWA authors' processed data: HDF5 trajectories, CSV segments.

Source of the format: CJReinforce/JOWA, `dataset/src/downsample.py` (writer) and
`src/dataset.py` (reader). A trajectory holds the rows of a DQN-Replay log
between two game overs, the three rows of zeros before an episode included.
"""

import contextlib
import csv
import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from jowa_jax import games
from jowa_jax.data.episodes import (
  DataError,
  RawEpisode,
  encode_png,
)
from jowa_jax.data.source import Split
from jowa_jax.data.sources.dqn_replay import NUM_PADDING, Rows, check_rows
from jowa_jax.types import FRAME_SHAPE

_FOLDERS = ('.', 'trajectory/data')
# Kinds of dtype that hold the values exactly; `check_rows` checks the values.
_KINDS = {'actions': 'iu', 'rewards': 'fiu', 'terminals': 'biuf'}
_TOKENS = (36,)  # shape of a frame in the authors' pre-encoded data
_REMEDY = 'process or download it again'


@dataclasses.dataclass(frozen=True)
class JowaHdf5Source:
  """Trajectories in `<root>/<Game>.h5` or `<root>/trajectory/data/<Game>.h5`.

  A game is one split, run 1 and checkpoint 0: the file does not say where its
  trajectories come from. They are drawn with replacement: some are there
  twice, as two episodes. Up to three rows of zeros at the start of a
  trajectory are padding and dropped; `stored_lengths` counts them.

  Segments are cut anew; the authors' tables of segments, where they lie beside
  the trajectories or in `<root>/segment/csv`, are checked to be of them.

  The authors' files carry no checksums: a changed pixel is not noticed.
  """

  whole_run: ClassVar[int | None] = None

  root: str  # a folder

  def splits(self, game: str) -> list[Split]:
    """See `Source`."""
    games.check_game(game)
    self._find(game)
    return [Split(game, 1, 0)]

  def doubts(self, split: Split) -> str:
    """See `Source`."""
    return ''

  def lengths(self, split: Split) -> list[int]:
    """See `Source`. Checks the tables of segments too."""
    stored = self.stored_lengths(split)
    for table in self._tables(split.game):
      read_segments(table, stored)
    with self._opened(split) as (path, file):
      groups = _groups(path, file)
      return [len(group['actions']) - _num_padding(group) for group in groups]

  def stored_lengths(self, split: Split) -> list[int]:
    """The rows of each trajectory, padding included.

    Segment tables count these: `stored_lengths` less `lengths` is how far
    their rows are from those of the episodes.

    Raises:
      DataError: as `lengths`.
    """
    with self._opened(split) as (path, file):
      return [len(group['actions']) for group in _groups(path, file)]

  def episodes(
    self, split: Split, chosen: Sequence[int]
  ) -> Iterator[RawEpisode]:
    """See `Source`."""
    if not len(chosen):
      return
    with self._opened(split) as (path, file):
      groups = _groups(path, file)
      if list(chosen) != sorted(set(chosen) & set(range(len(groups)))):
        raise ValueError(
          f'{split} has {len(groups)} episodes; those chosen must be among '
          f'them, in ascending order: {list(chosen)}'
        )
      for number in chosen:
        yield _read(path, split.game, groups[number])

  def files(self, split: Split) -> dict[str, int]:
    """See `Source`."""
    paths = [self._find(split.game), *self._tables(split.game)]
    return {str(path): path.stat().st_size for path in paths}

  def _tables(self, game: str) -> list[pathlib.Path]:
    return [
      path
      for folder in ('.', 'segment/csv')
      for path in sorted(pathlib.Path(self.root, folder).glob(f'{game}_*.csv'))
    ]

  def _find(self, game: str) -> pathlib.Path:
    paths = [
      pathlib.Path(self.root, folder, f'{game}.h5') for folder in _FOLDERS
    ]
    for path in paths:
      if path.is_file():
        return path
    raise DataError(
      f'{self.root} has no data of {game}: neither {paths[0]} nor {paths[1]} '
      'is there. Give the folder that holds the .h5 files, or the one above '
      'trajectory/ and segment/'
    )

  @contextlib.contextmanager
  def _opened(self, split: Split) -> Iterator[tuple[pathlib.Path, Any]]:
    """Opens a file; all that is wrong with it is a DataError."""
    import h5py  # which not every source needs

    path = self._find(split.game)
    try:
      with h5py.File(path, 'r') as file:
        yield path, file
    except (OSError, RuntimeError, KeyError) as error:
      raise DataError(
        f'{path} is damaged, incomplete or no HDF5 file ({error}): {_REMEDY}'
      ) from error


def _groups(path: pathlib.Path, file: Any) -> list[Any]:
  """The trajectories in order, dtypes and shapes checked."""
  names = set(file)
  for number in range(len(names)):
    if str(number) not in names:
      found = ', '.join(sorted(map(str, names))[:5])
      raise DataError(
        f'{path} has {len(names)} groups, but none named {number} (found: '
        f'{found}, ...); trajectories are numbered from 0: {_REMEDY}'
      )
  if not names:
    raise DataError(f'{path} has no trajectories: {_REMEDY}')
  groups = [file[str(number)] for number in range(len(names))]
  for group in groups:
    try:
      _check_group(path, group)
    except DataError:
      raise
    except (ValueError, TypeError) as error:  # a dtype that NumPy lacks
      raise DataError(
        f'{path}, group {group.name}, is damaged ({error}): {_REMEDY}'
      ) from error
  return groups


def _check_group(path: pathlib.Path, group: Any) -> None:
  """Checks what the file says of a trajectory, reading none of its values."""
  import h5py

  for name in ('observations', *_KINDS):
    inside = isinstance(group, h5py.Group) and name in group
    if not inside or not isinstance(group[name], h5py.Dataset):
      raise DataError(
        f'{path}, group {group.name}, has no dataset {name!r}: {_REMEDY}'
      )
  observations = group['observations']
  if observations.shape[1:] == _TOKENS:
    raise DataError(
      f"{path} holds tokens, the authors' data encoded by their tokenizer; "
      'its frames are lost. Give the file of pixels that it was made from, '
      f'observations of shape {("T", *FRAME_SHAPE)}'
    )
  shape = (len(observations), *FRAME_SHAPE) if observations.shape else ()
  wrong = observations.shape != shape or observations.dtype != np.uint8
  if wrong or not len(shape) or not shape[0]:
    raise DataError(
      f'{path}, {observations.name}, is {observations.dtype} of shape '
      f'{observations.shape}, not uint8 of shape {("T", *FRAME_SHAPE)}: '
      f'{_REMEDY}'
    )
  for name, kinds in _KINDS.items():
    data = group[name]
    if data.shape != shape[:1] or data.dtype.kind not in kinds:
      raise DataError(
        f'{path}, {data.name}, is {data.dtype} of shape {data.shape}, where '
        f'the observations are of shape {shape}: {_REMEDY}'
      )


def _num_padding(group: Any) -> int:
  """How many rows of zeros a trajectory starts with, three at most."""
  columns = [group[name][:NUM_PADDING] for name in _KINDS]
  blank = ~np.any(np.stack(columns).astype(bool), axis=0)
  count = 0
  while count < len(blank) and blank[count]:
    if group['observations'][count].any():
      break
    count += 1
  return count


def _read(path: pathlib.Path, game: str, group: Any) -> RawEpisode:
  """Reads one trajectory."""
  rows = Rows(*(group[name][:] for name in _KINDS))
  check_rows(game, rows, lambda name: f'{path}, {group.name}/{name}s')
  length = len(rows.terminals)
  if rows.terminals[:-1].any():
    row = int(rows.terminals.argmax())
    raise DataError(
      f'{path}, {group.name}/terminals: the game is over at row {row}, but '
      f'there are {length} rows: {_REMEDY}'
    )
  first = _num_padding(group)
  frames = [encode_png(frame) for frame in group['observations'][first:]]
  return rows.episode(first, length, frames, bool(rows.terminals[-1]))


def read_segments(
  path: str | os.PathLike, lengths: Sequence[int]
) -> list[tuple[int, int, int]]:
  """Reads which segments of a game's trajectories the authors train on.

  Args:
    path: `<Game><suffix>.csv`, a header and rows of trajectory, start, stop
      and game. A segment may begin before its trajectory or end after it,
      where it is padded.
    lengths: rows of each trajectory, as `JowaHdf5Source.stored_lengths` gives
      them.

  Returns:
    (trajectory, start, stop) of each segment, as they are in the table.

  Raises:
    DataError: the file is missing or no such table; a trajectory is not
      known; a segment lies outside its trajectory; or segments differ in
      length or game. It names the file and the line.
  """
  segments: list[tuple[int, int, int]] = []
  game, size = None, 0
  for line, cells in _read_cells(path):
    where = f'{path}, line {line}'
    try:
      *numbers, name = cells
      trajectory, start, stop = map(int, numbers)
    except ValueError as error:
      raise DataError(
        f'{where}, is {",".join(cells)!r}, not trajectory, start, stop and '
        f'game: {_REMEDY}'
      ) from error
    if not 0 <= trajectory < len(lengths):
      raise DataError(
        f'{where}, names trajectory {trajectory} of {len(lengths)}: is the '
        'table that of another file?'
      )
    if not segments:
      game, size = name, stop - start
    if stop - start != size or size < 1 or name != game:
      raise DataError(
        f'{where}, is a segment of {stop - start} rows of {name}, but the '
        f'first has {size} rows of {game}: {_REMEDY}'
      )
    if stop <= 0 or start >= lengths[trajectory]:
      raise DataError(
        f'{where}: rows {start}..{stop} lie outside trajectory {trajectory} '
        f'of {lengths[trajectory]} rows: is the table that of another file?'
      )
    segments.append((trajectory, start, stop))
  if not segments:
    raise DataError(f'{path} has no segments: {_REMEDY}')
  return segments


def _read_cells(path: str | os.PathLike) -> Iterator[tuple[int, list[str]]]:
  """Yields (line, cells) of a table of four columns, the header aside."""
  try:
    with open(path, encoding='utf-8', newline='') as file:
      reader = csv.reader(file)
      header = next(reader, [])
      if len(header) != 4 or any(cell.strip().isdecimal() for cell in header):
        raise DataError(
          f'{path}, line 1, is no header of four columns: {_REMEDY}'
        )
      for cells in reader:
        yield reader.line_num, cells
  except (OSError, UnicodeError, csv.Error) as error:
    raise DataError(f'{path} cannot be read ({error}): {_REMEDY}') from error
