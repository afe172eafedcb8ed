"""One owner at a time for what one process alone may write.

The system lets go of what a process held when that ends, however it ends, so
that nothing has to be cleared away after a crash.
"""

import contextlib
import datetime
import fcntl
import logging
import os
import pathlib
import socket
import stat
import time
from collections.abc import Iterator
from typing import IO

# Seconds between two tries of one that waits.
_PAUSE = 0.1


class InUseError(OSError):
  """Another process holds what was wanted."""


@contextlib.contextmanager
def owned(path: str | os.PathLike, wait: bool = False) -> Iterator[None]:
  """Holds a lock file while the block runs, and removes it afterwards.

  Args:
    path: the lock file, in the directory that is held or beside the file that
      is. Its folder is made if need be, and removed again if it is empty then.
    wait: for another owner to end, instead of failing.

  Raises:
    InUseError: another process, or thread, holds it; the message says which,
      where and since when.
  """
  path = pathlib.Path(path)
  file, made = _acquire(path, wait)
  try:
    since = datetime.datetime.now(datetime.UTC).isoformat(' ', 'seconds')
    file.truncate(0)
    file.write(
      f'process {os.getpid()} on {socket.gethostname()}, since {since}\n'
    )
    file.flush()
    yield
  finally:
    # While it is held: whoever opened it before finds out that it is gone.
    path.unlink(missing_ok=True)
    file.close()
    if made:
      with contextlib.suppress(OSError):  # it is not empty
        path.parent.rmdir()


def _acquire(path: pathlib.Path, wait: bool) -> tuple[IO[str], bool]:
  """The lock file, opened and locked, and whether its folder was made."""
  made = told = False
  while True:
    try:
      file = open(path, 'a+', encoding='utf-8')
    except FileNotFoundError:
      try:
        path.parent.mkdir(parents=True, exist_ok=True)
      except FileExistsError:
        # Another made it, and removes it before it is looked at, or it is none:
        # looked at once, since it comes and goes.
        with contextlib.suppress(FileNotFoundError):
          if not stat.S_ISDIR(path.parent.stat().st_mode):
            raise
      made = True
      continue
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      file.seek(0)
      owner = file.read().strip() or 'another process'
      file.close()
      if not wait:
        raise InUseError(
          f'{path.parent} is in use by {owner}: wait for it to end, or give '
          f'another directory. Its lock {path.name} ends with the process'
        ) from None
      if not told:
        logging.info('Waiting for %s, which holds %s', owner, path)
        told = True
      time.sleep(_PAUSE)
      continue
    except OSError as error:
      logging.warning(
        '%s: this file system has no locks (%s), so that nothing keeps two '
        'processes from writing here at once',
        path.parent,
        error,
      )
      return file, made
    # One that was removed since it was opened is no lock any more.
    with contextlib.suppress(FileNotFoundError):
      if os.path.samestat(os.fstat(file.fileno()), path.stat()):
        return file, made
    file.close()
