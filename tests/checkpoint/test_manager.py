"""Checkpoints: what is written comes back, and misfits are told apart."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax.checkpoint.manager import CheckpointError, Checkpoints, Keep
from jowa_jax.checkpoint.warm_start import warm_start
from jowa_jax.methods.base import Variables


def _variables(width=3, fill=0.0, names=('tokenizer', 'backbone')):
  return Variables(
    params={
      name: {
        'layer': {'kernel': jnp.full((2, width), fill + i)},
        'bias': jnp.full((width,), fill - i),
      }
      for i, name in enumerate(names)
    },
    targets={},
    extras={'usage': jnp.arange(4)},
  )


def _shardings(variables):
  place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.tree.map(lambda _: place, variables)


def _restore(checkpoints, template, **kwargs):
  return checkpoints.restore_variables(template, _shardings(template), **kwargs)


def _opt_state(value):
  return {'world': (jnp.full((2,), value), {'count': jnp.asarray(7)})}


@pytest.fixture
def directory(tmp_path):
  """Checkpoints of steps 2, 4 and 6, the variables filled with the step."""
  with_all = Checkpoints(tmp_path / 'run' / 'checkpoints')
  for step in (2, 4, 6):
    with_all.save(
      step, _variables(fill=step), _opt_state(step), {'step': step, 'a': [1]}
    )
  with_all.close()
  return tmp_path / 'run' / 'checkpoints'


@pytest.fixture
def checkpoints(directory):
  opened = Checkpoints(directory, create=False)
  yield opened
  opened.close()


def _assert_equal(ours, theirs):
  assert jax.tree.structure(ours) == jax.tree.structure(theirs)
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_round_trip(checkpoints):
  assert checkpoints.latest_step() == 6
  for step, expected in ((None, 6), (2, 2)):
    restored = _restore(checkpoints, _variables(), step=step)
    _assert_equal(restored, _variables(fill=expected))
    opt_state = checkpoints.restore_opt_state(
      _opt_state(0), _shardings(_opt_state(0)), step
    )
    _assert_equal(opt_state, _opt_state(expected))
    assert checkpoints.meta(step) == {'step': expected, 'a': [1]}


def test_restores_to_shapes_without_arrays(checkpoints):
  template = jax.eval_shape(lambda: _variables())
  restored = _restore(checkpoints, template)
  _assert_equal(restored, _variables(fill=6))


@pytest.mark.parametrize(
  ('keep', 'expected'),
  [
    (Keep(2), ['5', '6']),
    (Keep(1, every=2), ['2', '4', '6']),
    (Keep(1, best_metric='score', best_mode='max'), ['3', '6']),
    (Keep(1, best_metric='score'), ['1', '6']),
    (Keep(2, 4, 'score', 'max'), ['3', '4', '5', '6']),
  ],
)
def test_keeps_the_latest_the_best_and_every_other(tmp_path, keep, expected):
  scores = {1: -1.0, 2: 0.0, 3: 7.0, 4: 2.0, 5: 3.0}
  for steps in ((1, 2, 3), (4, 5, 6)):
    # What was best is known from disk when a run goes on.
    checkpoints = Checkpoints(tmp_path, keep)
    for step in steps:
      metrics = {'score': scores[step]} if step in scores else None
      checkpoints.save(step, _variables(), _opt_state(0), {}, metrics)
    checkpoints.wait()
    checkpoints.close()
  assert sorted(path.name for path in tmp_path.iterdir()) == expected


@pytest.mark.parametrize(
  'fields', [dict(latest=0), dict(latest=1, every=-1), dict(best_mode='best')]
)
def test_what_to_keep_is_checked(fields):
  with pytest.raises(ValueError, match=list(fields)[-1]):
    Keep(**{'latest': 1, **fields})


def test_a_checkpoint_is_set_aside(directory):
  checkpoints = Checkpoints(directory, create=False)
  moved = checkpoints.set_aside(6)
  assert moved == directory.parent / 'damaged_checkpoints' / '6'
  assert checkpoints.steps() == [4, 2] and (moved / 'variables').is_dir()
  # The step is saved and set aside again; nothing is lost.
  checkpoints.save(6, _variables(fill=8), _opt_state(8), {'step': 6})
  checkpoints.wait()
  assert checkpoints.set_aside(6).name == '6_1' and moved.is_dir()
  checkpoints.close()


def test_missing_directory_is_not_made(tmp_path):
  missing = tmp_path / 'nowhere'
  with pytest.raises(CheckpointError, match='nowhere does not exist: train'):
    Checkpoints(missing, create=False)
  assert not missing.exists()


def test_empty_directory(tmp_path):
  checkpoints = Checkpoints(tmp_path, create=False)
  assert checkpoints.latest_step() is None
  for read in (checkpoints.meta, lambda: _restore(checkpoints, _variables())):
    with pytest.raises(CheckpointError, match='No checkpoint in'):
      read()
  checkpoints.close()


def test_missing_step_names_those_there_are(checkpoints):
  with pytest.raises(CheckpointError, match=r'step 3 in .*\[2, 4, 6\]'):
    checkpoints.meta(3)
  with pytest.raises(CheckpointError, match=r'step 3 in .*\[2, 4, 6\]'):
    _restore(checkpoints, _variables(), step=3)


def test_another_models_shapes_are_listed(checkpoints):
  with pytest.raises(CheckpointError) as raised:
    _restore(checkpoints, _variables(width=5))
  message = str(raised.value)
  assert '4 arrays differ' in message
  assert (
    'params/backbone/layer/kernel: found (2, 3), expected (2, 5)' in message
  )
  assert 'params/tokenizer/bias: found (3,), expected (5,)' in message


def test_missing_and_surplus_arrays_are_listed(checkpoints):
  with pytest.raises(CheckpointError, match='heads/bias: found None, expected'):
    _restore(checkpoints, _variables(names=('tokenizer', 'backbone', 'heads')))
  with pytest.raises(CheckpointError, match=r'found \(3,\), expected None'):
    _restore(checkpoints, _variables(names=('tokenizer',)))
  partial = _restore(
    checkpoints, _variables(names=('tokenizer',)), partial=True
  )
  _assert_equal(partial, _variables(fill=6, names=('tokenizer',)))


def test_half_written_checkpoint_is_none(directory):
  """What a kill leaves: Orbax writes under another name, then renames."""
  shutil.copytree(directory / '6', directory / '8.orbax-checkpoint-tmp')
  shutil.copytree(directory / '6', directory / '9.orbax-checkpoint-tmp-17')
  checkpoints = Checkpoints(directory, create=False)
  assert checkpoints.latest_step() == 6
  assert checkpoints.meta()['step'] == 6
  # The step is saved again by the run that resumes.
  checkpoints.save(8, _variables(fill=8), _opt_state(8), {'step': 8})
  checkpoints.wait()
  assert checkpoints.latest_step() == 8
  _assert_equal(_restore(checkpoints, _variables()), _variables(fill=8))
  checkpoints.close()


def test_files_of_others_are_left_alone(directory):
  (directory / 'notes.txt').write_text('mine')
  checkpoints = Checkpoints(directory, keep=Keep(1), create=False)
  assert checkpoints.latest_step() == 6
  checkpoints.close()
  assert (directory / 'notes.txt').read_text() == 'mine'


def _warm(fresh, directory, params):
  return warm_start(
    fresh, _shardings(fresh), checkpoints=str(directory), params=params
  )


def test_warm_start_takes_the_named_parameters_alone(directory):
  fresh = _variables(fill=100, names=('tokenizer', 'policy_heads'))
  warm = _warm(fresh, directory, ('tokenizer',))
  _assert_equal(
    warm.params['tokenizer'], _variables(fill=6).params['tokenizer']
  )
  _assert_equal(warm.params['policy_heads'], fresh.params['policy_heads'])
  _assert_equal(warm.extras, fresh.extras)
  assert (directory / '6').is_dir()


def test_warm_start_takes_everything_by_default(directory):
  """From the run's directory, or that of its checkpoints; of any step."""
  for path, step in ((directory, 6), (directory.parent, 4)):
    fresh = _variables(fill=100)
    warm = warm_start(
      fresh, _shardings(fresh), checkpoints=str(path), step=step
    )
    _assert_equal(warm.params, _variables(fill=step).params)
    _assert_equal(warm.extras, fresh.extras)


def test_warm_start_from_another_size_lists_the_arrays(directory):
  with pytest.raises(CheckpointError) as raised:
    _warm(_variables(width=4), directory, ('backbone',))
  message = str(raised.value)
  assert '2 arrays differ' in message
  assert 'params/backbone/bias: found (3,), expected (4,)' in message
  assert 'tokenizer' not in message


@pytest.mark.parametrize('params', [('backbones',), ('backbone', 'x')])
def test_warm_start_of_unknown_names_is_refused(directory, params):
  with pytest.raises(CheckpointError, match='init_from.params.*backbone'):
    _warm(_variables(), directory, params)


def test_warm_start_of_what_the_checkpoint_lacks(directory):
  fresh = _variables(names=('tokenizer', 'policy_heads'))
  with pytest.raises(CheckpointError, match='policy_heads/bias: found None'):
    _warm(fresh, directory, ('policy_heads',))


def test_warm_start_from_nowhere(tmp_path):
  with pytest.raises(CheckpointError, match='does not exist'):
    _warm(_variables(), tmp_path / 'nowhere', ('tokenizer',))
  assert not (tmp_path / 'nowhere').exists()
