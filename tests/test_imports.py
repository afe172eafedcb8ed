"""The shape of the house: what imports what, and how long functions are.

Packages import upwards only, and training needs no TensorFlow.
"""

import ast
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / 'jowa_jax'
# A package may import itself and what stands before it.
ORDER = (
  'files',
  'archives',
  'ownership',
  'processes',
  'versions',
  'stable_baselines',
  'stable_baselines_env',
  'weight_files',
  'games',
  'types',
  'published_sizes',
  'mesh_rules',
  'devices',
  'configuration',
  'models',
  'losses',
  'plan',
  'methods',
  'envs',
  'data',
  'checkpoint',
  'train',
  'agent',
  'eval',
  'collect',
  'report',
  'play',
  'bench',
  'recipes',
)
TENSORFLOW = ('tensorflow', 'tensorflow_datasets', 'rlds', 'reverb')
# Where only JAX and its companions are installed.
WITHOUT_TENSORFLOW = (
  'models',
  'losses',
  'plan',
  'methods',
  'checkpoint',
  'train',
)
MODULES = sorted(PACKAGE.rglob('*.py'))
PROGRAMS = sorted(
  path for name in ('launch', 'configs') for path in (ROOT / name).glob('*.py')
)
# Lines of a function's body, its docstring apart.
MOST_LINES = 60
# Sections and parameters of a method by name, and questions for its name.
_OF_METHODS = re.compile(
  r'PLANNERS|_model_config|tokenizer_config'
  r'|\b(?:BACKBONE|LORA|WORLD_HEADS|Q_HEADS|_FREE)\b'
  r"|['\"](?:backbone|lora|(?:world|q|policy)_heads)['\"]"
  r"|['\"](?:tokenizer_training|adaptation)['\"]"
  r"|(?:params|config)\[['\"](?:tokenizer|heads|returns|losses|imagination)"
  r"['\"]\]"
  r"|method['\"]\] [!=]="
)


def _name(path):
  parts = path.relative_to(ROOT).with_suffix('').parts
  return '.'.join(part for part in parts if part != '__init__')


def _imports(path):
  """Yields (line, full name) of all imports, those in functions included."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      for alias in node.names:
        yield node.lineno, alias.name
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{path}:{node.lineno}: a relative import'
      for alias in node.names:
        yield node.lineno, f'{node.module}.{alias.name}'


def _package(name):
  parts = name.split('.')
  return parts[1] if len(parts) > 1 else ''


def test_the_order_names_every_package():
  found = {_package(_name(path)) for path in MODULES} - {''}
  assert found <= set(ORDER), found - set(ORDER)
  assert set(WITHOUT_TENSORFLOW) <= found


@pytest.mark.parametrize('path', MODULES, ids=_name)
def test_imports_go_upwards_only(path):
  package = _package(_name(path))
  if not package:
    return  # `jowa_jax` itself may offer names of all packages.
  for line, name in _imports(path):
    top = name.split('.')[0]
    assert top not in ('configs', 'launch', 'tests'), f'{path}:{line}: {name}'
    if top == 'jowa_jax':
      allowed = ORDER[: ORDER.index(package) + 1]
      assert _package(name) in allowed, f'{path}:{line}: {package} <- {name}'


@pytest.mark.parametrize('path', MODULES, ids=_name)
def test_tensorflow_is_imported_in_data_and_collect_alone(path):
  # The benchmark of data compares with TensorFlow's own ways.
  if _package(_name(path)) in ('data', 'collect') or path.match(
    'bench/data.py'
  ):
    return
  for line, name in _imports(path):
    assert name.split('.')[0] not in TENSORFLOW, f'{path}:{line}: {name}'
    assert 'tf_libraries' not in name, f'{path}:{line}: {name}'


@pytest.mark.parametrize(
  'path',
  [*MODULES, *PROGRAMS],
  ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_no_method_is_known_but_among_methods(path):
  """What others need of a method, they ask of its capabilities and options."""
  if _package(_name(path)) in ('methods', 'models'):
    return
  if path.is_relative_to(ROOT / 'configs'):
    return
  if path.parent.name == 'checkpoint' and path.stem.startswith(
    ('released', 'torch_names')
  ):
    return
  found = _OF_METHODS.findall(path.read_text())
  assert not found, f'{path}: {found}'


def _long_functions(text, most):
  """(name, lines) of the functions whose bodies have more than `most` lines."""
  kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, kinds):
      first, documented = node.body[0], ast.get_docstring(node) is not None
      before = first.end_lineno if documented else first.lineno - 1
      if node.end_lineno - before > most:
        yield node.name, node.end_lineno - before


@pytest.mark.parametrize(
  'path',
  [*MODULES, *PROGRAMS],
  ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_no_function_is_long(path):
  found = list(_long_functions(path.read_text(), MOST_LINES))
  assert not found, f'{path}: split {found} so that each part can be named'


def test_the_lines_of_a_function_are_counted_without_its_docstring():
  text = """
def documented(
  x,
):
  '''One line.

  And more of them.
  '''
  # A comment.
  y = x

  return y

async def outer():
  def inner():
    pass
  return inner
"""
  found = dict(_long_functions(text, 0))
  # Comments and blank lines of a body count, after the docstring.
  assert found == {'documented': 4, 'outer': 3, 'inner': 1}
  assert dict(_long_functions(text, 3)) == {'documented': 4}


def test_training_imports_where_tensorflow_and_ale_are_missing():
  modules = [
    _name(path)
    for path in MODULES
    if _package(_name(path)) in WITHOUT_TENSORFLOW
  ]
  modules.append('jowa_jax.recipes.finetuning')
  assert len(modules) > 20
  code = f"""
import importlib, sys
for name in {(*TENSORFLOW, 'ale_py', 'gymnasium')!r}:
  sys.modules[name] = None  # importing it is an ImportError
for name in {modules!r}:
  importlib.import_module(name)
print('imported')
"""
  done = subprocess.run(
    [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True
  )
  assert done.stdout.strip() == 'imported', done.stderr[-3000:]


@pytest.mark.slow
def test_planning_is_measured_where_only_jax_is():
  """What jax, flax, optax, orbax and chex bring is all there is."""
  missing = (*TENSORFLOW, 'ale_py', 'gymnasium', 'ml_collections', 'mctx')
  missing += (
    'tqdm',
    'cv2',
    'matplotlib',
    'tensorboardX',
    'apache_beam',
    'h5py',
  )
  code = f"""
import sys
for name in {missing!r}:
  sys.modules[name] = None
sys.argv = ['benchmark', '--suite=plan', '--size=smoke', '--environments=1',
            '--width=1', '--horizon=0', '--seconds=0.01']
import runpy
runpy.run_module('launch.benchmark', run_name='__main__')
"""
  done = subprocess.run(
    [sys.executable, '-c', code],
    cwd=ROOT,
    env={**os.environ, 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'},
    capture_output=True,
    text=True,
  )
  assert 'decisions/s' in done.stdout, done.stderr[-3000:]
