"""Which errors say that another process was lost."""

import jax
import pytest

from jowa_jax.train.preemption import lost_another


@pytest.mark.parametrize(
  ('error', 'expected'),
  [
    # As seen where a process of two was killed.
    (ValueError('UNKNOWN: Gloo all-reduce failed: Connection closed'), True),
    (jax.errors.JaxRuntimeError('UNAVAILABLE: failed to connect'), True),
    (jax.errors.JaxRuntimeError('DEADLINE_EXCEEDED: Barrier timed out'), True),
    (jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory'), False),
    (ValueError('run.batch_size=4 does not divide'), False),
    (KeyError('UNAVAILABLE'), False),
  ],
)
def test_lost_another(error, expected):
  assert lost_another(error) == expected
