"""A small agent's programs, compiled once for the tests of a file."""

import pytest

from jowa_jax.play.programs import Programs
from tests.eval.small_agent import make_agent


@pytest.fixture(scope='module')
def programs():
  return Programs(make_agent(backbone__num_layers=1, backbone__max_blocks=4))
