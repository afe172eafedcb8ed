"""Pictures as H.264 videos that browsers play.

Encoded with PyAV, whose wheels carry FFmpeg and x264.
"""

import os
import pathlib
from collections.abc import Iterable

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from jowa_jax import files

# A minute stays below 2.4 MB however much flickers.
_ENCODER = {
  'preset': 'medium',
  'tune': 'animation',
  'crf': '26',
  'maxrate': '300k',
  'bufsize': '600k',
}


def check_suffix(path: str | os.PathLike) -> None:
  """Raises ValueError unless a path ends in .mp4."""
  if pathlib.Path(path).suffix.lower() != '.mp4':
    raise ValueError(f'{path} must end in .mp4: it is the format written')


def encode(
  path: str | os.PathLike,
  pictures: Iterable[np.ndarray],
  size: tuple[int, int],
  frames_per_second: int,
) -> None:
  """Writes a video, whole or not at all.

  Args:
    path: ends in .mp4.
    pictures: [height, width, 3] uint8 each.
    size: width and height, even.
    frames_per_second: pictures a second.

  Raises:
    OSError: the file cannot be written.
  """
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
    stream.width, stream.height = size
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
