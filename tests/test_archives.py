"""Arrays and their meaning come back whole, or not at all."""

import numpy as np
import pytest

from jowa_jax import archives

CONTENTS = {'game': 'Pong', 'sizes': [1, 2]}


def _written(path) -> bytes:
  archives.write(path, CONTENTS, {'a': np.arange(300), 'b': np.zeros((2, 0))})
  return path.read_bytes()


@pytest.mark.parametrize('name', ['play.npz', 'play'])
def test_round_trip(tmp_path, name):
  data = _written(tmp_path / name)
  assert [path.name for path in tmp_path.iterdir()] == [name]
  contents, arrays = archives.parse(data)
  assert contents == CONTENTS
  assert arrays.keys() == {'a', 'b'}
  np.testing.assert_array_equal(arrays['a'], np.arange(300))
  assert arrays['b'].shape == (2, 0)


def test_pickles_are_not_read(tmp_path):
  np.savez(tmp_path / 'a.npz', a=np.array([{}], dtype=object))
  with pytest.raises(ValueError, match='allow_pickle'):
    archives.parse((tmp_path / 'a.npz').read_bytes())


def test_every_cut_is_an_error(tmp_path):
  data = _written(tmp_path / 'play.npz')
  for stop in range(0, len(data), 7):
    with pytest.raises(ValueError):
      archives.parse(data[:stop])


@pytest.mark.parametrize('contents', [b'[1]', b'{', None])
def test_contents_that_say_nothing(tmp_path, contents):
  arrays = {'a': np.arange(3)}
  if contents is not None:
    arrays['contents'] = np.frombuffer(contents, np.uint8)
  np.savez(tmp_path / 'a.npz', **arrays)
  with pytest.raises(ValueError):
    archives.parse((tmp_path / 'a.npz').read_bytes())
