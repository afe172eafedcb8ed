"""Pictures of video files and of folders of images, one at a time, in order."""

import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import av
import cv2
import numpy as np

from jowa_jax.data.episodes import DataError
from jowa_jax.data.source import VideoOptions

VIDEOS = ('.mp4', '.mkv', '.webm')
IMAGES = ('.png', '.jpg', '.jpeg', '.bmp')
_REMEDY = 'get it again, or leave it out'
# Of its length that a whole video may lack.
_SLACK = 0.05


class Shown(NamedTuple):
  """A picture of a video."""

  seconds: float  # when it appears
  lasts: float  # seconds, if none follows
  pixels: Callable[[], np.ndarray]  # [height, width] uint8, grey and cropped


def images_in(folder: pathlib.Path) -> list[pathlib.Path]:
  """The images of a folder by name, numbers in names by their value."""
  found = [
    path
    for path in folder.iterdir()
    if path.suffix.lower() in IMAGES and not path.name.startswith('.')
  ]
  return sorted(found, key=lambda path: natural(path.name))


def natural(name: str) -> list[tuple[int, str]]:
  """A key by which 'frame_2.png' stands before 'frame_10.png'."""
  pieces = re.split(r'(\d+)', name)
  return [(int(x), '') if x.isdecimal() else (-1, x) for x in pieces]


def shown(path: pathlib.Path, options: VideoOptions) -> Iterator[Shown]:
  """Yields the pictures of a video.

  Args:
    path: a file, or a folder of images.
    options: the crop and the rate.

  Raises:
    DataError: it is damaged, incomplete, has no pictures, or the crop does not
      fit; it names the file and the remedy.
  """
  if path.is_dir():
    yield from _of_images(path, options)
    return
  try:
    with av.open(str(path)) as container:
      yield from _of_container(path, container, options)
  except DataError:
    raise
  except (av.error.FFmpegError, OSError, ValueError) as error:
    raise DataError(
      f'{path} is damaged, incomplete or no video ({error}): {_REMEDY}'
    ) from error


def _of_images(folder: pathlib.Path, options: VideoOptions) -> Iterator[Shown]:
  rate = options.frames_per_second or options.decisions_per_second

  def read(path: pathlib.Path) -> np.ndarray:
    data = np.fromfile(path, np.uint8)
    image = None
    if len(data):
      image = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    if image is None:
      raise DataError(f'{path} is damaged or no image: {_REMEDY}')
    return _cropped(path, image, options.crop)

  for number, path in enumerate(images_in(folder)):
    yield Shown(number / rate, 1 / rate, lambda path=path: read(path))


def _of_container(
  path: pathlib.Path, container: Any, options: VideoOptions
) -> Iterator[Shown]:
  if not container.streams.video:
    kinds = ', '.join(stream.type for stream in container.streams) or 'none'
    raise DataError(
      f'{path} has no video among its streams ({kinds}): leave it out'
    )
  stream = container.streams.video[0]
  stream.thread_type = 'AUTO'
  usual = float(stream.average_rate or stream.base_rate or 30)
  rate = options.frames_per_second
  seconds, lasts, number = 0.0, 1 / (rate or usual), -1
  first = None
  for number, frame in enumerate(container.decode(stream)):
    if rate:
      seconds = number / rate
    elif frame.time is not None:
      seconds = frame.time
    elif number:
      seconds += lasts
    first = seconds if first is None else first

    def pixels(frame=frame) -> np.ndarray:
      grey = frame.reformat(format='gray').to_ndarray()
      return _cropped(path, _upright(grey, frame.rotation), options.crop)

    yield Shown(seconds, lasts, pixels)
  if number < 0:
    raise DataError(f'{path} has no picture that can be decoded: {_REMEDY}')
  stated = None if rate else _stated_seconds(container, stream)
  there = seconds + lasts - first
  if stated and there < (1 - _SLACK) * stated - 1:
    raise DataError(
      f'{path} ends after {there:.1f} of {stated:.1f} s: get it again, or keep '
      'what is there by copying it to another file (ffmpeg -i IN -c copy OUT)'
    )


def _stated_seconds(container: Any, stream: Any) -> float | None:
  """How long the video is by what its file says, if it does."""
  if stream.duration and stream.time_base:
    return float(stream.duration * stream.time_base)
  text = stream.metadata.get('DURATION', '')
  if match := re.fullmatch(r'(\d+):(\d+):(\d+(?:\.\d+)?)', text):
    hours, minutes, seconds = match.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
  # Sound may be longer than what is seen.
  if container.duration and len(container.streams) == 1:
    return container.duration / av.time_base
  return None


def _upright(image: np.ndarray, degrees: float) -> np.ndarray:
  """A picture as players turn it, counter-clockwise."""
  return np.rot90(image, round(degrees / 90) % 4)


def _cropped(
  path: pathlib.Path,
  image: np.ndarray,
  crop: tuple[int, int, int, int] | None,
) -> np.ndarray:
  if crop is None:
    return np.ascontiguousarray(image)
  width, height, left, top = crop
  if left + width > image.shape[1] or top + height > image.shape[0]:
    raise DataError(
      f'{path} has pictures of {image.shape[1]}x{image.shape[0]} pixels: the '
      f'crop {":".join(map(str, crop))} (width:height:left:top) lies outside'
    )
  return np.ascontiguousarray(image[top : top + height, left : left + width])
