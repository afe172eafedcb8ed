"""A step trains heads or adapters alone, and keeps moments of these alone."""

import jax
import numpy as np
import pytest

from jowa_jax.train import sharding
from jowa_jax.train import step as step_lib
from tests.train import helpers

LORA = dict(mode='lora', rank=2, alpha=4.0, targets=('query', 'proj'))
TRAINED = {
  ('jowa', 'lora'): {'lora', 'world_heads', 'q_heads'},
  ('jowa', 'heads'): {'world_heads', 'q_heads'},
  ('mtbc', 'lora'): {'lora', 'policy_heads'},
}


def _config(data_dir, method, mode):
  config = helpers.tiny_config(data_dir, method)
  config['adaptation'] = {**LORA, 'mode': mode}
  return config


def _begin(*arguments):
  return helpers.begin(_config(*arguments), 'stage2')


def _bytes(tree):
  return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'mode'), TRAINED)
def test_the_frozen_stay_bit_for_bit_and_cost_no_moments(
  name, mode, real_batch, atari_data_dir
):
  method, stage, state, places, mesh = _begin(atari_data_dir, name, mode)
  full = _begin(atari_data_dir, name, 'full')[2]
  trained = {n: state.variables.params[n] for n in TRAINED[name, mode]}
  # Two moments of what is trained, and Adam's counter.
  assert _bytes(state.opt_state) == 2 * _bytes(trained) + 4
  assert _bytes(state.opt_state) < 0.8 * _bytes(full.opt_state)
  before = helpers.flat(state.variables.params)
  take = step_lib.compile_step(
    method, stage, 0, seed=0, mesh=mesh, shardings=places
  )
  batch = real_batch(length=2)
  for _ in range(2):
    state, metrics = take(state, batch)
  assert np.isfinite(metrics[f'loss/{next(iter(stage.optimizers))}'])
  moved = set()
  for path, value in helpers.flat(state.variables.params).items():
    group = path.split("'")[1]
    if (value != before[path]).any():
      moved.add(group)
  assert moved == TRAINED[name, mode]


def test_adapters_are_split_by_the_rules(atari_data_dir):
  """As the kernels they adapt, and whole along their rank."""
  config = _config(atari_data_dir, 'jowa', 'lora')
  boxed = helpers.abstract_variables(config).params['lora']
  mesh = type('Mesh', (), {'shape': {'data': 1, 'fsdp': 2, 'tensor': 2}})
  rules = {'embed': ('fsdp',), 'heads': ('tensor',)}
  specs = {}
  for target, factors in boxed['layer_0']['attn'].items():
    for factor, box in factors.items():
      spec, _ = sharding.partition(box.names, box.value.shape, mesh, rules)
      specs[target, factor] = tuple(spec)
  assert specs == {
    ('query', 'a'): ('fsdp', None),
    ('query', 'b'): (None, 'tensor', None),
    ('proj', 'a'): ('tensor', None, None),
    ('proj', 'b'): (None, 'fsdp'),
  }
