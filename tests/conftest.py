"""Quick compilation, and what is made once for all tests and all workers."""

import fcntl
import gc
import importlib.util
import mmap
import os
import pathlib
import pickle
import shutil
import types

import pytest

from jowa_jax.collect.collect import collect

# Where compiling takes most of the time, and optimising most of that.
QUICKLY_COMPILED = (
  'bench',
  'checkpoint',
  'envs',
  'eval',
  'launch',
  'losses',
  'methods',
  'models',
  'parity',
  'plan',
  'play',
  'tests',
  'train',
)


QUICK_FLAGS = {
  # XLA's newer emitters take more than half of the time of compiling.
  'xla_cpu_use_fusion_emitters': 'false',
  # To cut a program for many threads costs a fifth more than one piece.
  'xla_cpu_parallel_codegen_split_count': '1',
}


def _known_to_xla(flags: list[str]) -> list[str]:
  """Those that it knows: any other ends the process."""
  (package,) = importlib.util.find_spec('jaxlib').submodule_search_locations
  for path in pathlib.Path(package).glob('libjax_common*'):
    with open(path, 'rb') as file:
      with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as library:
        return [f for f in flags if library.find(f.encode()) >= 0]
  return []


def pytest_configure():
  """Sets flags before JAX looks for devices, for the scripts of tests, too."""
  given = os.environ.get('XLA_FLAGS', '')
  flags = _known_to_xla([flag for flag in QUICK_FLAGS if flag not in given])
  added = [f'--{flag}={QUICK_FLAGS[flag]}' for flag in flags]
  os.environ['XLA_FLAGS'] = ' '.join([given, *added])
  # Tracing makes many small objects, and few of them are garbage.
  gc.set_threshold(20_000, 10, 10)


# The longest files, which begin first: at the end, no worker is left alone with
# one of them.
LONGEST = (
  'test_planning.py',
  'test_ficc.py',
  'test_world_action.py',
  'test_scaled_ql.py',
)


def pytest_collection_modifyitems(items):
  items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope='session')
def session_dir(tmp_path_factory) -> pathlib.Path:
  """The session's temporary directory, the same one in all of its workers."""
  base = tmp_path_factory.getbasetemp()
  return base.parent if 'PYTEST_XDIST_WORKER' in os.environ else base


@pytest.fixture(scope='session')
def once(session_dir):
  """A function that fills a directory of the session, once for all workers.

  It takes the directory's name and a function of its path, and returns the
  path. Nobody may change what is there.
  """

  def make(name, fill):
    path, done = session_dir / name, session_dir / f'{name}.done'
    with open(session_dir / f'{name}.lock', 'w') as lock:
      fcntl.flock(lock, fcntl.LOCK_EX)
      if not done.exists():
        # What a worker left that failed.
        shutil.rmtree(path, ignore_errors=True)
        fill(path)
        done.touch()
    return path

  return make


@pytest.fixture(scope='session', autouse=True)
def compilation_cache(session_dir):
  """The directory where programs are kept, each compiled once for all workers.

  The scripts that tests start find it in their environment. It is a directory
  of the session, or the one that JAX_COMPILATION_CACHE_DIR names.
  """
  default = str(session_dir / 'jax_compilation')
  path = os.environ.get('JAX_COMPILATION_CACHE_DIR', default)
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('JAX_COMPILATION_CACHE_DIR', path)
    patch.setenv('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
    patch.setenv('JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES', '-1')
    yield path


@pytest.fixture(scope='session')
def launch(compilation_cache):
  """Runs a script of `launch/` with flags: see `server.Server.launch`."""
  from tests.launch.server import Server

  with Server() as server:
    yield server.launch


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
def atari_data_dir(once) -> pathlib.Path:
  """120 random and 120 mostly searched decisions of Assault and Carnival."""
  return once(
    'atari',
    lambda path: collect(
      path, 'Assault,Carnival', (1.0, 0.2), 120, num_processes=2, progress=False
    ),
  )


@pytest.fixture(scope='session')
def full_episodes_dir(once) -> pathlib.Path:
  """1,000 random decisions of Carnival: full episodes, and a cut one."""
  return once(
    'full',
    lambda path: collect(
      path, 'Carnival', (1.0,), 1000, num_processes=1, progress=False
    ),
  )


@pytest.fixture(scope='session')
def trained(once):
  """A run of Assault and Carnival, trained before: `data/checkpoints`."""
  import jowa_jax
  from tests.train import helpers

  path = once('trained', lambda path: helpers.older_run('jowa', path))
  agent = jowa_jax.load(path / 'jowa')
  return types.SimpleNamespace(
    config=agent.config,
    workdir=path / 'jowa',
    variables=helpers.flat(agent.variables),
  )


@pytest.fixture(scope='session')
def finished(atari_data_dir, once, compilation_cache):
  """A run of three and four steps that nothing interrupted."""
  from jowa_jax.train.run import Run
  from tests.train import helpers

  config = helpers.tiny_config(atari_data_dir)

  def train(path):
    path.mkdir()
    steps = []
    with helpers.quick_compilation(compilation_cache):
      variables = Run(config, path / 'run').train(
        progress=False, on_step=steps.append
      )
    found = pickle.dumps((helpers.flat(variables), steps))
    (path / 'found').write_bytes(found)

  path = once('finished', train)
  variables, steps = pickle.loads((path / 'found').read_bytes())
  return types.SimpleNamespace(
    config=config,
    workdir=path / 'run',
    variables=variables,
    steps=steps,
    records=helpers.read_metrics(path / 'run'),
  )
