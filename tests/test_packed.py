"""A trained agent in one file, read as a run's checkpoints are."""

import json

import jax
import numpy as np
import pytest

import jowa_jax
from jowa_jax import agent as agent_lib
from jowa_jax import weight_files
from jowa_jax.checkpoint import packed, warm_start
from jowa_jax.checkpoint.manager import (
  CheckpointError,
  DamagedCheckpointError,
)
from jowa_jax.eval.players import load_player
from jowa_jax.train.run import Run
from tests.train import helpers

SIZES = ('tokenizer', 'backbone')


@pytest.fixture(scope='module')
def file(trained, tmp_path_factory):
  path = tmp_path_factory.mktemp('packed') / 'agent.safetensors'
  assert agent_lib.pack(trained.workdir, path) == path.stat().st_size
  return path


def test_a_packed_agent_is_the_agent_in_float16(trained, file):
  first, second = jowa_jax.load(trained.workdir), jowa_jax.load(file)
  assert second.step == first.step == 5
  assert second.games == first.games == ('Assault', 'Carnival')
  assert second.data == first.data and second.data['games']['Assault']
  old, new = helpers.flat(first.variables), helpers.flat(second.variables)
  assert old.keys() == new.keys()
  for name, value in new.items():
    assert value.dtype == old[name].dtype, name
    wanted = old[name]
    if value.dtype == np.float32:
      wanted = wanted.astype(np.float16).astype(np.float32)
    if not name.startswith('.targets'):
      np.testing.assert_array_equal(value, wanted, err_msg=name)
  copies = helpers.flat(second.variables.targets['q_heads'])
  for name, value in helpers.flat(second.variables.params['q_heads']).items():
    np.testing.assert_array_equal(copies[name], value)


def test_it_packs_to_the_same_again(file, tmp_path):
  again = tmp_path / 'again.safetensors'
  agent_lib.pack(file, again)
  assert again.read_bytes() == file.read_bytes()


@pytest.mark.slow
def test_it_says_nothing_of_the_machine_it_is_from(finished, tmp_path):
  file = tmp_path / 'agent.safetensors'
  agent_lib.pack(finished.workdir, file)
  notes = weight_files.read_metadata(file)
  assert str(finished.config['data']['directory']) not in json.dumps(notes)
  assert jowa_jax.load(file).config['data']['directory'] == ''


@pytest.mark.slow
@pytest.mark.parametrize('options', [{}, dict(planner='beam', horizon=1)])
def test_decisions_are_the_same(trained, file, options):
  def decisions(path):
    agent, rng = jowa_jax.load(path), np.random.default_rng(0)
    agent.begin(['Assault', 'Carnival'], epsilon=0.0, **options)
    return [
      agent.act(rng.integers(0, 256, (2, 84, 84)).astype(np.uint8)).tolist()
      for _ in range(4)
    ]

  assert decisions(file) == decisions(trained.workdir)


def test_it_plays_as_any_other(file):
  player = load_player('packed', str(file))
  assert player.source['checkpoint'] == str(file)
  assert player.source['checkpoint_step'] == 5


@pytest.mark.slow
def test_a_run_begins_from_it(trained, file, atari_data_dir, tmp_path):
  config = helpers.tiny_config(
    atari_data_dir,
    init_from__checkpoints=str(file),
    init_from__params=('tokenizer', 'backbone'),
  )
  config.update({part: trained.config[part] for part in SIZES})
  config['stages']['stage1']['steps'] = 0
  config['stages']['stage2']['steps'] = 1
  variables = Run(config, tmp_path / 'run').train(progress=False)
  packed_params = jowa_jax.load(file).variables.params
  # Stage 2 leaves the tokenizer as it is.
  for name, value in helpers.flat(packed_params['tokenizer']).items():
    np.testing.assert_array_equal(
      helpers.flat(variables.params['tokenizer'])[name], value
    )


def test_the_shipped_agent_is_small_and_loads():
  path = packed.shipped()
  if not path.exists():
    pytest.skip('none is shipped')
  assert path.stat().st_size <= 8_000_000
  agent = jowa_jax.load('pretrained')
  assert agent.games and agent.step > 0


def test_none_is_shipped(monkeypatch, tmp_path):
  monkeypatch.setattr(packed, 'shipped', lambda: tmp_path / 'agent.safetensors')
  with pytest.raises(CheckpointError, match="'pretrained'.*ships no agent"):
    jowa_jax.load('pretrained')


def test_what_cannot_be_read_is_one_error(file, tmp_path):
  with pytest.raises(CheckpointError, match='none.safetensors does not exist'):
    jowa_jax.load(tmp_path / 'none.safetensors')
  with pytest.raises(CheckpointError, match='No checkpoint of step 3'):
    jowa_jax.load(file, step=3)
  broken = tmp_path / 'broken.safetensors'
  data = bytearray(file.read_bytes())
  broken.write_bytes(data[:-10])
  with pytest.raises(DamagedCheckpointError, match='broken.safetensors'):
    jowa_jax.load(broken)
  data[-1] ^= 1
  broken.write_bytes(data)
  with pytest.raises(DamagedCheckpointError, match='checksum'):
    jowa_jax.load(broken)
  weight_files.write_state(broken, {'a': np.zeros(3)})
  with pytest.raises(CheckpointError, match='no packed agent'):
    jowa_jax.load(broken)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda x: x * np.nan, 'params/tokenizer/codebook has .* not finite'),
    (lambda x: x + 1e5, 'params/tokenizer/codebook has values beyond'),
  ],
)
def test_weights_that_float16_cannot_hold(change, message, trained, tmp_path):
  agent = jowa_jax.load(trained.workdir)
  tokenizer = dict(agent.variables.params['tokenizer'])
  tokenizer['codebook'] = change(tokenizer['codebook'])
  variables = agent.variables.replace(
    params={**agent.variables.params, 'tokenizer': tokenizer}
  )
  meta = {'step': 7, 'config': agent.config, 'data': {}}
  with pytest.raises(CheckpointError, match=message):
    packed.write_packed(tmp_path / 'x.safetensors', variables, meta)
  meta['config'] = {**agent.config, 'method': 'other'}
  with pytest.raises(CheckpointError, match="'other' cannot be packed"):
    packed.write_packed(tmp_path / 'x.safetensors', agent.variables, meta)
  with pytest.raises(CheckpointError, match='ends in .safetensors'):
    packed.write_packed(tmp_path / 'x.npz', agent.variables, meta)
  assert not list(tmp_path.iterdir())


def test_another_model_is_refused(file):
  source = warm_start.open_run(file)
  variables = jowa_jax.load(file).variables
  other = jax.tree.map(lambda x: jax.ShapeDtypeStruct((3,), x.dtype), variables)
  with pytest.raises(CheckpointError, match='of another model'):
    source.restore_variables(other, None)
