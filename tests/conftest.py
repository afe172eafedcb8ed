"""Quick compilation, and real play that is collected once for all tests."""

import gc
import pathlib
import types

import pytest

from jowa_jax.collect.collect import collect

# Where compiling takes most of the time, and optimising most of that.
QUICKLY_COMPILED = (
  'bench',
  'eval',
  'launch',
  'methods',
  'models',
  'parity',
  'plan',
  'tests',
  'train',
)


# The longest files, which begin first: at the end, no worker is left alone with
# one of them.
LONGEST = (
  'test_quickstart.py',
  'test_quickstart_shipped.py',
  'test_sharding.py',
  'test_processes.py',
)


def pytest_collection_modifyitems(items):
  items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope='session')
def compilation_cache(request):
  """Kept between runs of the tests; `--cache-clear` empties it."""
  return str(request.config.cache.mkdir('jax_compilation'))


@pytest.fixture(scope='module', autouse=True)
def quick_compilation(request, compilation_cache):
  if request.path.parent.name not in QUICKLY_COMPILED:
    yield
    return
  from tests.train import helpers

  with helpers.quick_compilation(compilation_cache):
    yield


@pytest.fixture(scope='module', autouse=True)
def young_heap():
  """What earlier modules left in caches is not searched for garbage again.

  JAX keeps all that was traced: by the end a million objects, which every full
  collection would walk.
  """
  gc.collect()
  gc.freeze()


@pytest.fixture(scope='session')
def atari_data_dir(tmp_path_factory) -> pathlib.Path:
  """120 random and 120 mostly searched decisions of Assault and Carnival."""
  output = tmp_path_factory.mktemp('atari')
  collect(
    output, 'Assault,Carnival', (1.0, 0.2), 120, num_processes=2, progress=False
  )
  return output


@pytest.fixture(scope='session')
def full_episodes_dir(tmp_path_factory) -> pathlib.Path:
  """1,000 random decisions of Carnival: full episodes, and a cut one."""
  output = tmp_path_factory.mktemp('full')
  collect(output, 'Carnival', (1.0,), 1000, num_processes=1, progress=False)
  return output


@pytest.fixture(scope='session')
def finished(atari_data_dir, tmp_path_factory, compilation_cache):
  """A run of three and four steps that nothing interrupted."""
  from jowa_jax.train.run import Run
  from tests.train import helpers

  workdir = tmp_path_factory.mktemp('finished') / 'run'
  config = helpers.tiny_config(atari_data_dir)
  steps = []
  with helpers.quick_compilation(compilation_cache):
    variables = Run(config, workdir).train(progress=False, on_step=steps.append)
  return types.SimpleNamespace(
    config=config,
    workdir=workdir,
    variables=helpers.flat(variables),
    steps=steps,
    records=helpers.read_metrics(workdir),
  )
