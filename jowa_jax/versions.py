"""Which versions of libraries made something."""

import platform
from collections.abc import Sequence
from importlib import metadata


def versions_of(modules: Sequence[str]) -> dict[str, str]:
  """The versions of Python and of the libraries that modules are of.

  Libraries go by the name that they are installed by, of which there may be
  several: `cv2` is of opencv-python as well as of opencv-python-headless.

  Args:
    modules: by the names that they are imported by.

  Returns:
    Versions by library; 'unknown', by module, of one that is not installed as
    a distribution.
  """
  distributions = metadata.packages_distributions()
  versions = {'python': platform.python_version()}
  for module in modules:
    names = sorted(set(distributions.get(module, ())))
    if not names:
      versions[module] = 'unknown'
    for name in names:
      versions[name] = metadata.version(name)
  return versions
