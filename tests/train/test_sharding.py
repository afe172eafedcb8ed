"""Many devices do what one does, and layout is configuration."""

import json
import math
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AbstractMesh, SingleDeviceSharding

from jowa_jax.agent import load
from jowa_jax.envs.protocol import Protocol
from jowa_jax.eval.rollout import evaluate
from jowa_jax.methods.factory import make_method
from jowa_jax.train import sharding
from tests.train import eight_devices as eight_devices_script
from tests.train import helpers

ROOT = pathlib.Path(__file__).parents[2]


def _run_script(data_dir, cache, directory, *arguments):
  env = {
    **os.environ,
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': '--xla_force_host_platform_device_count=8',
    'PYTHONPATH': str(ROOT),
  }
  script = pathlib.Path(__file__).with_name('eight_devices.py')
  done = subprocess.run(
    [sys.executable, script, data_dir, cache, directory, *arguments],
    env=env,
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=900,
  )
  assert done.returncode == 0, done.stderr[-5000:]
  found = json.loads(done.stdout.splitlines()[-1])
  assert found['devices'] == 8
  return found


@pytest.fixture(scope='module')
def saved_dir(tmp_path_factory):
  """Where `eight_devices.py` leaves a checkpoint."""
  return tmp_path_factory.mktemp('eight') / 'checkpoints'


@pytest.fixture(scope='module')
def eight_devices(atari_data_dir, compilation_cache, saved_dir):
  """What `eight_devices.py` found."""
  return _run_script(atari_data_dir, compilation_cache, saved_dir)


def test_eight_devices_train_as_one_does(eight_devices):
  assert eight_devices['steps'] == 3
  check_meshes(eight_devices['jowa stage2'], 1, '')


@pytest.mark.slow
def test_all_stages_train_on_all_meshes_as_on_one_device(
  atari_data_dir, compilation_cache, tmp_path
):
  found = _run_script(atari_data_dir, compilation_cache, tmp_path, 'all')
  assert found['steps'] == 20
  for method, stage in eight_devices_script.STAGES:
    # Losses: a frame between two codes may take the other one, and counts of
    # codes then differ.
    check_meshes(found[f'{method} {stage}'], 4, 'loss/')


def check_meshes(found, count, prefix):
  first, last = found.pop('losses')
  # Twenty steps, or three, change what there is to compare.
  assert any(first[name] != last[name] for name in first)
  assert len(found) == count
  for mesh, differences in found.items():
    assert differences['params'] < 1e-4, mesh
    compared = {
      name: value
      for name, value in differences['metrics'].items()
      if name.startswith(prefix)
    }
    assert compared and max(compared.values()) < 1e-4, (mesh, compared)
    print(mesh, max(differences['metrics'].items(), key=lambda item: item[1]))


def test_eight_devices_encode_tokens_as_one_does(eight_devices):
  found = eight_devices['encoding']
  assert found['batch_size'] == 8 * 128
  assert found['same'] and found['distinct'] > 10


def test_eight_devices_plan_as_one_does(eight_devices):
  found = eight_devices['plan']
  assert found['devices'] == 8 and found['spec'][0] == 'data'
  assert found['same_actions'] and found['scores'] < 1e-4


def test_rules_shard_parameters_and_what_belongs_to_them(eight_devices):
  params = eight_devices['params']
  kernel = "['backbone']['layer_0']['mlp_0']['kernel']"
  assert params[kernel] == "('fsdp', 'tensor')"
  heads = "['dense_0_kernel']"
  spec = params[f"['q_heads']{heads}"]
  assert spec == "(None, 'fsdp', 'tensor')"
  assert eight_devices['targets'][f"['q_heads']{heads}"] == spec
  for name in (kernel, f"['q_heads']{heads}"):
    moments = {
      path: spec
      for path, spec in eight_devices['moments'].items()
      if path.endswith(name)
    }
    assert len(moments) == 2, moments  # mu and nu
    assert all(spec == params[name] for spec in moments.values())
  # 18 x 51 outputs do not divide over four devices: the inputs do, twice.
  last = params["['q_heads']['dense_2_kernel']"]
  assert last == "(None, ('fsdp', 'tensor'), None)"


def test_what_eight_devices_saved_comes_back_on_others(eight_devices):
  assert eight_devices['restored'] == {
    '(1, 1, 1)': True,
    '(4, 1, 1)': True,
    '(2, 2, 2)': True,
  }


def test_one_device_plays_with_what_eight_saved(
  eight_devices, saved_dir, atari_data_dir
):
  assert eight_devices['restored']
  agent = load(saved_dir)
  config = eight_devices_script.config_of(atari_data_dir, 'jowa')
  saved = helpers.flat(helpers.begin(config, 'stage2')[2].variables)
  loaded = helpers.flat(agent.variables)
  assert saved.keys() == loaded.keys()
  for name, value in saved.items():
    np.testing.assert_array_equal(loaded[name], value, err_msg=name)
  rollouts = evaluate(
    agent.policy(epsilon=0.0, planner='beam', width=2, horizon=1),
    agent.variables,
    helpers.GAMES,
    Protocol(rollouts=1, max_frames=40),
    seed=0,
    agent='jowa',
    progress=False,
  )
  assert [rollout.decisions for rollout in rollouts] == [10, 10]


def test_dimension_that_does_not_divide_is_replicated_and_logged(
  eight_devices,
):
  bias = "['q_heads']['dense_2_bias']"
  assert eight_devices['params'][bias] == "(None, 'fsdp')"
  (line,) = (
    line
    for line in eight_devices['log']
    if '(ensemble, atoms)' in line and 'mesh axis tensor' in line
  )
  assert 'Replicating arrays' in line and '(1, 918)' in line


def test_batch_that_does_not_divide_is_refused(eight_devices):
  kind, message = eight_devices['batch_error']
  assert kind == 'ConfigError'
  assert 'run.batch_size=4' in message and '8' in message


@pytest.mark.parametrize('size', ['40m', '70m', '150m'])
@pytest.mark.parametrize('method', ['jowa', 'mtbc'])
@pytest.mark.parametrize('axes', [(8, 1, 1), (1, 8, 1), (2, 2, 2), (2, 1, 4)])
def test_published_sizes_shrink_as_the_mesh_says(size, method, axes):
  config = helpers.CONFIGS[method].get_config(size)
  mesh = AbstractMesh(axes, ('data', 'fsdp', 'tensor'))
  boxed = helpers.abstract_variables(make_method(config.to_dict()))
  shardings = sharding.tree_shardings(boxed, mesh, config.mesh.rules.to_dict())
  here = total = 0
  for leaf, place in zip(
    jax.tree.leaves(nn.meta.unbox(boxed)),
    jax.tree.leaves(shardings),
    strict=True,
  ):
    here += math.prod(place.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    total += math.prod(leaf.shape) * leaf.dtype.itemsize
  assert here == pytest.approx(total / (axes[1] * axes[2]), rel=0.05)


def test_mesh_axis_that_is_not_there_is_refused():
  mesh = sharding.make_mesh({'data': 1}, jax.devices()[:1])
  with pytest.raises(ValueError, match=r"rules.mlp .*'model'.*\['data'\]"):
    sharding.tree_shardings({}, mesh, {'mlp': ('model',)})


@pytest.mark.parametrize(
  'axes', [{'data': 3}, {'data': 2, 'model': -1}, {'data': -1, 'model': -1}]
)
def test_axes_that_do_not_multiply_are_refused(axes):
  with pytest.raises(ValueError, match='do not multiply to 1 device'):
    sharding.make_mesh(axes, jax.devices()[:1])


def test_free_axis_takes_what_is_left():
  mesh = sharding.make_mesh({'model': 1, 'data': -1}, jax.devices()[:1])
  assert dict(mesh.shape) == {'model': 1, 'data': 1}


@pytest.mark.parametrize(
  ('names', 'shape', 'expected', 'left'),
  [
    # A mesh axis splits one axis of an array, the first that it divides.
    (('embed', 'embed'), (4, 4), ('fsdp', 'tensor'), []),
    (('embed', 'mlp'), (4, 8), ('fsdp', 'tensor'), []),
    (('embed', 'mlp'), (8, 6), (('fsdp', 'tensor'), None), []),
    (('embed', 'mlp'), (2, 6), ('fsdp', None), ['tensor']),
    (('other', None), (4, 4), (None, None), []),
    (('embed',), (3,), (None,), ['fsdp', 'tensor']),
  ],
)
def test_arrays_are_split_by_preference(names, shape, expected, left):
  mesh = AbstractMesh((1, 2, 4), ('data', 'fsdp', 'tensor'))
  rules = {'embed': ('fsdp', 'tensor'), 'mlp': ('tensor',)}
  spec, found = sharding.partition(names, shape, mesh, rules)
  assert tuple(spec) == expected and found == left


def test_what_is_put_beside_variables_is_where_these_are():
  device = jax.devices()[0]
  mesh = sharding.make_mesh({'data': 1}, [device])
  split = jax.device_put(np.zeros(2), sharding.batch_sharding(mesh))
  alone = SingleDeviceSharding(device)
  for variables, place in (
    ({'a': split}, sharding.replicated(mesh)),
    ({'a': jax.device_put(np.zeros(2), device)}, alone),
    ({'a': np.zeros(2)}, alone),
    ({}, alone),
  ):
    (found,) = sharding.put_beside(variables, (np.ones(3),))
    assert found.sharding == place and found.committed
