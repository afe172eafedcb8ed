"""What is asked of a preparation, and whether a directory has it already."""

import dataclasses
import hashlib
import json
import os
from typing import Any

from etils import epath

from jowa_jax import files
from jowa_jax.data.episodes import DataError
from jowa_jax.data.source import VideoOptions, open_source
from jowa_jax.data.store import formats


@dataclasses.dataclass(frozen=True)
class Request:
  """What is wanted: everything that decides the outcome, and nothing else.

  Attributes:
    source: one of `data.source.SOURCES`.
    input: where it is; may be remote.
    games: names in `games.GAMES`.
    runs: see `selection.draw_runs`.
    checkpoints: see `selection.select_checkpoints`.
    fraction: share of each game's transitions, see `selection.draw_episodes`.
    transitions: number of each game's transitions instead.
    seed: of all draws.
    video: how videos are read; None for other sources.
  """

  source: str
  input: str
  games: tuple[str, ...]
  runs: str = 'all'
  checkpoints: str = 'all'
  fraction: float | None = None
  transitions: int | None = None
  seed: int = 0
  video: VideoOptions | None = None

  def __post_init__(self):
    if self.video and self.source != 'video':
      raise ValueError(
        f'source={self.source!r} has no videos: leave out how they are read'
      )

  def digest(self) -> str:
    """A name that other requests do not share."""
    return _digest([as_json(self), self.digest_of_source()])

  def digest_of_source(self) -> str:
    """A name that requests of the same source share."""
    # Raw logs were once numbered from 0, whatever their files' numbers.
    numbering = ['by file'] if self.source == 'dqn_replay' else []
    if self.video:  # lengths depend on how they are read
      numbering = [dataclasses.asdict(self.video)]
    return _digest([self.source, self.input, *numbering])


def _digest(value: Any) -> str:
  text = json.dumps(value, sort_keys=True)
  return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def read_manifest(
  output: epath.Path, request: Request
) -> dict[str, Any] | None:
  """The manifest of a finished directory of the same request."""
  path = output / formats.MANIFEST
  if not path.exists():
    return None
  try:
    manifest = json.loads(path.read_text())
    theirs, ours = manifest['request'], as_json(request)
  except (ValueError, KeyError) as error:
    raise DataError(
      f'{path} is damaged ({error!r}): remove {output} and prepare it again'
    ) from error
  theirs['input'] = located(theirs.get('input', ''))
  changed = [
    f'{name}: {theirs.get(name)!r}, not {ours[name]!r}'
    for name in ours
    if theirs.get(name) != ours[name]
  ]
  moved = theirs == {**ours, 'input': theirs['input']}
  if changed and not (moved and _has_same_files(request, manifest)):
    raise DataError(
      f'{output} was prepared by another request; give another directory, or '
      f'remove it:\n  ' + '\n  '.join(changed)
    )
  return manifest


def located(path: str) -> str:
  """A path of data, the same however it is spelled."""
  path = files.typed_path(path)
  return path if '://' in path else os.path.realpath(path)


def _has_same_files(request: Request, manifest: dict[str, Any]) -> bool:
  """Whether a source has the files, by name and size, that were read."""
  try:
    source = open_source(
      *(request.source, request.input, request.video, request.games)
    )
    there = {
      (split.game, f'run_{split.run}', split.checkpoint_name): split
      for game in request.games
      for split in source.splits(game)
    }
    for game, of_game in manifest['games'].items():
      for run, of_run in of_game['runs'].items():
        for name, part in of_run['parts'].items():
          found = source.files(there[game, run, name])
          if _by_name(found) != _by_name(part['files']):
            return False
  except (DataError, KeyError):
    return False
  return True


def _by_name(sizes: dict[str, int]) -> dict[str, int]:
  return {os.path.basename(path): size for path, size in sizes.items()}


def as_json(request: Request) -> dict[str, Any]:
  fields = json.loads(json.dumps(dataclasses.asdict(request)))
  # Left out of what has none: manifests of before did not have it.
  if request.video is None:
    del fields['video']
  return fields
