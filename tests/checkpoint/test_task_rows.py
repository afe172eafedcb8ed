"""A game's rows start from another game's, fresh ones or its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import jowa
from jowa_jax import games
from jowa_jax.checkpoint.manager import CheckpointError, Checkpoints
from jowa_jax.checkpoint.task_rows import (
  origins,
  row_games,
  rows_by_game,
  task_tables,
)
from jowa_jax.checkpoint.warm_start import warm_start
from jowa_jax.methods.base import Variables
from jowa_jax.methods.factory import make_method
from tests.methods import small

TABLES = ('observation_task_embedding', 'action_task_embedding')
PATHS = [('backbone', name) for name in TABLES]
PONG, PHOENIX, ROBOTANK, BERZERK = map(
  games.task_id, ('Pong', 'Phoenix', 'Robotank', 'Berzerk')
)


def _backbone(offset):
  """Row i of the tables is i + offset, and i + offset + 100."""
  rows = np.arange(games.NUM_TASKS, dtype=np.float32)[:, None]
  tables = {
    name: jnp.asarray(np.repeat(rows + offset + 100 * i, 3, axis=1))
    for i, name in enumerate(TABLES)
  }
  return {**tables, 'position_embedding': jnp.full((4, 3), offset)}


def _shardings(tree):
  place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.tree.map(lambda _: place, tree)


def test_related_games():
  """The released program's; Pong, and a pretraining game, keep their own."""
  assert origins(('Robotank', 'Pong', 'MsPacman'), 'related') == {
    'Robotank': 'Phoenix',
    'MsPacman': 'Berzerk',
  }
  assert origins(('Assault',), 'related') == {}
  assert origins(('Robotank',), None) == origins(('Robotank',), '') == {}
  assert origins(('Robotank',), 'Pong') == {'Robotank': 'Pong'}
  assert origins(('Robotank',), 'Robotank') == {}
  assert origins(('Robotank',), 'new') == {'Robotank': None}


@pytest.mark.parametrize('source', ['phoenix', 'Phoenixx', 'None'])
def test_a_source_that_is_none(source):
  with pytest.raises(ValueError, match=f'task_row={source!r} is neither'):
    origins(('Robotank',), source)


@pytest.mark.slow
def test_tables_are_found_by_their_first_axis():
  assert task_tables(small.jowa()) == set(PATHS)
  config = jowa.get_config('smoke').to_dict()
  config['backbone']['task_embedding'] = False
  assert task_tables(make_method(config)) == set()


def test_the_games_of_rows_stand_in_the_order_of_all_games():
  run = ('Pong', 'Assault', 'Phoenix')
  assert row_games(3, run) == ('Assault', 'Phoenix', 'Pong')
  assert row_games(60, run) == games.GAMES
  assert row_games(60, games.GAMES[::-1]) == games.GAMES
  with pytest.raises(ValueError, match='2 rows.*60 games.*3 .Pong, Assault'):
    row_games(2, run)


THEIRS = ('Assault', 'Phoenix', 'Pong')
TABLE, FRESH = np.array([[1, 2], [3, 4], [5, 6]]), np.array([[7, 8], [9, 10]])


def test_rows_are_taken_by_name():
  def take(ours, starts):
    return np.asarray(rows_by_game(TABLE, THEIRS, FRESH, ours, starts)).tolist()

  assert take(('Assault', 'Pong'), {}) == [[1, 2], [5, 6]]
  # From a related game's, which is also one's own here; and a fresh one.
  starts = {'Robotank': 'Phoenix'}
  assert take(('Phoenix', 'Robotank'), starts) == [[3, 4], [3, 4]]
  assert take(('Pong', 'Robotank'), {'Robotank': None}) == [[5, 6], [9, 10]]
  # All rows are read before any is written.
  starts = {'Assault': 'Pong', 'Pong': 'Assault'}
  assert take(('Assault', 'Pong'), starts) == [[5, 6], [1, 2]]


def test_rows_that_are_not_there_are_named():
  def take(table, ours, starts):
    return rows_by_game(table, THEIRS, FRESH, ours, starts)

  with pytest.raises(
    ValueError, match='no row of Robotank.*Assault, Phoenix.*init_from.task_row'
  ):
    take(TABLE, ('Pong', 'Robotank'), {})
  with pytest.raises(ValueError, match='no row of Berzerk for Robotank'):
    take(TABLE, ('Pong', 'Robotank'), {'Robotank': 'Berzerk'})
  with pytest.raises(ValueError, match='2 rows, but 3 games'):
    take(TABLE[:2], ('Pong', 'Robotank'), {})
  with pytest.raises(ValueError, match=r'a row is \(1,\) there and \(2,\)'):
    take(TABLE[:, :1], ('Assault', 'Pong'), {})


def _variables(offset):
  params = {'backbone': _backbone(offset), 'tokenizer': jnp.ones(2)}
  return Variables(params=params, targets={}, extras={})


def _save(directory, variables, **config):
  source = Checkpoints(directory / 'checkpoints')
  source.save(1, variables, {'count': jnp.asarray(1)}, {'config': config})
  source.close()


def _warm(directory, fresh, **options):
  return warm_start(
    fresh, _shardings(fresh), checkpoints=str(directory), **options
  ).params


def test_warm_start_sets_rows_of_both_tables_and_nothing_else(tmp_path):
  _save(tmp_path, _variables(0))
  starts = {'Robotank': 'Phoenix', 'Pong': None, 'Phoenix': 'Berzerk'}
  found = _warm(tmp_path, _variables(1000), tables=PATHS, starts=starts)
  for i, name in enumerate(TABLES):
    expected = np.array(_backbone(0)[name])
    # Phoenix's row as it was, although it is itself replaced.
    expected[ROBOTANK] = PHOENIX + 100 * i
    expected[PONG] = PONG + 1000 + 100 * i
    expected[PHOENIX] = BERZERK + 100 * i
    np.testing.assert_array_equal(found['backbone'][name], expected)
  np.testing.assert_array_equal(found['backbone']['position_embedding'], 0)
  # Without another start, all is as it was there.
  found = _warm(tmp_path, _variables(1000), tables=PATHS)
  jax.tree.map(np.testing.assert_array_equal, found['backbone'], _backbone(0))


def test_heads_of_the_games_of_a_run(tmp_path):
  """A run of one game starts from one of three, whatever order names them."""

  def variables(rows):
    params = {
      'backbone': {'kernel': jnp.ones((2, 2))},
      'q_of_games': {'kernel': jnp.asarray(rows, jnp.float32)[:, None]},
    }
    heads = {'q_of_games': jax.tree.map(jnp.copy, params['q_of_games'])}
    return Variables(params=params, targets=heads, extras={})

  data = {'games': ['Pong', 'Assault', 'Phoenix']}
  _save(tmp_path, variables([1, 2, 3]), data=data)  # Assault, Phoenix, Pong
  fresh, tables = variables([9]), [('q_of_games', 'kernel')]

  def warm(game, source, **options):
    starts = origins((game,), source)
    found = warm_start(
      *(fresh, _shardings(fresh)),
      **dict(checkpoints=str(tmp_path), games=(game,), tables=tables),
      **dict(starts=starts, **options),
    )
    row = found.params['q_of_games']['kernel']
    np.testing.assert_array_equal(found.targets['q_of_games']['kernel'], row)
    return float(row[0, 0])

  assert warm('Pong', None) == 3
  assert warm('Robotank', 'related') == 2
  assert warm('Robotank', 'new') == 9
  assert warm('Robotank', 'Assault') == 1
  with pytest.raises(
    CheckpointError, match='q_of_games/kernel: no row of Robotank'
  ):
    warm('Robotank', None)
  with pytest.raises(CheckpointError, match='no parameter that is taken has'):
    warm('Robotank', 'new', params=('backbone',))
