"""Cases of a test of which few are quick."""

from collections.abc import Iterable
from typing import Any

import pytest


def quick(cases: Iterable[Any], *kept: Any) -> list:
  """Cases for `pytest.mark.parametrize`, slow but for those that are kept.

  A tuple is a case of several arguments. Whoever is to be kept must be there.
  """
  cases = list(cases)
  missing = [case for case in kept if case not in cases]
  if missing or not kept:
    raise ValueError(f'{missing or "nothing"} of {cases} is to be kept')
  return [
    case
    if case in kept
    else pytest.param(
      *(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow
    )
    for case in cases
  ]
