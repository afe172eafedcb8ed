"""Imported by the command, weights compute what the authors' program does."""

import dataclasses

import jax
import numpy as np
import pytest

import jowa_jax
from jowa_jax import games, weight_files
from jowa_jax.methods import factory
from tests.parity import fixtures


def architectures() -> list[str]:
  """Returns a variant of each set of shapes; the others differ in losses."""
  found = {}
  for variant in fixtures.variants():
    weights = load_weights(f'world_action_{variant}')
    shapes = tuple(sorted((k, v.shape) for k, v in weights.items()))
    found.setdefault(shapes, variant)
  return list(found.values())


def load_weights(name):
  return fixtures.under(fixtures.load(name), 'state_dict')


@pytest.fixture(scope='module', params=architectures())
def imported(request, launch, tmp_path_factory):
  """An architecture's recording, and the directory it was imported to."""
  folder = tmp_path_factory.mktemp('imported')
  name = f'world_action_{request.param}'
  weight_files.write_state(folder / 't.npz', load_weights('tokenizer'))
  weight_files.write_state(folder / 'm.safetensors', load_weights(name))
  done = launch(
    'import_checkpoint',
    f'--tokenizer={folder}/t.npz',
    f'--model={folder}/m.safetensors',
    f'--output={folder}/run',
    f'--num_heads={fixtures.meta()["shape"]["heads"]}',
    '--dtype=float32',
  )
  assert done.returncode == 0, done.stderr
  return fixtures.load(name), folder / 'run'


def _read(run):
  agent = jowa_jax.load(run)
  params = {
    **agent.variables.params,
    'target_q_heads': agent.variables.targets['q_heads'],
  }
  return factory.method_config(agent.config), params


def _without_dropout(model):
  none = dict(dropout=0.0, attention_dropout=0.0)
  return dataclasses.replace(
    model,
    backbone=dataclasses.replace(model.backbone, **none),
    heads=dataclasses.replace(model.heads, dropout=0.0),
  )


def test_parameters(imported):
  """They are those whose outputs other tests hold against the program's."""
  data, run = imported
  config, params = _read(run)
  weights = fixtures.under(data, 'state_dict')
  model = fixtures.model_config(weights)
  # Sizes that no shape shows, such as the heads of attention, decide, too.
  assert _without_dropout(config.model) == model
  tokens = load_weights('tokenizer')
  tokenizer = fixtures.tokenizer_config(tokens)
  assert config.tokenizer == tokenizer
  expected = {
    **fixtures.model_params(model, weights),
    'tokenizer': fixtures.tokenizer_params(tokenizer, tokens),
  }
  assert jax.tree.structure(params) == jax.tree.structure(expected)
  jax.tree.map(np.testing.assert_array_equal, params, expected)


@pytest.mark.slow
def test_outputs(imported):
  data, run = imported
  config, params = _read(run)
  fixtures.check_model_outputs(data, config.model, params)
  fixtures.check_tokenizer_outputs(
    fixtures.load('tokenizer'), config.tokenizer, params['tokenizer']
  )


@pytest.mark.slow
def test_it_acts_and_goes_back(imported, launch, tmp_path):
  data, run = imported
  agent = jowa_jax.load(run)
  names = ['Assault', 'Carnival']
  agent.begin(names, planner='beam', width=2, horizon=1)
  frames = fixtures.load('tokenizer')['observations_uint8']
  frames = frames.reshape(-1, *frames.shape[-2:])
  for step in range(2):
    actions = agent.act(frames[2 * step : 2 * step + 2])
    for game, action in zip(names, actions, strict=True):
      assert action in games.LEGAL_ACTIONS[game]

  files = tmp_path / 'tokenizer.npz', tmp_path / 'model.safetensors'
  done = launch(
    'export_checkpoint',
    f'--checkpoint={run}',
    f'--output_tokenizer={files[0]}',
    f'--output_model={files[1]}',
  )
  assert done.returncode == 0, done.stderr
  sources = load_weights('tokenizer'), fixtures.under(data, 'state_dict')
  for path, source in zip(files, sources, strict=True):
    found = weight_files.read_state(path)
    assert found.keys() == source.keys()
    for name, value in source.items():
      np.testing.assert_array_equal(found[name], value, err_msg=name)
