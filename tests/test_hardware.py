import os

import pytest

from jowa_jax import hardware


@pytest.mark.skipif(
  not hasattr(os, 'sched_setaffinity'), reason='the system has no affinity'
)
def test_cores_are_those_that_the_process_may_use():
  allowed = os.sched_getaffinity(0)
  try:
    os.sched_setaffinity(0, {min(allowed)})
    assert hardware.num_cores() == 1
  finally:
    os.sched_setaffinity(0, allowed)
  assert hardware.num_cores() == len(allowed)
