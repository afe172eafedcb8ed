"""Files and directories that are there whole or not at all."""

import contextlib
import fnmatch
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import TypeVar

# A `pathlib.Path`, or the like of another library.
Folder = TypeVar('Folder')


def typed_path(text: str) -> str:
  """The path that a user typed: `~` is a home, and a slash at the end nothing.

  Remote addresses, such as gs://bucket/folder, are left as they are but for
  the slash, and so is no text at all.
  """
  if '://' in text:
    return text.rstrip('/')
  return str(pathlib.Path(text).expanduser()) if text else text


def matching(folder: Folder, pattern: str) -> list[Folder]:
  """What of a folder has a name like a pattern, by name; none if there is none.

  The pattern is of the names alone: brackets in the folder's own path are no
  part of it, which they are in `glob` of paths that may be remote.
  """
  if not folder.is_dir():
    return []
  found = [
    path for path in folder.iterdir() if fnmatch.fnmatchcase(path.name, pattern)
  ]
  return sorted(found, key=lambda path: path.name)


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
