"""Arrays and what they mean in one file: `.npz` without pickles.

`contents`, JSON in bytes, lies beside the arrays and says what they are.
"""

import io
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jowa_jax import files

_CONTENTS = 'contents'


def write(
  path: str | os.PathLike,
  contents: Mapping[str, Any],
  arrays: Mapping[str, np.ndarray],
) -> None:
  """Writes a file, whole; one of the same name is replaced."""
  described = np.frombuffer(json.dumps(contents).encode(), np.uint8)
  # A stream, because NumPy would change a name that does not end in .npz.
  with files.written_whole(path) as temporary, temporary.open('wb') as stream:
    np.savez_compressed(stream, **{_CONTENTS: described}, **arrays)


def parse(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """The contents and the arrays of a file's bytes.

  Raises:
    ValueError: they are no such file, or one that was cut short or damaged.
  """
  try:
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
      arrays = dict(stored)
    contents = json.loads(arrays.pop(_CONTENTS).tobytes())
    if not isinstance(contents, dict):
      raise ValueError('its contents are no JSON object')
  # What NumPy, zipfile, zlib and json raise is not more precise than that.
  except (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError),
    *(ValueError, KeyError, TypeError, AttributeError),
  ) as error:
    raise ValueError(str(error)) from error
  return contents, arrays
