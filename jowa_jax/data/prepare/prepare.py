"""From data sets of any source to what training reads, on any Beam runner.

What is drawn is decided before anything is written, from the lengths of the
episodes alone; then every checkpoint of every run is an element of its own,
read, converted and written by whoever gets it. What is finished is not done
again after a restart.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from etils import epath

from jowa_jax import files, ownership
from jowa_jax.data.episodes import DataError, RawEpisode
from jowa_jax.data.prepare import beam_pipeline, selection
from jowa_jax.data.prepare import manifest as manifests
from jowa_jax.data.prepare.manifest import Manifest
from jowa_jax.data.prepare.request import Request, as_json, located
from jowa_jax.data.source import MISSING, Source, Split, open_source
from jowa_jax.data.store import formats, writer
from jowa_jax.versions import versions_of

# In the output until the manifest is there.
_WORK = '.preparing'
_LENGTHS, _NOTES = 'lengths', 'notes'
_MODULES = (
  'apache_beam',
  'array_record',
  'numpy',
  'cv2',
  'tensorflow_datasets',
  'minari',
)


@dataclasses.dataclass(frozen=True)
class _Job:
  """One checkpoint to convert."""

  source: Source
  split: Split
  chosen: tuple[int, ...]
  work: str
  missing: tuple[str, ...]  # see `source.MISSING`


def prepare(
  request: Request,
  output: str | os.PathLike,
  beam_options: Sequence[str] = (),
  progress: bool = True,
) -> Manifest:
  """Draws, converts and writes what is not there yet.

  A directory grows: other games, or other runs of a game that are drawn in the
  same way, join what is there. Until they are whole, that stays as it was.

  Args:
    request: what is wanted; games that the same request has made before are
      left as they are, whether or not their source is still there.
    output: where the data sets and `manifest.json` go, on a file system that
      all workers reach.
    beam_options: flags of Apache Beam, such as '--runner=FlinkRunner'; see
      `beam_pipeline.parse_options` for what is done without any.
    progress: show a progress bar.

  Returns:
    The manifest of the directory: requests, versions, and of every game and
    checkpoint what there was, what was drawn, and what was written.

  Raises:
    DataError: the source is missing, damaged or too small; or the directory
      holds what another request made of the same games and runs, or data of
      another format.
    ValueError: the request is not understood.
    InUseError: another process prepares the output.
    OSError: the disk is full or cannot be written.
  """
  selection.check_amount(request.fraction, request.transitions)
  output = _resolve(output)
  request = dataclasses.replace(request, input=located(request.input))
  rest = manifests.rest_of(manifests.read(output), request)
  if rest is not None:
    with _owned(output):
      # Another process may have made it since.
      manifest = manifests.read(output)
      rest = manifests.rest_of(manifest, request)
      if rest is not None:
        return _prepare(rest, manifest, output, beam_options, progress)
  logging.info('%s was prepared before', output)
  if (output / _WORK).exists():
    with contextlib.suppress(ownership.InUseError), _owned(output):
      _remove_finished(output)
  return manifests.read(output)


def _owned(output: epath.Path) -> contextlib.AbstractContextManager[None]:
  """Holds an output while it is prepared; remote ones cannot be held."""
  if '://' in os.fspath(output):
    return contextlib.nullcontext()
  return ownership.owned(output / f'{_WORK}.owner')


def _remove_finished(output: epath.Path) -> None:
  """Removes the work of requests that are done, not that of others."""
  for digest in manifests.digests(manifests.read(output)):
    if (output / _WORK / digest).exists():
      (output / _WORK / digest).rmtree()
  left = files.matching(output / _WORK, '*')
  if all(path.name.startswith(_LENGTHS) for path in left):
    (output / _WORK).rmtree()


def _prepare(
  request: Request,
  manifest: Manifest | None,
  output: epath.Path,
  beam_options: Sequence[str],
  progress: bool,
) -> Manifest:
  source = open_source(
    *(request.source, request.input, request.video, request.games)
  )
  missing = MISSING.get(request.source, ())
  work = output / _WORK / request.digest()
  _check_unfinished(output, work, manifest)
  splits = _select_splits(source, request)
  manifests.check_runs(manifest, request, splits)
  options = beam_pipeline.parse_options(beam_options)
  # Another draw from the same source needs the same lengths.
  found = output / _WORK / f'{_LENGTHS}-{request.digest_of_source()}'
  lengths = _read_lengths(source, splits, found, options, progress)
  drawn = _draw(request, lengths)
  jobs = [
    _Job(
      *(source, split, tuple(chosen), os.fspath(work / split.run_name)),
      missing=missing,
    )
    for split, chosen in drawn.items()
    if chosen
  ]
  _clean(work)
  _convert(jobs, lengths, options, progress)
  games = _finish(request, output, work, jobs, lengths)
  manifest = manifests.joined(manifest, request, versions_of(_MODULES), games)
  # With the manifest it is complete.
  writer.write_json(output / formats.MANIFEST, manifest)
  (output / _WORK).rmtree()
  return manifest


def _resolve(output: str | os.PathLike) -> epath.Path:
  """The output as workers find it.

  Raises:
    ValueError: it is on a file system that cannot be written to.
  """
  scheme, separator, _ = os.fspath(output).partition('://')
  if separator and scheme not in ('gs', 's3'):
    raise ValueError(
      f'{output}: {scheme}:// cannot be written to; give a directory (of a '
      'mounted file system), gs:// or s3://'
    )
  path = epath.Path(output)
  return path if separator else path.resolve()


def _clean(work: epath.Path) -> None:
  """Removes what tries that were killed have left half done."""
  left = [
    path
    for folder in files.matching(work, '*')
    for path in files.matching(folder, '.part.*')
  ]
  for path in [*left, work / _NOTES]:
    if path.exists():
      path.rmtree()


def _check_unfinished(
  output: epath.Path, work: epath.Path, manifest: Manifest | None
) -> None:
  """Raises DataError if another request was interrupted in the directory."""
  known = {work.name, *manifests.digests(manifest)}
  others = [
    path
    for path in files.matching(output / _WORK, '*')
    if path.name not in known and not path.name.startswith(_LENGTHS)
  ]
  # Without the bookkeeping of any request, what is there is not of one.
  foreign = [
    output / kind
    for kind in (formats.EPISODES, formats.FRAMES)
    if (output / kind).exists() and not (work.exists() or manifest)
  ]
  if others or foreign:
    raise DataError(
      f'{(others + foreign)[0]} is there, of another request that was '
      'interrupted or of other data: end that request first (the same command '
      'goes on), give another directory, or remove it'
    )


def _select_splits(source: Source, request: Request) -> list[Split]:
  selected = []
  for game in request.games:
    splits = selection.draw_runs(
      source.splits(game), request.runs, request.seed
    )
    selected += selection.select_checkpoints(
      splits, request.checkpoints, source.whole_run
    )
  if selection.is_named(request.checkpoints):
    return selected
  doubts = {split: source.doubts(split) for split in selected}
  for split, why in doubts.items():
    if why:
      logging.warning(
        '%s is left out: %s. To take it, name it: --checkpoints=...', split, why
      )
  kept = [split for split in selected if not doubts[split]]
  if not kept:
    raise DataError(f'Nothing is left: {selected[0]}, as {doubts[selected[0]]}')
  return kept


def _draw(
  request: Request, lengths: dict[Split, list[int]]
) -> dict[Split, list[int]]:
  drawn = {}
  for game in request.games:
    drawn |= selection.draw_episodes(
      {split: found for split, found in lengths.items() if split.game == game},
      request.seed,
      request.fraction,
      request.transitions,
    )
  return drawn


def _read_lengths(
  source: Source,
  splits: Sequence[Split],
  folder: epath.Path,
  options: Any,
  progress: bool,
) -> dict[Split, list[int]]:
  """The lengths of the episodes of every split."""
  paths = {split: folder / f'{split.name}.json' for split in splits}
  missing = [
    (source, split, os.fspath(path))
    for split, path in paths.items()
    if not path.exists()
  ]
  with beam_pipeline.Progress(
    'Reading lengths', len(splits), 'file', progress
  ) as bar:
    bar.follow(lambda: len(files.matching(folder, '*.json')))
    beam_pipeline.call_on_all(missing, _write_lengths, folder, options)
  return {split: json.loads(path.read_text()) for split, path in paths.items()}


def _write_lengths(element: tuple[Source, Split, str]) -> None:
  source, split, path = element
  writer.write_json(epath.Path(path), list(map(int, source.lengths(split))))


def _convert(
  jobs: Sequence[_Job],
  lengths: dict[Split, list[int]],
  options: Any,
  progress: bool,
) -> None:
  """Writes every split that is not written yet."""
  work = epath.Path(jobs[0].work).parent
  missing = [job for job in jobs if not writer.read_split(job.work, job.split)]
  steps = {
    job.split: sum(lengths[job.split][place] for place in job.chosen)
    for job in jobs
  }
  before = sum(steps.values()) - sum(steps[job.split] for job in missing)
  with beam_pipeline.Progress(
    'Converting', sum(steps.values()), 'step', progress
  ) as bar:
    bar.follow(lambda: before + _sum_notes(work))
    beam_pipeline.call_on_all(missing, _write_split, work, options)


def _write_split(job: _Job) -> None:
  note = epath.Path(job.work).parent / _NOTES / job.split.name
  episodes = job.source.episodes(job.split, job.chosen)
  numbered = zip(job.chosen, episodes, strict=True)
  writer.write_split(job.work, job.split, _noted(numbered, note), job.missing)


def _noted(
  episodes: Iterator[tuple[int, RawEpisode]], note: epath.Path
) -> Iterator[tuple[int, RawEpisode]]:
  """Yields the episodes; keeps a note of how many steps they were so far."""
  note.parent.mkdir(parents=True, exist_ok=True)
  steps, noted = 0, 0.0
  for number, raw in episodes:
    yield number, raw
    steps += len(raw.actions)
    if time.monotonic() - noted > beam_pipeline.SECONDS_PER_NOTE:
      note.write_text(str(steps))
      noted = time.monotonic()
  note.write_text(str(steps))


def _sum_notes(work: epath.Path) -> int:
  return sum(
    int(note.read_text() or 0) for note in files.matching(work / _NOTES, '*')
  )


def _finish(
  request: Request,
  output: epath.Path,
  work: epath.Path,
  jobs: Sequence[_Job],
  lengths: dict[Split, list[int]],
) -> dict[str, Any]:
  """Makes the data sets of every run; returns the games of the manifest."""
  origin = {'source': request.source, 'request': as_json(request)}
  runs: dict[str, list[_Job]] = {}
  for job in jobs:
    runs.setdefault(job.split.run_name, []).append(job)
  games: dict[str, Any] = {}
  for name, group in runs.items():
    splits = [job.split for job in group]
    drawn = {
      job.split.checkpoint_name: {
        'files': job.source.files(job.split),
        'episodes_there': len(lengths[job.split]),
        'steps_there': sum(lengths[job.split]),
        'episodes_drawn': list(job.chosen),
      }
      for job in group
    }
    stats = writer.finish_run(
      *(output, work / name, splits, {**origin, 'drawn': drawn}),
      missing=group[0].missing,
    )
    split = splits[0]
    game = games.setdefault(split.game, {'runs': {}})
    game['runs'][f'run_{split.run}'] = {
      'checksum': _checksum(output, split),
      'parts': {
        each.checkpoint_name: {
          **drawn[each.checkpoint_name],
          **dataclasses.asdict(written),
        }
        for each, written in zip(sorted(splits), stats, strict=True)
      },
    }
  for name, game in games.items():
    game['steps_there'] = sum(
      sum(found) for split, found in lengths.items() if split.game == name
    )
  return games


def _checksum(output: epath.Path, split: Split) -> str:
  """A hash of all transitions of a run (see `episodes.digest`)."""
  path = formats.data_set_path(output, split.game, split.run, formats.FRAMES)
  with (path / 'episodes.npy').open('rb') as stream:
    table = np.load(stream)
  return hashlib.blake2b(table['digest'].tobytes(), digest_size=16).hexdigest()
