"""Functions called on many elements, here or by any Apache Beam runner."""

import dataclasses
import functools
import hashlib
import os
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any

import tqdm
from etils import epath

from jowa_jax import files, processes
from jowa_jax.data.episodes import DataError

SECONDS_PER_NOTE = 1.0
_ERRORS = 'errors'
# What a worker that could not leave a note says.
_TOLD = re.compile('<<(.*?)>>', re.S)
_OS_REMEDY = ': mend this, then run the same command again'


def parse_options(arguments: Sequence[str]) -> Any:
  """Beam's options; unknown ones are errors, not ignored.

  Args:
    arguments: flags of Apache Beam.

  Returns:
    The options; None without any flags, which is to say that the elements are
    divided over processes of this machine, one per core.

  Raises:
    ValueError: Beam has no such flag, or no runner is among them.
  """
  if not arguments:
    return None
  from apache_beam.options.pipeline_options import PipelineOptions

  options = PipelineOptions(list(arguments))
  unknown = set(options.get_all_options(retain_unknown_options=True))
  unknown -= set(options.get_all_options())
  if unknown:
    raise ValueError(
      f'Neither this script nor Apache Beam has a flag --{min(unknown)}'
    )
  return options


def call_on_all(
  elements: Sequence[Any],
  function: Callable[[Any], None],
  work: epath.Path,
  options: Any,
) -> None:
  """Calls a function on every element, wherever the runner has workers.

  Args:
    elements: what it is called on.
    function: can be pickled; what it returns is not kept.
    work: a directory that workers reach, for what they could not do.
    options: of `parse_options`.

  Raises:
    DataError: the function raised DataError or OSError for some elements; it
      was called on all others.
    LostWorkerError: a process of this machine was killed.
  """
  if not elements:
    return
  errors = work / _ERRORS
  errors.mkdir(parents=True, exist_ok=True)
  for path in files.matching(errors, '*'):
    path.unlink()
  guarded = _Guarded(function, os.fspath(errors))
  try:
    if options is None:
      _call_here(elements, guarded)
    else:
      _call_by_beam(elements, guarded, options)
  except Exception as error:
    told = _TOLD.search(str(error))
    if not told:
      raise
    raise DataError(told[1]) from error
  messages = [path.read_text() for path in files.matching(errors, '*')]
  if messages:
    more = f' (and {len(messages) - 1} more)' if len(messages) > 1 else ''
    raise DataError(messages[0] + more)


def _call_here(
  elements: Sequence[Any], function: Callable[[Any], None]
) -> None:
  """Calls a function in processes of this machine, or of few in this one."""
  workers = min(processes.num_cores(), len(elements))
  if workers == 1:
    for element in elements:
      function(element)
  else:
    work = functools.partial(_without_report, function)
    for _ in processes.each_done(work, elements, workers):
      pass


def _without_report(function: Callable[[Any], None], element: Any, report):
  function(element)


def _call_by_beam(
  elements: Sequence[Any], function: Callable[[Any], None], options: Any
) -> None:
  import apache_beam as beam

  with beam.Pipeline(options=options) as pipeline:
    _ = (
      pipeline
      | beam.Create(list(elements), reshuffle=True)
      | beam.Map(function)
    )


@dataclasses.dataclass(frozen=True)
class _Guarded:
  """Calls a function; what a user can mend is kept for the caller.

  Runners differ in what they make of an exception; a file reaches the caller
  as it is, and the other elements go on.
  """

  function: Callable[[Any], None]
  errors: str

  def __call__(self, element: Any) -> None:
    from jowa_jax.data.tf_libraries import tf

    try:
      self.function(element)
    except (DataError, OSError, tf.errors.OpError) as error:
      name = hashlib.blake2b(str(error).encode(), digest_size=6).hexdigest()
      remedy = '' if isinstance(error, DataError) else _OS_REMEDY
      message = f'{error}{remedy}'
      try:
        (epath.Path(self.errors) / name).write_text(message)
      except (OSError, tf.errors.OpError):
        # Not even that much is free.
        raise RuntimeError(f'<<{message}>>') from error


class Progress:
  """A bar that follows the files which workers leave behind."""

  def __init__(self, name: str, total: int, unit: str, shown: bool):
    self._bar = tqdm.tqdm(
      total=total,
      desc=name,
      unit=unit,
      unit_scale=unit == 'step',
      disable=not shown,
      dynamic_ncols=True,
    )
    self._stop = threading.Event()
    self._thread: threading.Thread | None = None

  def follow(self, count: Callable[[], int]) -> None:
    def watch():
      while not self._stop.wait(SECONDS_PER_NOTE):
        self._bar.update(max(count() - self._bar.n, 0))

    if not self._bar.disable:
      self._thread = threading.Thread(target=watch, daemon=True)
      self._thread.start()

  def __enter__(self):
    return self

  def __exit__(self, kind, error, traceback):
    self._stop.set()
    if self._thread:
      self._thread.join()
    if error is None:
      self._bar.update(self._bar.total - self._bar.n)
    self._bar.close()
