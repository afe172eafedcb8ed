"""Many devices do what one does, and layout is configuration."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest
from flax import linen as nn

from jowa_jax.train import sharding

ROOT = pathlib.Path(__file__).parents[2]


def _run_script(data_dir, cache, *arguments):
  env = {
    **os.environ,
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': '--xla_force_host_platform_device_count=8',
    'PYTHONPATH': str(ROOT),
  }
  script = pathlib.Path(__file__).with_name('eight_devices.py')
  done = subprocess.run(
    [sys.executable, str(script), str(data_dir), cache, *arguments],
    env=env,
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=900,
  )
  assert done.returncode == 0, done.stderr[-5000:]
  found = json.loads(done.stdout.splitlines()[-1])
  assert found['devices'] == 8 and found['steps'] == 3
  return found


@pytest.fixture(scope='module')
def eight_devices(atari_data_dir, compilation_cache):
  """What `eight_devices.py` found."""
  return _run_script(atari_data_dir, compilation_cache)


def test_eight_devices_train_as_one_does(eight_devices):
  found = eight_devices['data']
  assert found['mesh'] == {'data': 8}
  assert found['params'] < 1e-4
  assert found['metrics'] < 1e-4


@pytest.mark.slow
def test_tokenizer_and_sharded_model_train_as_on_one_device(
  atari_data_dir, compilation_cache
):
  found = _run_script(atari_data_dir, compilation_cache, 'all')
  assert found['model']['mesh'] == {'data': 4, 'model': 2}
  for layout in ('data', 'model'):
    assert found[layout]['params'] < 1e-4
    assert found[layout]['metrics'] < 1e-4


def test_eight_devices_encode_tokens_as_one_does(eight_devices):
  found = eight_devices['encoding']
  assert found['batch_size'] == 8 * 128
  assert found['same'] and found['distinct'] > 10


def test_eight_devices_plan_as_one_does(eight_devices):
  found = eight_devices['plan']
  assert found['devices'] == 8 and found['spec'][0] == 'data'
  assert found['same_actions'] and found['scores'] < 1e-4


def test_rules_shard_parameters_and_their_moments(eight_devices):
  found = eight_devices['model']
  kernel = "['backbone']['layer_0']['mlp_0']['kernel']"
  assert found['specs'][kernel] == [None, 'model']
  heads = "['q_heads']['dense_0_kernel']"
  assert found['specs'][heads] == [None, None, 'model']
  for name in (kernel, heads):
    moments = {
      path: spec
      for path, spec in found['moments'].items()
      if path.endswith(name)
    }
    assert len(moments) == 2, moments  # mu and nu
    assert all(spec == found['specs'][name] for spec in moments.values())
  # Axes without a rule are whole everywhere.
  query = "['backbone']['layer_0']['attn']['query']['kernel']"
  assert 'model' not in found['specs'][query]
  assert not any(map(any, eight_devices['data']['specs'].values()))


def test_dimension_that_does_not_divide_is_replicated_and_logged(
  eight_devices,
):
  # Three reward classes do not divide over two devices; two ends do.
  specs = eight_devices['model']['specs']
  rewards = "['world_heads']['rewards']['dense_2']['bias']"
  ends = "['world_heads']['ends']['dense_2']['bias']"
  assert 'model' not in specs[rewards]
  assert specs[ends] == ['model']
  assert any(
    'Replicating a classes axis of size 3' in line
    for line in eight_devices['log']
  )


def test_batch_that_does_not_divide_is_refused(eight_devices):
  kind, message = eight_devices['batch_error']
  assert kind == 'ConfigError'
  assert 'run.batch_size=4' in message and '8' in message


def test_mesh_axis_that_is_not_there_is_refused():
  mesh = sharding.make_mesh({'data': 1}, jax.devices()[:1])
  with pytest.raises(ValueError, match=r"rules.mlp .*'model'.*\['data'\]"):
    sharding.tree_shardings({}, mesh, {'mlp': 'model'})


@pytest.mark.parametrize(
  'axes', [{'data': 3}, {'data': 2, 'model': -1}, {'data': -1, 'model': -1}]
)
def test_axes_that_do_not_multiply_are_refused(axes):
  with pytest.raises(ValueError, match='do not multiply to 1 device'):
    sharding.make_mesh(axes, jax.devices()[:1])


def test_free_axis_takes_what_is_left():
  mesh = sharding.make_mesh({'model': 1, 'data': -1}, jax.devices()[:1])
  assert dict(mesh.shape) == {'model': 1, 'data': 1}


def test_one_mesh_axis_splits_one_dimension_of_an_array():
  mesh = sharding.make_mesh({'data': 1}, jax.devices()[:1])
  leaf = nn.LogicallyPartitioned(
    jax.ShapeDtypeStruct((4, 4), 'float32'), ('mlp', 'embed')
  )
  rules = {'mlp': 'data', 'embed': 'data'}
  found = sharding.tree_shardings({'a': leaf}, mesh, rules)['a']
  assert found.spec == jax.sharding.PartitionSpec('data', None)
