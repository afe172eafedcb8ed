"""MGDT's released pickle becomes a run's directory and comes out as it was."""

import pickle
from pathlib import Path

import jax
import numpy as np
import pytest

import jowa_jax
from configs import mgdt
from jowa_jax.checkpoint import released_mgdt
from jowa_jax.checkpoint.shapes import variable_shapes
from jowa_jax.methods.factory import make_method
from jowa_jax.weight_files import WeightFileError
from tests.harmful import RunsCode
from tests.models import random_params

ROOT = Path(__file__).parents[2]
CONFIG = released_mgdt.with_dtype(
  mgdt.get_config().copy_and_resolve_references().to_dict(), 'float32'
)


def haiku(**sizes):
  """The pickle of a small network, of arrays by module and name."""
  small = dict(num_layers=2, width=128, num_heads=2, return_bins=120, patch=42)
  config = {**CONFIG, 'backbone': {**CONFIG['backbone'], **small, **sizes}}
  shapes = variable_shapes(make_method(config)).params
  nested = {}
  arrays = released_mgdt.to_haiku(random_params.fill(shapes))
  for name, value in arrays.items():
    module, _, leaf = name.rpartition('/')
    nested.setdefault(module, {})[leaf] = value
  return nested


def write(path, content, protocol=4):
  path.write_bytes(pickle.dumps(content, protocol))
  return path


@pytest.mark.parametrize('protocol', [2, 4, 5])
def test_round_trip(tmp_path, protocol):
  nested = haiku()
  path = write(tmp_path / 'mgdt.pkl', (nested, {}), protocol)
  config = released_mgdt.import_mgdt(path, tmp_path / 'run', CONFIG)
  assert released_mgdt.describe(config) == (
    'MGDT: 2 layers of width 128 with 2 heads, 120 returns'
  )
  assert config['backbone']['patch'] == 42 and config['backbone']['steps'] == 4
  agent = jowa_jax.load(tmp_path / 'run')
  assert agent.step == 0
  released_mgdt.export_mgdt(
    agent.variables, agent.config, tmp_path / 'back.pkl'
  )
  params, state = pickle.loads((tmp_path / 'back.pkl').read_bytes())
  assert state == {} and params.keys() == nested.keys()
  for module, values in nested.items():
    assert params[module].keys() == values.keys()
    for name, value in values.items():
      np.testing.assert_array_equal(params[module][name], value, err_msg=module)


def test_names_are_those_of_the_notebook():
  nested = haiku(num_layers=1)
  root = 'decision_transformer'
  attention = f'{root}/~/sequence/h0_attn'
  expected = {
    root: {'image_pos_enc': (1, 1, 4, 128), 'positional_embeddings': (28, 128)},
    f'{root}/~_embed_inputs/image_emb': {'w': (42, 42, 1, 128), 'b': (128,)},
    f'{root}/~_embed_inputs/embed': {'embeddings': (120, 128)},
    f'{root}/~_embed_inputs/embed_1': {'embeddings': (18, 128)},
    f'{root}/~_embed_inputs/embed_2': {'embeddings': (4, 128)},
    **{
      f'{attention}/{name}': {'w': (128, 128), 'b': (128,)}
      for name in ('query', 'key', 'value', 'linear')
    },
    f'{root}/~/sequence/h0_mlp/linear': {'w': (128, 512), 'b': (512,)},
    f'{root}/~/sequence/h0_mlp/linear_1': {'w': (512, 128), 'b': (128,)},
    **{
      f'{root}/~/sequence/{name}': {'scale': (128,), 'offset': (128,)}
      for name in ('h0_ln_1', 'h0_ln_2', 'ln_f')
    },
    f'{root}/ret_linear': {'w': (128, 120), 'b': (120,)},
    f'{root}/act_linear': {'w': (128, 18), 'b': (18,)},
    f'{root}/rew_linear': {'w': (128, 4), 'b': (4,)},
  }
  found = jax.tree.map(np.shape, nested)
  assert found == expected


@pytest.mark.slow
def test_a_pickle_that_would_run_code_is_refused(launch, tmp_path):
  marker = tmp_path / 'marker'
  nested = haiku()
  nested['decision_transformer']['x'] = RunsCode(marker)
  path = write(tmp_path / 'mgdt.pkl', (nested, {}))
  done = launch(
    *('import_checkpoint', '--method=mgdt'),
    *(f'--model={path}', f'--output={tmp_path}/run'),
  )
  assert done.returncode == 2 and 'Traceback' not in done.stderr
  assert 'mgdt.pkl: holds' in done.stderr and 'run code' in done.stderr
  assert [p.name for p in tmp_path.iterdir()] == ['mgdt.pkl']


def drop(nested):
  del nested['decision_transformer/rew_linear']['b']


def misshape(nested):
  module = nested['decision_transformer/~/sequence/h1_mlp/linear']
  module['w'] = module['w'][:, :-1]


def diverge(nested):
  module = nested['decision_transformer/ret_linear']
  module['b'] = np.full_like(module['b'], np.nan)


def count(nested):
  module = nested['decision_transformer/act_linear']
  module['b'] = module['b'].astype(np.int32)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (drop, 'missing decision_transformer/rew_linear/b'),
    (misshape, r'h1_mlp/linear/w has shape \(128, 511\), expected \(128, 512'),
    (diverge, 'ret_linear/b has values that are not finite'),
    (count, 'act_linear/b is of type int32, expected floats'),
    (dict.clear, 'holds no released MGDT .it has nothing'),
    (
      lambda nested: nested.update(other={'w': np.zeros(2)}),
      'unexpected other/w',
    ),
  ],
)
def test_what_does_not_fit_is_named(tmp_path, change, message):
  nested = haiku()
  change(nested)
  path = write(tmp_path / 'mgdt.pkl', (nested, {}))
  with pytest.raises(ValueError, match=message):
    released_mgdt.import_mgdt(path, tmp_path / 'run', CONFIG)
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'nothing like it', 'no readable pickle'),
    (b'', 'no readable pickle'),
    (pickle.dumps([1, 2, 3]), 'holds a list'),
    (pickle.dumps({'a': {'w': 'text'}}), 'a/w is a str, expected an array'),
  ],
)
def test_other_files_are_refused(tmp_path, content, message):
  path = tmp_path / 'mgdt.pkl'
  path.write_bytes(content)
  with pytest.raises(WeightFileError, match=message):
    released_mgdt.read_haiku(path)


def test_a_file_that_is_not_there(tmp_path):
  with pytest.raises(FileNotFoundError, match='no such file'):
    released_mgdt.read_haiku(tmp_path / 'none.pkl')


def test_heads_divide_the_width(tmp_path):
  path = write(tmp_path / 'mgdt.pkl', haiku())
  with pytest.raises(ValueError, match='--num_heads=3 does not divide'):
    released_mgdt.import_mgdt(path, tmp_path / 'run', CONFIG, num_heads=3)
