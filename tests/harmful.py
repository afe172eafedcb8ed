"""A pickle that runs code, to see that nothing lets it."""

import os


class RunsCode:
  """What a harmful file holds; the harm is a file that appears."""

  def __init__(self, marker):
    self.marker = str(marker)

  def __reduce__(self):
    return os.mkdir, (self.marker,)
