"""Functions called on many elements by any Apache Beam runner."""

import dataclasses
import hashlib
import os
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any

import tqdm
from etils import epath

from jowa_jax import files, hardware
from jowa_jax.data.episodes import DataError

SECONDS_PER_NOTE = 1.0
_ERRORS = 'errors'
# What a worker that could not leave a note says.
_TOLD = re.compile('<<(.*?)>>', re.S)
_OS_REMEDY = ': mend this, then run the same command again'


def parse_options(arguments: Sequence[str], num_elements: int) -> Any:
  """Beam's options; unknown ones are errors, not ignored.

  Args:
    arguments: flags of Apache Beam. If no runner is among them, the elements
      are divided over processes on this machine, one per core. That is done
      by the engine of Beam's DirectRunner itself, which by its own name would
      first try to download another.
    num_elements: how many there will be, at most.

  Raises:
    ValueError: Beam has no such flag.
  """
  from apache_beam.options.pipeline_options import PipelineOptions

  arguments = list(arguments)
  given = {argument.partition('=')[0] for argument in arguments}
  if '--runner' not in given:
    workers = max(min(hardware.num_cores(), num_elements), 1)
    ours = {
      '--runner': 'FnApiRunner',
      '--direct_num_workers': workers,
      '--direct_running_mode': (
        'multi_processing' if workers > 1 else 'in_memory'
      ),
      # The processes would announce every step of theirs.
      '--default_sdk_harness_log_level': 'ERROR',
    }
    arguments += [f'{k}={v}' for k, v in ours.items() if k not in given]
  options = PipelineOptions(arguments)
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

  Raises:
    DataError: the function raised DataError or OSError for some elements; it
      was called on all others.
  """
  if not elements:
    return
  import apache_beam as beam

  errors = work / _ERRORS
  errors.mkdir(parents=True, exist_ok=True)
  for path in files.matching(errors, '*'):
    path.unlink()
  try:
    with beam.Pipeline(options=options) as pipeline:
      _ = (
        pipeline
        | beam.Create(list(elements), reshuffle=True)
        | beam.Map(_Guarded(function, os.fspath(errors)))
      )
  except Exception as error:
    told = _TOLD.search(str(error))
    if not told:
      raise
    raise DataError(told[1]) from error
  messages = [path.read_text() for path in files.matching(errors, '*')]
  if messages:
    more = f' (and {len(messages) - 1} more)' if len(messages) > 1 else ''
    raise DataError(messages[0] + more)


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
