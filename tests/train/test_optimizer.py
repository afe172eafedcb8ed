"""The decay mask, the clip, the warm-up and Adam, against hand arithmetic."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from configs import jowa, mtbc
from jowa_jax.configuration import ConfigError, differences
from jowa_jax.data.episodes import DataError
from jowa_jax.methods import jowa as jowa_method
from jowa_jax.methods.base import is_kernel
from jowa_jax.methods.factory import make_method
from jowa_jax.train.optimizer import (
  OptimizerConfig,
  decayed,
  make_optimizer,
  rate_after,
)
from jowa_jax.train.run import Run
from jowa_jax.train.settings import complete, parse_stages
from tests.train import helpers


def _mask(config, name, **fields):
  """By path, whether the last stage's optimizer decays a parameter."""
  config = config.to_dict()
  objective = make_method(config).objectives[name]
  variables = nn.meta.unbox(helpers.abstract_variables(config))
  params = {group: variables.params[group] for group in objective.params}
  mask = decayed(OptimizerConfig(**fields), objective.decays, params)
  return {path: bool(x) for path, x in helpers.flat(mask).items()}


def _linear_layers(num_layers):
  """The linear weights of the backbone."""
  names = ['attn', 'mlp_0', 'mlp_2']
  paths = set()
  for i in range(num_layers):
    layer = f"['backbone']['layer_{i}']"
    for name in ('query', 'key', 'value', 'proj'):
      paths.add(f"{layer}['{names[0]}']['{name}']['kernel']")
    for name in names[1:]:
      paths.add(f"{layer}['{name}']['kernel']")
  return paths


def _heads(group):
  """All ten stacked parameters of the Q or policy heads."""
  return {
    f"['{group}']['{name}']"
    for name in (
      'dense_0_kernel',
      'dense_0_bias',
      'norm_0_scale',
      'norm_0_bias',
      'dense_1_kernel',
      'dense_1_bias',
      'norm_1_scale',
      'norm_1_bias',
      'dense_2_kernel',
      'dense_2_bias',
    )
  }


def test_decay_mask_of_jowa_is_exactly_linear_weights_and_q_heads():
  mask = _mask(jowa.get_config('150m'), 'world_action')
  world = {
    f"['world_heads']['{head}']['{layer}']['kernel']"
    for head in ('observations', 'rewards', 'ends')
    for layer in ('dense_0', 'dense_2')
  }
  found = {path for path, decays in mask.items() if decays}
  assert found == _linear_layers(12) | world | _heads('q_heads')
  left = [path for path, decays in mask.items() if not decays]
  # Embedding tables, layer norms' scales and biases, linear biases.
  assert sum('embedding' in path for path in left) == 5
  assert sum('ln' in path for path in left) == 12 * 4 + 2
  biases = [path for path in left if path.endswith("['bias']")]
  assert len(biases) == 12 * (6 + 2) + 1 + 6
  assert len(left) == 5 + 12 * 2 + 1 + len(biases)


def test_decay_mask_of_mtbc_is_exactly_linear_weights_and_policy_heads():
  mask = _mask(mtbc.get_config('smoke'), 'policy')
  found = {path for path, decays in mask.items() if decays}
  assert found == _linear_layers(2) | _heads('policy_heads')


def test_all_parameters_can_be_decayed():
  mask = _mask(mtbc.get_config('smoke'), 'policy', decay_mask='all')
  assert mask and all(mask.values())


def _one_update(config, params, grads, decays=is_kernel):
  tx = make_optimizer(config, 10, decays)
  updates, _ = tx.update(grads, tx.init(params), params)
  return optax.apply_updates(params, updates)


PARAMS = {
  'backbone': {
    'kernel': jnp.array([2.0, -4.0]),
    'bias': jnp.array([2.0, -4.0]),
  },
  'q_heads': {'dense_0_bias': jnp.array([2.0, -4.0])},
}


def test_decay_is_decoupled_and_masked():
  zeros = {
    'backbone': {'kernel': jnp.zeros(2), 'bias': jnp.zeros(2)},
    'q_heads': {'dense_0_bias': jnp.zeros(2)},
  }
  config = OptimizerConfig(learning_rate=0.1, weight_decay=0.5)
  updated = _one_update(config, PARAMS, zeros, jowa_method.decays)
  shrunk = np.array([2.0, -4.0]) * (1 - 0.1 * 0.5)
  np.testing.assert_allclose(updated['backbone']['kernel'], shrunk, rtol=1e-6)
  np.testing.assert_array_equal(
    updated['backbone']['bias'], PARAMS['backbone']['bias']
  )
  np.testing.assert_allclose(
    updated['q_heads']['dense_0_bias'], shrunk, rtol=1e-6
  )


# Of a first step with the gradient 3, 4 (norm 5), which a clip of 2.5 halves;
# every kind decays by a tenth of the parameter.
FIRST_STEPS = {
  # 1 / (1 + eps / |gradient|) of the rate, and the decay times the rate.
  'adamw': [1.5 / 2.5 + 0.1 * 3, 2 / 3 + 0.1 * -4],
  # The gradients are 1.5 + 0.3 and 2 - 0.4.
  'adam': [1.8 / 2.8, 1.6 / 2.6],
  'sgd': [1.8, 1.6],
  # As AdamW's, scaled to the parameter's norm of 5.
  'lamb': 5 * np.array([0.9, 4 / 15]) / np.hypot(0.9, 4 / 15),
}


@pytest.mark.parametrize('kind', FIRST_STEPS)
def test_the_first_step_of_every_kind(kind):
  weights, gradient = jnp.array([3.0, -4.0]), jnp.array([3.0, 4.0])
  config = OptimizerConfig(
    kind=kind, learning_rate=0.5, weight_decay=0.1, clip=2.5, eps=1.0
  )
  updated = _one_update(
    config, {'a': {'kernel': weights}}, {'a': {'kernel': gradient}}
  )
  expected = weights - 0.5 * np.array(FIRST_STEPS[kind])
  np.testing.assert_allclose(updated['a']['kernel'], expected, rtol=1e-5)
  # A bias is decayed only if all is.
  zero = {'a': {'bias': jnp.zeros(2)}}
  for mask, moves in (('kernels', False), ('all', True)):
    updated = _one_update(
      dataclasses.replace(config, decay_mask=mask),
      {'a': {'bias': weights}},
      zero,
    )
    assert (updated['a']['bias'] != weights).any() == moves, mask


def test_sgd_has_momentum():
  # Velocities 1, 1.5 and 1.75 of a constant gradient of 1.
  config = OptimizerConfig(kind='sgd', learning_rate=2.0, b1=0.5)
  assert _step_sizes(config, 3) == [2.0, 3.0, 3.5]
  config = OptimizerConfig(kind='sgd', learning_rate=2.0, b1=0.0)
  assert _step_sizes(config, 3) == [2.0, 2.0, 2.0]


def test_without_decay_it_is_adam():
  config = OptimizerConfig(learning_rate=0.1, weight_decay=0.0, clip=1e9)
  tx, adam = make_optimizer(config, 10, is_kernel), optax.adam(0.1)
  params = expected = PARAMS
  state, adam_state = tx.init(params), adam.init(params)
  rng = np.random.default_rng(0)
  for _ in range(3):
    grads = {
      group: {name: jnp.array(rng.normal(size=2)) for name in leaves}
      for group, leaves in PARAMS.items()
    }
    updates, state = tx.update(grads, state, params)
    params = optax.apply_updates(params, updates)
    updates, adam_state = adam.update(grads, adam_state, expected)
    expected = optax.apply_updates(expected, updates)
  for path, value in helpers.flat(params).items():
    np.testing.assert_allclose(
      value, helpers.flat(expected)[path], rtol=1e-6, err_msg=path
    )


def test_clip_is_by_the_global_norm_before_the_moments():
  # Norm 5 over both arrays; eps = 1 makes Adam's first step depend on size:
  # lr * g / (|g| + 1).
  params = {'a': {'bias': jnp.zeros(1)}, 'b': {'bias': jnp.zeros(1)}}
  grads = {'a': {'bias': jnp.array([3.0])}, 'b': {'bias': jnp.array([4.0])}}
  config = OptimizerConfig(learning_rate=1.0, clip=1.0, eps=1.0)
  updated = _one_update(config, params, grads)
  np.testing.assert_allclose(updated['a']['bias'], [-0.6 / 1.6], rtol=1e-5)
  np.testing.assert_allclose(updated['b']['bias'], [-0.8 / 1.8], rtol=1e-5)
  loose = OptimizerConfig(learning_rate=1.0, clip=10.0, eps=1.0)
  updated = _one_update(loose, params, grads)
  np.testing.assert_allclose(updated['a']['bias'], [-3 / 4], rtol=1e-5)


def test_clip_of_each_top_level_parameter_by_itself():
  params = {'a': {'x': jnp.zeros(1), 'y': jnp.zeros(1)}, 'b': jnp.zeros(1)}
  grads = {
    'a': {'x': jnp.array([3.0]), 'y': jnp.array([4.0])},
    'b': jnp.array([0.5]),
  }
  config = OptimizerConfig(
    learning_rate=1.0, kind='sgd', b1=0.0, clip=1.0, clip_each=True
  )
  updated = _one_update(config, params, grads)
  np.testing.assert_allclose(updated['a']['x'], [-0.6], rtol=1e-5)
  np.testing.assert_allclose(updated['a']['y'], [-0.8], rtol=1e-5)
  # Shorter than the clip.
  np.testing.assert_allclose(updated['b'], [-0.5], rtol=1e-5)


@pytest.mark.parametrize(
  ('warmup', 'rates'),
  [(0, [1.0, 1.0, 1.0, 1.0, 1.0]), (4, [0.0, 0.25, 0.5, 0.75, 1.0])],
)
def test_warmup_is_linear_then_constant(warmup, rates):
  # With a constant gradient each of Adam's steps has the size of its rate.
  params, grads = {'b': {'bias': jnp.zeros(1)}}, {'b': {'bias': jnp.ones(1)}}
  config = OptimizerConfig(learning_rate=1.0, warmup_steps=warmup)
  tx = make_optimizer(config, 10, is_kernel)
  state, sizes = tx.init(params), []
  for _ in range(len(rates)):
    updates, state = tx.update(grads, state, params)
    sizes.append(-float(updates['b']['bias'][0]))
  np.testing.assert_allclose(sizes, rates, atol=1e-5)


def _step_sizes(config, steps, restored_at=None):
  """The size of each update, all of which have a constant gradient."""
  params, grads = {'b': {'bias': jnp.zeros(1)}}, {'b': {'bias': jnp.ones(1)}}
  tx = make_optimizer(config, steps, is_kernel)
  state, sizes = tx.init(params), []
  for step in range(steps):
    if step == restored_at:
      # As a checkpoint gives it back: arrays alone, in a fresh tree.
      leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
      tx = make_optimizer(config, steps, is_kernel)
      state = jax.tree.unflatten(jax.tree.structure(tx.init(params)), leaves)
    updates, state = tx.update(grads, state, params)
    sizes.append(-float(updates['b']['bias'][0]))
  return sizes


@pytest.mark.parametrize(
  ('fields', 'rates'),
  [
    (dict(decay='linear'), [8, 6, 4, 2, 0]),
    (dict(decay='linear', final_fraction=0.5), [8, 7, 6, 5, 4]),
    # 8 (1 + cos(pi n / 4)) / 2
    (dict(decay='cosine'), [8, 6.828427, 4, 1.171573, 0]),
    (
      dict(decay='cosine', final_fraction=0.5),
      [8, 7.414214, 6, 4.585786, 4],
    ),
    # Up to the peak at update 2, and in two more down.
    (dict(decay='linear', warmup_steps=2), [0, 4, 8, 4, 0]),
    (
      dict(decay='cosine', warmup_steps=2, final_fraction=0.25),
      [0, 4, 8, 5, 2],
    ),
    # The first step is taken, too.
    (dict(warmup_steps=3, warmup_from=0.25), [2, 4, 6, 8, 8]),
    (
      dict(decay='linear', warmup_steps=2, warmup_from=0.5),
      [4, 6, 8, 4, 0],
    ),
    # By the same factor from step to step.
    (dict(decay='exponential', final_fraction=1 / 16), [8, 4, 2, 1, 0.5]),
    (
      dict(
        decay='exponential',
        final_fraction=0.25,
        warmup='exponential',
        warmup_steps=2,
        warmup_from=1 / 16,
      ),
      [0.5, 2, 8, 4, 2],
    ),
    # What is left for the decay is the peak alone.
    (dict(decay='linear', warmup_steps=4), [0, 2, 4, 6, 8]),
  ],
)
def test_decay_ends_with_the_last_step(fields, rates):
  config = OptimizerConfig(learning_rate=8.0, **fields)
  np.testing.assert_allclose(_step_sizes(config, 5), rates, atol=1e-4)
  found = [float(rate_after(config, 5, jnp.int32(n))) for n in range(5)]
  np.testing.assert_allclose(found, rates, atol=1e-5)
  # A run that resumes takes the same steps.
  assert _step_sizes(config, 5, restored_at=3) == _step_sizes(config, 5)


def test_one_step_is_taken_at_the_peak():
  assert float(rate_after(OptimizerConfig(decay='cosine'), 1, 0)) == (
    pytest.approx(1e-4)
  )


def test_a_constant_rate_keeps_its_state_without_a_counter():
  """Checkpoints that were written before there were decays must fit."""
  params = {'b': {'bias': jnp.zeros(1)}}

  def paths(**fields):
    config = OptimizerConfig(**fields)
    state = make_optimizer(config, 10, is_kernel).init(params)
    return set(helpers.flat(state))

  plain = {
    '[1][0].count',
    "[1][0].mu['b']['bias']",
    "[1][0].nu['b']['bias']",
  }
  assert paths() == paths(final_fraction=0.0, decay='constant') == plain
  scheduled = plain | {'[1][2].count'}
  assert paths(warmup_steps=2) == paths(decay='cosine') == scheduled


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    (dict(decay='cosin'), r"decay='cosin' is not in \('constant'"),
    (dict(decay='linear', final_fraction=1.5), 'final_fraction=1.5 is not in'),
    (dict(final_fraction=0.5), "final_fraction=0.5.*decay='constant' is none"),
    (dict(warmup_steps=-1), 'warmup_steps=-1 is negative'),
    (dict(warmup_steps=1, warmup_from=2.0), 'warmup_from=2.0 is not in'),
    (dict(warmup_from=0.5), 'warmup_from=0.5 is.*warmup_steps=0 is none'),
    (dict(decay='exponential'), "decay='exponential'.*final_fraction=0"),
    (dict(warmup='exponential'), "warmup='exponential'.*warmup_from=0"),
    (dict(warmup='cosine'), r"warmup='cosine' is not in \('linear'"),
    (dict(kind='adan'), r"kind='adan' is not in \('adamw', 'adam', 'lamb'"),
    (dict(decay_mask='none'), r"decay_mask='none' is not in \('kernels'"),
  ],
)
def test_bad_fields_are_named(fields, message):
  with pytest.raises(ValueError, match=message):
    OptimizerConfig(**fields)


def test_a_stage_must_have_a_step_to_decay_in(tmp_path):
  config = jowa.get_config('smoke').copy_and_resolve_references().unlock()
  config.stages.stage2.steps = 3
  config.stages.stage2.world_action.warmup_steps = 3
  parse_stages(config.stages)  # a warm-up alone may be cut short
  config.stages.stage2.world_action.decay = 'cosine'
  with pytest.raises(
    ConfigError, match='stages.stage2.world_action: warmup_steps=3 leave no'
  ):
    parse_stages(config.stages)
  config.stages.stage2.steps = 4
  assert parse_stages(config.stages)[1].optimizers['world_action'].decay


def test_a_config_from_before_there_were_decays(tmp_path):
  config = jowa.get_config('smoke').to_dict()
  before = json.loads(json.dumps(config))
  del before['imagination']
  for stage in ('stage1', 'stage2'):
    for part in before['stages'][stage]['parts']:
      del before['stages'][stage][part]['decay']
      del before['stages'][stage][part]['final_fraction']
  assert parse_stages(before['stages']) == parse_stages(config['stages'])
  assert not differences(
    complete(before), json.loads(json.dumps(complete(config)))
  )
  # The directory of a run that was begun with it goes on.
  (tmp_path / 'config.json').write_text(json.dumps(before))
  with pytest.raises(DataError, match='No data set given'):
    Run(config, tmp_path).train(progress=False)
  config['stages']['stage2']['world_action']['decay'] = 'cosine'
  with pytest.raises(ConfigError, match="decay: was 'constant', now 'cosine'"):
    Run(config, tmp_path).train(progress=False)
