"""A game's embedding starts from another game's, a fresh one or its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.checkpoint.manager import CheckpointError, Checkpoints
from jowa_jax.checkpoint.task_rows import set_task_rows, task_rows
from jowa_jax.checkpoint.warm_start import warm_start
from jowa_jax.methods.base import Variables

TABLES = ('observation_task_embedding', 'action_task_embedding')
PONG, PHOENIX, ROBOTANK, BERZERK, MSPACMAN = map(
  games.task_id, ('Pong', 'Phoenix', 'Robotank', 'Berzerk', 'MsPacman')
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
  """Facts, section 1; Pong, and a pretraining game, keep their own row."""
  assert task_rows(('Robotank', 'Pong', 'MsPacman'), 'related') == {
    ROBOTANK: PHOENIX,
    MSPACMAN: BERZERK,
  }
  assert task_rows(('Assault',), 'related') == {}
  assert task_rows(('Robotank',), None) == task_rows(('Robotank',), '') == {}
  assert task_rows(('Robotank',), 'Pong') == {ROBOTANK: PONG}
  assert task_rows(('Robotank',), 'Robotank') == {}
  assert task_rows(('Robotank',), 'new') == {ROBOTANK: None}


@pytest.mark.parametrize('source', ['phoenix', 'Phoenixx', 'None'])
def test_a_source_that_is_none(source):
  with pytest.raises(ValueError, match=f'task_row={source!r} is neither'):
    task_rows(('Robotank',), source)


def test_rows_of_both_tables_are_set_and_nothing_else():
  old, fresh = _backbone(0), _backbone(1000)
  rows = {ROBOTANK: PHOENIX, PONG: None, PHOENIX: BERZERK}
  new = set_task_rows(old, fresh, rows, _shardings(old))
  for i, name in enumerate(TABLES):
    expected = np.array(old[name])
    # Phoenix's row as it was, although it is itself replaced.
    expected[ROBOTANK] = PHOENIX + 100 * i
    expected[PONG] = PONG + 1000 + 100 * i
    expected[PHOENIX] = BERZERK + 100 * i
    np.testing.assert_array_equal(new[name], expected)
  assert new['position_embedding'] is old['position_embedding']


def test_warm_start_sets_rows(tmp_path):
  def variables(offset):
    params = {'backbone': _backbone(offset), 'tokenizer': jnp.ones(2)}
    return Variables(params=params, targets={}, extras={})

  source = Checkpoints(tmp_path / 'checkpoints')
  source.save(1, variables(0), {'count': jnp.asarray(1)}, {})
  source.close()
  fresh = variables(1000)

  def warm(**options):
    return warm_start(
      fresh, _shardings(fresh), checkpoints=str(tmp_path), **options
    ).params['backbone']

  table = warm(rows={ROBOTANK: PHOENIX, PONG: None})[TABLES[1]]
  np.testing.assert_array_equal(table[ROBOTANK], [PHOENIX + 100] * 3)
  np.testing.assert_array_equal(table[PONG], [PONG + 1100] * 3)
  np.testing.assert_array_equal(table[PHOENIX], [PHOENIX + 100] * 3)
  with pytest.raises(CheckpointError, match='no backbone is taken'):
    warm(rows={ROBOTANK: PHOENIX}, params=('tokenizer',))


def test_a_model_that_is_not_told_the_game_has_no_rows():
  backbone = {'position_embedding': jnp.ones(2)}
  with pytest.raises(ValueError, match='backbone.task_embedding=False'):
    set_task_rows(backbone, backbone, {PONG: None}, _shardings(backbone))
