"""Eight devices do what one does.

Slow: a process with eight virtual devices compiles every program for them.
"""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from jowa_jax.agent import load
from jowa_jax.envs.protocol import Protocol
from jowa_jax.eval.rollout import evaluate
from tests.train import eight_devices as eight_devices_script
from tests.train import helpers

pytestmark = pytest.mark.slow


def _run_script(data_dir, cache, directory, *arguments):
  script = pathlib.Path(__file__).with_name('eight_devices.py')
  done = subprocess.run(
    [sys.executable, script, data_dir, cache, directory, *arguments],
    env=helpers.script_env(devices=8),
    cwd=helpers.ROOT,
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
