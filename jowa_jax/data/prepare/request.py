"""What is asked of a preparation."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from jowa_jax import files
from jowa_jax.configuration import build
from jowa_jax.data.source import VideoOptions


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


def located(path: str) -> str:
  """A path of data, the same however it is spelled."""
  path = files.typed_path(path)
  return path if '://' in path else os.path.realpath(path)


def as_json(request: Request) -> dict[str, Any]:
  """A request as JSON gives it back."""
  fields = json.loads(json.dumps(dataclasses.asdict(request)))
  # Left out of what has none: manifests of before did not have it.
  if request.video is None:
    del fields['video']
  return fields


def from_json(fields: Mapping[str, Any]) -> Request:
  """A request from what a manifest holds; fields of other versions are left."""
  names = {field.name for field in dataclasses.fields(Request)}
  known = {name: value for name, value in fields.items() if name in names}
  known['games'] = tuple(known['games'])
  if known.get('video'):
    known['video'] = build(VideoOptions, known['video'], 'video')
  return Request(**known)
