"""Reads videos of games: frames without actions, rewards or ends.

A video is one split, run 1 and a number from 0 on in the order of names. What
it shows is brought to a game's own pace: a decision is four ticks of a clock,
the emulator's frames, and shows the maximum of what was on the screen in the
last two of them, shrunk to 84 x 84 by area, as `envs.ale` does it.
"""

import dataclasses
import logging
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, NamedTuple

import cv2
import numpy as np

from jowa_jax import games
from jowa_jax.data.episodes import DataError, RawEpisode, encode_png
from jowa_jax.data.source import Split, VideoOptions
from jowa_jax.data.sources import video_files
from jowa_jax.data.sources.video_files import IMAGES, VIDEOS, Shown
from jowa_jax.types import FRAME_SHAPE

# Of a decision, and of those the last that are seen.
_TICKS, _SEEN = 4, 2
# Decisions of an episode: a longer one is several, so that one fits in memory.
LONGEST = 4096
# Seconds without a new picture after which the video goes on as another one.
_PAUSE = 5.0
# Mean difference of pixels, of 255, of two frames that are of other scenes. In
# play of eight games it is 9 from one decision to the next at most, but for a
# game that flashes, with 25; frames of two of these games differ by 21 or more.
CUT = 16.0


@dataclasses.dataclass(frozen=True)
class VideoSource:
  """Videos below a directory, or one video.

  Attributes:
    root: a video; a folder of its images; a folder of such videos and folders;
      or one with such a folder for every game, of its name.
    options: how they are read.
    alone: whether what lies in the root itself is of the one game asked for.
  """

  whole_run: ClassVar[int | None] = None

  root: str
  options: VideoOptions
  alone: bool = True

  def splits(self, game: str) -> list[Split]:
    """See `Source`."""
    games.check_game(game)
    return [Split(game, 1, number) for number in range(len(self._find(game)))]

  def doubts(self, split: Split) -> str:
    """See `Source`."""
    return ''

  def lengths(self, split: Split) -> list[int]:
    """See `Source`. Decodes the whole video: only so are cuts found."""
    path = self._path(split)
    return [len(frames) for frames in self._scenes(path, encode=False)]

  def episodes(
    self, split: Split, chosen: Sequence[int]
  ) -> Iterator[RawEpisode]:
    """See `Source`; actions and rewards are zeros, and nothing ends."""
    wanted, last = set(chosen), max(chosen, default=-1)
    if last < 0:
      return
    scenes = self._scenes(self._path(split), encode=True)
    for place, frames in enumerate(scenes):
      if place in wanted:
        yield RawEpisode(
          frames=frames,
          actions=np.zeros(len(frames), np.int32),
          rewards=np.zeros(len(frames), np.float32),
          terminated=False,
        )
      if place == last:
        return

  def files(self, split: Split) -> dict[str, int]:
    """See `Source`."""
    path = self._path(split)
    if path.is_dir():
      images = video_files.images_in(path)
      return {str(path): sum(image.stat().st_size for image in images)}
    return {str(path): path.stat().st_size}

  def _path(self, split: Split) -> pathlib.Path:
    found = self._find(split.game)
    if not (split.run == 1 and 0 <= split.checkpoint < len(found)):
      raise DataError(f'{self.root} has no {split}: {len(found)} videos')
    return found[split.checkpoint]

  def _find(self, game: str) -> list[pathlib.Path]:
    """The videos of a game, each a file or a folder of images."""
    if '://' in self.root:
      raise DataError(f'{self.root}: videos are read from a local directory')
    root = pathlib.Path(self.root)
    if not root.exists():
      raise DataError(f'{root} is not there: give a video, or a folder of them')
    folder = root / game if (root / game).is_dir() else root
    if folder == root and not self.alone:
      raise DataError(
        f'{root} has no folder {game}: for several games put the videos of '
        f'each in a folder of its name'
      )
    if root.is_file():
      found = [root] if root.suffix.lower() in VIDEOS else []
    else:
      found = _videos_in(folder)
    if not found:
      raise DataError(
        f'{folder} has no video of {game}: neither {", ".join(VIDEOS)} nor a '
        f'folder of images ({", ".join(IMAGES)})'
      )
    return found

  def _scenes(self, path: pathlib.Path, encode: bool) -> Iterator[list[bytes]]:
    """Yields the frames of each scene, as PNG files or empty."""
    shown = video_files.shown(path, self.options)
    frames = decisions(shown, self.options.decisions_per_second, path)
    scene: list[bytes] = []
    for frame, begins in cut(frames):
      if scene and (begins or len(scene) == LONGEST):
        yield scene
        scene = []
      scene.append(encode_png(frame) if encode else b'')
    if not scene:
      raise DataError(
        f'{path} is shorter than one decision, '
        f'{1 / self.options.decisions_per_second:.3f} s: leave it out'
      )
    yield scene


def _videos_in(folder: pathlib.Path) -> list[pathlib.Path]:
  """The videos in a folder by name, numbers in names by their value."""
  entries = [path for path in folder.iterdir() if not path.name.startswith('.')]
  found = [
    path
    for path in entries
    if (path.is_file() and path.suffix.lower() in VIDEOS)
    or (path.is_dir() and video_files.images_in(path))
  ]
  images = video_files.images_in(folder)
  if not found:
    return [folder] if images else []
  if images:
    logging.warning(
      '%s has videos and %d images beside them: the images are left out',
      folder,
      len(images),
    )
  return sorted(found, key=lambda path: video_files.natural(path.name))


class Decision(NamedTuple):
  """What is seen in a decision."""

  frame: np.ndarray  # [84, 84] uint8
  follows: bool  # at once on the one before it


def decisions(
  shown: Iterable[Shown], per_second: float, path: pathlib.Path
) -> Iterator[Decision]:
  """Yields what is seen in each decision.

  Args:
    shown: the pictures of a video in order.
    per_second: decisions a second of the video.
    path: of the video, for messages.
  """
  rate = per_second * _TICKS
  clock = _Clock()
  before: Shown | None = None
  for picture in shown:
    if before is not None:
      gap = picture.seconds - before.seconds
      if 0 <= gap <= max(_PAUSE, 2 * before.lasts):
        stop = round((picture.seconds - clock.start) * rate)
        yield from clock.run(before, stop)
      else:
        logging.warning(
          '%s: the time goes from %.1f to %.1f s: a new episode begins',
          *(path, before.seconds, picture.seconds),
        )
        stop = round((before.seconds + before.lasts - clock.start) * rate)
        yield from clock.run(before, stop)
        clock = _Clock()
    if clock.start is None:
      clock.start = picture.seconds
    before = picture
  if before is not None:
    stop = round((before.seconds + before.lasts - clock.start) * rate)
    yield from clock.run(before, stop)


class _Clock:
  """Ticks since a picture, by which decisions are told.

  Attributes:
    start: seconds of the video at the first tick; None before it.
  """

  def __init__(self):
    self.start: float | None = None
    self._tick = 0  # the next one
    self._seen: np.ndarray | None = None  # so far in this decision
    self._follows = False

  def run(self, picture: Shown, stop: int) -> Iterator[Decision]:
    """Shows a picture up to the tick `stop`; yields decisions that end."""
    pixels = None
    while self._tick < stop:
      decision, within = divmod(self._tick, _TICKS)
      end = min(stop, (decision + 1) * _TICKS)
      first_seen = (decision + 1) * _TICKS - _SEEN
      if end > max(self._tick, first_seen):
        pixels = picture.pixels() if pixels is None else pixels
        if self._seen is None or self._seen.shape != pixels.shape:
          self._seen = pixels
        else:
          self._seen = np.maximum(self._seen, pixels)
      self._tick = end
      if end == (decision + 1) * _TICKS:
        size = FRAME_SHAPE[::-1]
        frame = cv2.resize(self._seen, size, interpolation=cv2.INTER_AREA)
        yield Decision(frame, self._follows)
        self._seen, self._follows = None, True


def cut(frames: Iterable[Decision]) -> Iterator[tuple[np.ndarray, bool]]:
  """Yields frames, and whether each begins a scene.

  One does if neither it nor the next one is like either of the two before it:
  a flash of one frame is no cut.
  """
  window: list[Decision] = []  # the two before, the frame, the next one
  for decision in frames:
    window.append(decision)
    if len(window) > 1:
      yield window[-2].frame, _begins(window[:-2][-2:], window[-2:])
    window = window[-3:]
  if window:
    yield window[-1].frame, _begins(window[:-1][-2:], window[-1:])


def _begins(before: Sequence[Decision], after: Sequence[Decision]) -> bool:
  """Whether the first frame of `after` begins a scene."""
  if not before or not after[0].follows:
    return True
  if not before[-1].follows:
    before = before[-1:]
  if not after[-1].follows:
    after = after[:1]
  return all(
    cv2.absdiff(one.frame, other.frame).mean() > CUT
    for one in before
    for other in after
  )
