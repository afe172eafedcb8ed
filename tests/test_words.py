"""Docstrings and flags say what a reader can use, in sentences of their own."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
MODULES = sorted(
  path
  for folder in ('jowa_jax', 'launch', 'configs')
  for path in (ROOT / folder).rglob('*.py')
)
# What stands for an argument's meaning and has none without its neighbours.
FRAGMENTS = re.compile(
  r'(which|theirs|how|likewise|of it|of them|ours|its|whose|the same|how many'
  r'|where|says (when|how)|as (said|above)|untold)[.,]',
  re.IGNORECASE,
)
_ENTRY = re.compile(r'^ +\*{0,2}[a-z_]+: (.*)$', re.MULTILINE)


def _docstrings(tree):
  kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
  for node in ast.walk(tree):
    if isinstance(node, kinds) and (text := ast.get_docstring(node)):
      yield node, text


def _flags(tree):
  """The last text of every definition of a flag."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
      if node.func.attr.startswith('DEFINE_'):
        texts = [
          arg.value
          for arg in node.args
          if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
        ]
        if texts:
          yield node.lineno, texts[-1]


@pytest.mark.parametrize(
  'path', MODULES, ids=lambda path: str(path.relative_to(ROOT))
)
def test_words(path):
  tree = ast.parse(path.read_text())
  faults = []
  for node, text in _docstrings(tree):
    where = getattr(node, 'name', 'module')
    first = text.splitlines()[0]
    if first.startswith('Returns'):
      faults.append(f'{where} does not begin with the thing: {first}')
    for entry in _ENTRY.findall(text):
      if FRAGMENTS.fullmatch(entry):
        faults.append(f'{where} has an argument without a meaning: {entry}')
  for line, text in _flags(tree):
    if FRAGMENTS.match(text) and len(text.split()) < 4:
      faults.append(f'line {line} has a flag without a meaning: {text}')
  assert not faults, '\n'.join(faults)
