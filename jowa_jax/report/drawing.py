"""What films are drawn with: colours, letters, and the encoder.

Drawn with Pillow, a few milliseconds a frame, and encoded with PyAV, whose
wheels carry FFmpeg and x264.
"""

import functools
import os
import pathlib
from collections.abc import Iterable

import av
import matplotlib
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image, ImageFont

from jowa_jax import files

# The colours of the page's dark side.
PAGE, INK, SOFT, RULE = '#15171b', '#e4e4e0', '#9b9fa8', '#32353c'
CHOSEN, REWARD = '#dda748', '#56bfb0'

FILMS = ('.mp4', '.webp')
# A minute stays below 2.4 MB however much flickers.
_ENCODER = {
  'preset': 'medium',
  'tune': 'animation',
  'crf': '26',
  'maxrate': '300k',
  'bufsize': '600k',
}


def check_film(path: str | os.PathLike) -> pathlib.Path:
  """The path of a film; ValueError if it is of another format."""
  path = pathlib.Path(path)
  if path.suffix.lower() not in FILMS:
    raise ValueError(
      f'{path} must end in {" or ".join(FILMS)}: these formats are written'
    )
  return path


def write_pictures(
  path: str | os.PathLike,
  pictures: Iterable[np.ndarray],
  width: int,
  height: int,
  frames_per_second: int,
) -> None:
  """Writes a film that browsers play, whole or not at all.

  An .mp4 file is H.264; a .webp file moves where a picture stands, as in a
  README, and begins again at its end.

  Args:
    path: ends in one of `FILMS`.
    pictures: [height, width, 3] uint8 each.
    width: of the pictures, even.
    height: of the pictures, even.
    frames_per_second: of the video.

  Raises:
    ValueError: the path ends otherwise.
    OSError: the file cannot be written.
  """
  path = check_film(path)
  if path.suffix.lower() == '.webp':
    first, *others = map(Image.fromarray, pictures)
    with files.written_whole(path) as temporary:
      first.save(
        temporary,
        'WEBP',
        save_all=True,
        append_images=others,
        duration=round(1000 / frames_per_second),
        loop=0,
        quality=50,
        method=6,
      )
    return
  with (
    files.written_whole(path) as temporary,
    # What is needed to begin playing comes first in the file.
    av.open(
      str(temporary), 'w', format='mp4', options={'movflags': '+faststart'}
    ) as container,
  ):
    stream = container.add_stream(
      'libx264', rate=frames_per_second, options=_ENCODER
    )
    stream.width, stream.height = width, height
    stream.pix_fmt = 'yuv420p'
    # Written down, since players guess from the size of the picture.
    codec = stream.codec_context
    codec.gop_size = 10 * frames_per_second
    codec.color_range = ColorRange.MPEG
    codec.colorspace = codec.color_primaries = codec.color_trc = 1  # BT.709
    for pixels in pictures:
      picture = av.VideoFrame.from_ndarray(pixels, format='rgb24')
      picture = picture.reformat(
        format='yuv420p',
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
      )
      container.mux(stream.encode(picture))
    container.mux(stream.encode())


@functools.cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
  """The letters of films, the same on every machine."""
  # Matplotlib brings them.
  name = 'DejaVuSans-Bold.ttf' if bold else 'DejaVuSans.ttf'
  path = pathlib.Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / name
  return ImageFont.truetype(path, size)


def paste(
  pixels: np.ndarray, frame: np.ndarray, left: int, top: int, scale: int
) -> None:
  """Draws a grey frame into a picture, every pixel `scale` wide and high."""
  large = frame.repeat(scale, axis=0).repeat(scale, axis=1)[..., None]
  height, width = large.shape[:2]
  pixels[top : top + height, left : left + width] = large
