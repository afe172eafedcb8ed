"""Files and directories that are there whole or not at all."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator


@contextlib.contextmanager
def written_whole(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """Gives a temporary name to write to, which becomes `path` at the end.

  The folder is made if need be. If the block raises, what was written is
  removed and `path` is left as it was.

  Args:
    path: the file wanted; the temporary name ends in the same suffix.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'.{path.stem}.{os.getpid()}.tmp{path.suffix}')
  try:
    yield temporary
    temporary.replace(path)
  finally:
    temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
  """Writes a text file whole."""
  with written_whole(path) as temporary:
    temporary.write_text(text, encoding='utf-8')


def check_new(path: str | os.PathLike) -> None:
  """Raises FileExistsError if there is something of this name."""
  if pathlib.Path(path).exists():
    raise FileExistsError(
      f'{path}: is there already; give another name, or remove it first'
    )


@contextlib.contextmanager
def directory_written_whole(
  path: str | os.PathLike,
) -> Iterator[pathlib.Path]:
  """Gives a temporary directory to fill, which becomes `path` at the end.

  If the block raises, what was written is removed.

  Args:
    path: the directory wanted.

  Raises:
    FileExistsError: it is there already.
  """
  check_new(path)
  path = pathlib.Path(path)
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  temporary.mkdir(parents=True)
  try:
    yield temporary
    temporary.rename(path)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)
