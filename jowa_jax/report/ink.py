"""The colours and the font of pictures that are drawn."""

import functools
import pathlib

import matplotlib
from PIL import ImageFont

# The colours of the page's dark side.
PAGE, INK, SOFT, RULE = '#15171b', '#e4e4e0', '#9b9fa8', '#32353c'


@functools.cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
  """The font of a size in pixels."""
  # Matplotlib brings it, so that videos look the same everywhere.
  name = 'DejaVuSans-Bold.ttf' if bold else 'DejaVuSans.ttf'
  path = pathlib.Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / name
  return ImageFont.truetype(path, size)
