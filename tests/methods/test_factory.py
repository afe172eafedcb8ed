"""Methods from configs, and what is said of configs that do not fit."""

import json

import pytest

from configs import jowa, mtbc
from jowa_jax.configuration import ConfigError
from jowa_jax.data.feed import statistics
from jowa_jax.methods.factory import make_method


def config(module=jowa):
  """A smoke config as a run stores it."""
  return json.loads(module.get_config('smoke').to_json_best_effort())


@pytest.mark.parametrize(
  ('module', 'parts'),
  [
    (jowa, {'tokenizer', 'world', 'world_action'}),
    (mtbc, {'tokenizer', 'policy'}),
  ],
)
def test_methods_by_name(module, parts):
  for values in (config(module), module.get_config('smoke')):
    method = make_method(values)
    assert set(method.objectives) == parts
    assert method.spec.length == 8
    # Nothing is weighted by motion, and so nothing is read of the data.
    assert method.spec.statistics == ()
    section = {**values['tokenizer_training'], 'motion_weight': 1.0}
    weighs = make_method({**values, 'tokenizer_training': section})
    assert weighs.spec.statistics == ('median_frames',)
    (median,) = statistics.shapes(weighs.spec.statistics).values()
    assert median.shape == (60, 84, 84)
    assert method.spec.fields == frozenset()


@pytest.mark.parametrize(
  ('path', 'value', 'message'),
  [
    (('method',), 'jova', "method='jova'.*jowa.*mtbc"),
    (('backbone', 'widht'), 3, 'Unknown field backbone.widht.*width'),
    (('losses', 'penalty'), 3, 'losses.penalty must be str, got 3'),
    (('losses', 'penalty'), 'no', "losses: .*penalty='no'"),
    (('losses', 'rem'), 1, 'losses.rem must be bool, got 1'),
    (('backbone', 'width'), '64', "backbone.width must be int, got '64'"),
    (('backbone', 'width'), 33, 'backbone: .*width=33.*num_heads'),
    (('backbone', 'width'), True, 'backbone.width must be int, got True'),
    (('heads', 'dropout'), None, 'heads.dropout must be float, got None'),
    (('returns', 'num_atoms'), 51.0, 'returns.num_atoms must be int'),
    (('returns', 'v_max'), -20, 'returns: .*v_max=-20'),
    (('tokenizer', 'downsample'), 7, 'tokenizer.downsample must be'),
    (('tokenizer', 'downsample'), [7, 'x'], 'tokenizer.downsample must be'),
    (('tokenizer', 'vocab_size'), 99, 'tokenizer.vocab_size=99.*backbone'),
    (('tokenizer', 'downsample'), [7, 3], 'tokenizer.tokens_per_frame=16'),
  ],
)
def test_fields_that_do_not_fit_are_named(path, value, message):
  values = config()
  section = values
  for name in path[:-1]:
    section = section[name]
  section[path[-1]] = value
  # Sizes that disagree are a ValueError of the method itself.
  with pytest.raises(ValueError, match=message) as error:
    make_method(values)
  disagree = 'and backbone.' in str(error.value)
  assert disagree or isinstance(error.value, ConfigError)


@pytest.mark.parametrize(
  'name',
  ['tokenizer', 'backbone', 'heads', 'returns', 'losses', 'tokenizer_training'],
)
def test_missing_section(name):
  values = config()
  del values[name]
  with pytest.raises(ConfigError, match=f'Missing field {name}'):
    make_method(values)


def test_missing_method_and_field():
  values = config()
  del values['backbone']['num_layers']
  with pytest.raises(ConfigError, match='Missing field backbone.num_layers'):
    make_method(values)
  del values['method']
  with pytest.raises(ConfigError, match='method=None'):
    make_method(values)


def test_missing_perceptual_weights_name_the_file(tmp_path):
  values = config()
  values['tokenizer_training']['perceptual_weights'] = str(tmp_path / 'x.npz')
  with pytest.raises(ConfigError, match='perceptual_weights.*x.npz'):
    make_method(values, to_train=True)
  # Acting does not need the file.
  assert make_method(values).objectives
