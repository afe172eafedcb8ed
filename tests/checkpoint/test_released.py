"""Released files become a run's directory and come out as they went in."""

import json
import logging
import sys

import jax
import ml_dtypes
import numpy as np
import pytest

import jowa_jax
from configs import jowa, mtbc
from jowa_jax import weight_files
from jowa_jax.checkpoint import released, torch_names, warm_start
from jowa_jax.checkpoint.manager import Checkpoints
from jowa_jax.checkpoint.shapes import variable_shapes
from jowa_jax.methods.base import Variables
from jowa_jax.methods.factory import make_method
from jowa_jax.models import lpips
from tests.cases import quick
from tests.checkpoint import released_states as states
from tests.harmful import RunsCode
from tests.models.lpips_state import released_state as lpips_state

CONFIG = jowa.get_config().copy_and_resolve_references().to_dict()


@pytest.fixture(scope='module')
def small():
  return states.small_states()


def import_states(folder, tokenizer, model, output='run', **kwargs):
  """Writes both states and imports them; returns the run's directory."""
  weight_files.write_state(folder / 'tokenizer.safetensors', tokenizer)
  weight_files.write_state(folder / 'model.safetensors', model)
  released.import_released(
    folder / 'tokenizer.safetensors',
    folder / 'model.safetensors',
    folder / output,
    CONFIG,
    **{'num_heads': states.SMALL_HEADS, **kwargs},
  )
  return folder / output


def assert_same(found, expected):
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    assert found[name].dtype == value.dtype
    np.testing.assert_array_equal(found[name], value, err_msg=name)


def check_round_trip(folder, suffix, prefix, tokenizer, model, **kwargs):
  """Imports and exports; every tensor of the agent and of the files is."""
  if weight_files.needs_torch(f'x{suffix}'):
    pytest.importorskip('torch')
  sources = [folder / f'{name}{suffix}' for name in ('tokenizer', 'model')]
  for path, state in zip(sources, (tokenizer, model), strict=True):
    weight_files.write_state(path, states.wrapped(state, prefix))
  run = folder / 'run'
  released.import_released(*sources, run, CONFIG, **kwargs)
  agent = jowa_jax.load(run)
  assert agent.step == 0
  params = {
    **agent.variables.params,
    'target_q_heads': agent.variables.targets['q_heads'],
  }
  assert_same(torch_names.to_released(params), tokenizer | model)
  exported = [folder / f'{name}_back{suffix}' for name in ('t', 'm')]
  released.export_released(agent.variables, agent.config, *exported)
  for path, state in zip(exported, (tokenizer, model), strict=True):
    assert_same(weight_files.read_state(path), state)
  return run


@pytest.mark.parametrize(
  ('suffix', 'prefix'),
  quick(
    [
      ('.npz', ''),
      ('.pt', ''),
      ('.safetensors', 'module.'),
      ('.safetensors', '_orig_mod.'),
      ('.safetensors', '_orig_mod.module.'),
      *(('.pt', prefix) for prefix in states.PREFIXES),
    ],
    ('.safetensors', '_orig_mod.module.'),
  ),
)
def test_round_trip(tmp_path, small, suffix, prefix):
  run = check_round_trip(
    tmp_path, suffix, prefix, *small, num_heads=states.SMALL_HEADS
  )
  files = {path.name for path in run.iterdir()}
  assert files == {'checkpoints', 'config.json'}
  checkpoints = Checkpoints(run / 'checkpoints', create=False)
  meta = checkpoints.meta()
  checkpoints.close()
  assert meta['config'] == json.loads((run / 'config.json').read_text())
  assert meta['data'] == {'imported': [f'tokenizer{suffix}', f'model{suffix}']}
  assert (meta['step'], meta['stage']) == (0, 'imported')
  # As of a run whose config gave these sizes: complete, and resolved.
  assert meta['config'].keys() == CONFIG.keys()
  make_method(meta['config'], to_train=True)


@pytest.mark.slow
@pytest.mark.parametrize('prefix', states.PREFIXES)
def test_round_trip_of_a_published_size(tmp_path, prefix):
  suffix = '.npz' if prefix == 'module.' else '.safetensors'
  run = check_round_trip(
    tmp_path,
    suffix,
    prefix,
    states.random_state(states.tokenizer_shapes(), 1),
    states.random_state(states.model_shapes(**states.PUBLISHED['40m']), 2),
  )
  saved = json.loads((run / 'config.json').read_text())
  config = jowa.get_config('40m').copy_and_resolve_references().to_dict()
  assert saved == json.loads(json.dumps(config))


@pytest.mark.slow
def test_half_precision_becomes_float32(tmp_path, small, caplog):
  tokenizer, model = small
  tokenizer = {k: v.astype(np.float16) for k, v in tokenizer.items()}
  model = {k: v.astype(ml_dtypes.bfloat16) for k, v in model.items()}
  with caplog.at_level(logging.INFO):
    run = import_states(tmp_path, tokenizer, model)
  for kind in ('float16', 'bfloat16'):
    assert f'are {kind}; converted to float32' in caplog.text
  params = jowa_jax.load(run).variables.params
  assert all(x.dtype == np.float32 for x in jax.tree.leaves(params))
  found = torch_names.to_released({'tokenizer': params['tokenizer']})
  for name, value in tokenizer.items():
    np.testing.assert_array_equal(found[name], value.astype(np.float32))


@pytest.mark.slow
def test_a_run_starts_from_it(tmp_path, small):
  run = import_states(tmp_path, *small)
  config = json.loads((run / 'config.json').read_text())
  shapes = variable_shapes(make_method(config))
  fresh = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  found = warm_start.warm_start(
    fresh,
    jax.tree.map(lambda _: device, shapes),
    checkpoints=str(run / 'checkpoints'),
    params=('tokenizer', 'backbone', 'q_heads'),
  )
  expected = small[1]
  np.testing.assert_array_equal(
    found.params['backbone']['position_embedding'], expected['pos_emb.weight']
  )
  for tree in (found.params, found.targets):
    np.testing.assert_array_equal(
      tree['q_heads']['dense_2_bias'], expected['head_q.head_module.params.9']
    )


def assert_refused(folder, tokenizer, model, error=ValueError, **kwargs):
  """Returns the message of an import that writes nothing."""
  with pytest.raises(error) as raised:
    import_states(folder, tokenizer, model, 'refused', **kwargs)
  left = {path.name for path in folder.iterdir()}
  assert left == {'tokenizer.safetensors', 'model.safetensors'}
  return str(raised.value)


def test_all_tensors_that_do_not_fit_are_listed(tmp_path, small):
  tokenizer, model = map(dict, small)
  del tokenizer['encoder.conv_in.bias'], model['pos_emb.weight']
  tokenizer['quantizer.ema'] = np.zeros(3, np.float32)
  model['head_policy.weight'] = np.zeros((18, 16), np.float32)
  tokenizer['encoder.norm_out.bias'] = np.zeros((8, 1), np.float32)
  model['transformer.blocks.1.mlp.0.weight'] = np.zeros((16, 64), np.float32)
  model['transformer.ln_f.bias'] = np.full(16, np.nan, np.float32)
  model['transformer.ln_f.weight'] = np.zeros(16, np.int32)
  lines = {
    'tokenizer.safetensors': [
      'missing encoder.conv_in.bias',
      'unexpected quantizer.ema',
      'encoder.norm_out.bias has shape (8, 1), expected (8,)',
    ],
    'model.safetensors': [
      'missing pos_emb.weight',
      'unexpected head_policy.weight',
      'transformer.blocks.1.mlp.0.weight has shape (16, 64), expected (64, 16)',
      'transformer.ln_f.bias has values that are not finite',
      'transformer.ln_f.weight is of type int32, expected floats',
    ],
  }
  message = assert_refused(tmp_path, tokenizer, model)
  assert message.splitlines()[0] == '8 tensors do not fit:'
  assert {line.strip() for line in message.splitlines()[1:]} == {
    f'{tmp_path / name}: {line}'
    for name, inside in lines.items()
    for line in inside
  }


def test_whole_parts_that_are_missing_are_listed(tmp_path, small):
  """Before heads of attention are asked for."""
  model = {k: v for k, v in small[1].items() if not k.startswith('head_q')}
  message = assert_refused(tmp_path, small[0], model, num_heads=None)
  assert message.startswith('20 tensors do not fit')
  assert 'missing head_q_target.head_module.params.9' in message


def test_heads_of_attention_are_asked_for(tmp_path, small):
  message = assert_refused(tmp_path, *small, num_heads=None)
  assert 'give --num_heads' in message


def test_files_in_each_others_place_are_named(tmp_path, small):
  tokenizer, model = small
  message = assert_refused(tmp_path, model, tokenizer)
  assert 'tokenizer.safetensors: is the file of the model' in message
  assert '--model' in message
  message = assert_refused(tmp_path, tokenizer, tokenizer)
  assert 'model.safetensors: is the file of the tokenizer' in message


def test_another_architecture_is_named(tmp_path, small):
  resnet = {'layer1.0.conv1.weight': np.zeros((64, 64, 3, 3), np.float32)}
  message = assert_refused(tmp_path, small[0], resnet)
  assert 'model.safetensors: holds no released model' in message
  assert 'layer1.0.conv1.weight' in message and 'transformer.' in message


def test_vocabularies_that_disagree_are_named(tmp_path, small):
  other = states.model_shapes(**{**states.SMALL_MODEL, 'vocab': 48})
  message = assert_refused(tmp_path, small[0], states.random_state(other))
  assert '32 tokens' in message and 'the model 48' in message


def test_a_tensor_under_two_names_is_refused(tmp_path, small):
  tokenizer, model = map(dict, small)
  model['module.pos_emb.weight'] = model['pos_emb.weight']
  message = assert_refused(tmp_path, tokenizer, model)
  assert 'twice: module.pos_emb.weight, pos_emb.weight' in message


@pytest.mark.parametrize('suffix', ['.npz', '.safetensors', '.pt'])
def test_a_truncated_file_is_refused(tmp_path, small, suffix):
  if suffix == '.pt':
    pytest.importorskip('torch')
  path = tmp_path / f'model{suffix}'
  weight_files.write_state(tmp_path / 'tokenizer.npz', small[0])
  weight_files.write_state(path, small[1])
  path.write_bytes(path.read_bytes()[:-1000])
  with pytest.raises(ValueError, match=f'model{suffix}: not a readable'):
    released.import_released(
      tmp_path / 'tokenizer.npz', path, tmp_path / 'run', CONFIG, 2
    )
  assert not (tmp_path / 'run').exists()


def test_a_file_that_would_run_code_is_refused(tmp_path, launch, small):
  torch = pytest.importorskip('torch')
  marker = tmp_path / 'marker'
  weight_files.write_state(tmp_path / 'tokenizer.npz', small[0])
  state = {k: torch.tensor(v) for k, v in small[1].items()}
  torch.save(state | {'x': RunsCode(marker)}, tmp_path / 'model.pt')
  done = launch(
    'import_checkpoint',
    f'--tokenizer={tmp_path}/tokenizer.npz',
    f'--model={tmp_path}/model.pt',
    f'--output={tmp_path}/run',
    '--num_heads=2',
  )
  assert done.returncode == 2 and 'Traceback' not in done.stderr
  assert 'model.pt: holds' in done.stderr and 'run code' in done.stderr
  assert {p.name for p in tmp_path.iterdir()} == {'tokenizer.npz', 'model.pt'}


@pytest.mark.slow
def test_an_output_that_is_there_is_refused(tmp_path, small):
  run = import_states(tmp_path, *small)
  before = sorted(run.rglob('*'))
  with pytest.raises(FileExistsError, match='run: is there already.*remove it'):
    import_states(tmp_path, *small)
  assert sorted(run.rglob('*')) == before


@pytest.mark.slow
def test_an_import_that_fails_late_leaves_nothing(tmp_path, small, monkeypatch):
  def full(*args, **kwargs):
    raise OSError('No space left on device')

  monkeypatch.setattr(Checkpoints, 'wait', full)
  message = assert_refused(tmp_path, *small, error=OSError)
  assert 'No space left' in message


@pytest.mark.slow
def test_perceptual_weights_are_taken_out(tmp_path, small):
  shapes = jax.eval_shape(lpips.init_params, jax.random.key(0))
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda x: rng.standard_normal(x.shape, np.float32), shapes
  )
  tokenizer = {
    **small[0],
    **{f'lpips.{name}': value for name, value in lpips_state(params).items()},
  }
  run = import_states(tmp_path, states.wrapped(tokenizer, 'module.'), small[1])
  found = lpips.load_params(run / 'lpips.npz')
  jax.tree.map(np.testing.assert_array_equal, found, params)
  for path in (run / 'lpips.npz', tmp_path / 'tokenizer.safetensors'):
    path.unlink()  # 59 MB


@pytest.mark.slow
def test_perceptual_weights_of_another_kind_are_left(tmp_path, small, caplog):
  tokenizer = small[0] | {'lpips.net.slice1.0.weight': np.zeros(3, np.float32)}
  run = import_states(tmp_path, tokenizer, small[1])
  assert 'No LPIPS weights were taken' in caplog.text
  assert 'missing lin0.model.1.weight' in caplog.text
  assert not (run / 'lpips.npz').exists()


def variables(config) -> Variables:
  shapes = variable_shapes(make_method(config))
  return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)


def test_only_jowa_is_exported(tmp_path):
  config = mtbc.get_config('smoke').copy_and_resolve_references().to_dict()
  with pytest.raises(ValueError, match="method='mtbc'.*JOWA alone"):
    released.export_released(
      variables(config), config, tmp_path / 't.npz', tmp_path / 'm.npz'
    )
  assert not list(tmp_path.iterdir())


def test_a_tokenizer_of_patches_is_not_exported(tmp_path):
  config = jowa.get_config('smoke').copy_and_resolve_references().to_dict()
  config['tokenizer']['encoder_field'] = 'patch'
  with pytest.raises(ValueError, match="encoder_field='patch'.*'frame' alone"):
    released.export_released(
      variables(config), config, tmp_path / 't.npz', tmp_path / 'm.npz'
    )
  assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_cannot_be_exported_writes_nothing(tmp_path, monkeypatch):
  config = jowa.get_config('smoke').copy_and_resolve_references().to_dict()
  (tmp_path / 'old.npz').write_bytes(b'kept')
  monkeypatch.setitem(sys.modules, 'torch', None)
  cases = (
    ('old.npz', 'm.npz', 'old.npz: is there already'),
    ('t.npz', 'm.bin', "m.bin.*not in '.bin'"),
    ('t.npz', 't.npz', 'a file each'),
    ('t.npz', 'm.pt', 'm.pt.*pip install torch'),
  )
  for tokenizer, model, message in cases:
    with pytest.raises((ValueError, OSError), match=message):
      released.export_released(
        variables(config), config, tmp_path / tokenizer, tmp_path / model
      )
  assert [path.name for path in tmp_path.iterdir()] == ['old.npz']
  assert (tmp_path / 'old.npz').read_bytes() == b'kept'
