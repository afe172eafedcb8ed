"""What the tests of parity share."""

import pytest

from tests.train import helpers


@pytest.fixture(scope='module', autouse=True)
def quick_compilation(request):
  cache = request.config.cache.mkdir('jax_compilation')
  with helpers.quick_compilation(str(cache)):
    yield
