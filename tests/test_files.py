"""Paths as users type them, and what lies in folders of odd names."""

import pathlib

import pytest
from etils import epath

from jowa_jax import files


@pytest.mark.parametrize(
  'typed, path',
  [
    ('', ''),
    ('~/runs/', '/home/me/runs'),
    ('runs//a/', 'runs/a'),
    ('lr=[1e-4]', 'lr=[1e-4]'),
    ('gs://bucket/~x/', 'gs://bucket/~x'),
    ('pretrained', 'pretrained'),
  ],
)
def test_typed_path(typed, path, monkeypatch):
  monkeypatch.setenv('HOME', '/home/me')
  assert files.typed_path(typed) == path


@pytest.mark.parametrize('kind', [pathlib.Path, epath.Path])
def test_a_pattern_is_of_names_alone(kind, tmp_path):
  folder = tmp_path / 'lr=[1e-4]*'
  assert files.matching(kind(folder), '*') == []
  folder.mkdir()
  for name in ('b.json', 'a.json', 'c.txt'):
    (folder / name).touch()
  found = files.matching(kind(folder), '*.json')
  assert found == [kind(folder) / 'a.json', kind(folder) / 'b.json']
