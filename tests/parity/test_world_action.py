"""The world-action model and its training against the authors' program."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jowa_jax.methods import jowa
from jowa_jax.methods.jowa_losses import JowaLosses, world_action_losses
from jowa_jax.train import optimizer
from tests.parity import fixtures

VARIANTS = fixtures.variants()
STAGES = {
  'stage1': ('batch',),
  'stage2': ('batch',),
  'stage2_left_padded': ('left_batch',),
  'stage2_with_imagined': ('batch', 'imagined_batch'),
}
TERMS = {
  'loss_obs': 'world/observations',
  'loss_rewards': 'world/rewards',
  'loss_ends': 'world/ends',
  'loss_td_error': 'q/td',
  'loss_cql_penalty': 'q/cql',
}
METRICS = {
  'q_value_of_negative_samples': 'q/logsumexp',
  'q_value_of_positive_samples': 'q/data_value',
}


def test_all_variants_are_there():
  assert set(VARIANTS) >= {
    'c51_combo',
    'c51_cql',
    'c51_cql_3heads',
    'c51_cql_no_task_embedding',
    'c51_cql_stop_gradient',
    'c51_no_penalty',
    'mse',
  }


@functools.cache
def setup(variant):
  data = fixtures.load(f'world_action_{variant}')
  weights = fixtures.under(data, 'state_dict')
  config = fixtures.model_config(weights)
  params = fixtures.model_params(config, weights)
  # The recorded MSE variant has no penalty (its released code had a defect).
  penalised = variant not in ('c51_no_penalty', 'mse')
  losses = JowaLosses(
    cql_weight=fixtures.meta()['cql_weight'] if penalised else 0.0,
    penalty='combo' if variant == 'c51_combo' else 'cql',
    stop_gradient=variant.endswith('stop_gradient'),
  )
  return data, config, params, losses


@pytest.mark.parametrize('variant', VARIANTS)
def test_outputs(variant):
  data, config, params, _ = setup(variant)
  fixtures.check_model_outputs(data, config, params)


def stage_losses(config, losses, stage, params, batches):
  """Total, terms and metrics of a stage on joined batches."""
  parts = [fixtures.segment(batch) for batch in batches]
  parts = [
    (tokens, batch.replace(imagined=np.full(len(tokens), i > 0)))
    for i, (tokens, batch) in enumerate(parts)
  ]
  tokens, batch = jax.tree.map(lambda *x: np.concatenate(x), *parts)
  targets = None if stage == 'stage1' else params['target_q_heads']
  terms, metrics = world_action_losses(
    config, losses, params, targets, tokens, batch
  )
  return sum(terms.values()), (terms, metrics)


def recorded(kind):
  """Returns the (variant, stage) pairs of which `kind` was recorded."""
  return [
    (variant, stage)
    for variant in VARIANTS
    for stage in STAGES
    if any(key.startswith(f'{stage}/{kind}/') for key in setup(variant)[0])
  ]


def test_what_was_recorded():
  always = ('stage1', 'stage2', 'stage2_left_padded')
  assert set(recorded('loss')) >= {
    *((variant, stage) for variant in VARIANTS for stage in always),
    ('c51_cql', 'stage2_with_imagined'),
    ('c51_combo', 'stage2_with_imagined'),
  }
  assert set(recorded('grad')) >= {
    ('c51_cql', 'stage1'),
    ('c51_cql', 'stage2'),
    ('c51_cql_3heads', 'stage2'),
    ('c51_cql_stop_gradient', 'stage2'),
  }


@pytest.mark.parametrize(('variant', 'stage'), recorded('loss'))
def test_losses_and_gradients(variant, stage):
  data, config, params, losses = setup(variant)
  batches = [fixtures.under(data, name) for name in STAGES[stage]]

  def loss(params):
    return stage_losses(config, losses, stage, params, batches)

  if (variant, stage) in recorded('grad'):
    (total, (terms, metrics)), grads = jax.jit(
      jax.value_and_grad(loss, has_aux=True)
    )(params)
    expected = fixtures.under(data, f'{stage}/grad')
    check_gradients(config, grads, expected)
  else:
    total, (terms, metrics) = jax.jit(loss)(params)
  expected = fixtures.under(data, f'{stage}/loss')
  assert {TERMS[name] for name in expected} == set(terms)
  for name, value in expected.items():
    fixtures.assert_close(terms[TERMS[name]], value, name=name)
  fixtures.assert_close(total, data[f'{stage}/loss_total'])
  for name, key in METRICS.items():
    if f'{stage}/{name}' in data:
      fixtures.assert_close(metrics[key], data[f'{stage}/{name}'], name=name)


def check_gradients(config, grads, expected):
  grads = dict(grads)
  targets = grads.pop('target_q_heads')
  assert all(not np.any(leaf) for leaf in jax.tree.leaves(targets))
  expected = fixtures.model_params(config, expected, targets=False)
  fixtures.assert_gradients_close(grads, expected)


def test_three_optimizer_steps():
  """Parameters after three steps of AdamW, where the steps can be told.

  Adam divides a gradient by its own size. Of a gradient that is zero up to
  rounding it makes whole steps, whose signs are those of the rounding: entries
  whose recorded gradient is not above `fixtures.ROUNDING` are left out. Where
  it is exactly zero nothing reads the entry, and it is compared. That leaves
  nearly all.
  """
  data, config, params, losses = setup('c51_cql')
  trained = {k: v for k, v in params.items() if k != 'target_q_heads'}
  tx = optimizer.make_optimizer(
    optimizer.OptimizerConfig(
      learning_rate=float(data['adamw/learning_rate']),
      weight_decay=float(data['adamw/weight_decay']),
      clip=float(data['adamw/clip']),
    ),
    steps=3,
    decays=jowa.decays,
  )
  batches = [fixtures.under(data, 'batch')]

  def loss(trained):
    joined = {**trained, 'target_q_heads': params['target_q_heads']}
    return stage_losses(config, losses, 'stage2', joined, batches)[0]

  @jax.jit
  def step(trained, state):
    grads = jax.grad(loss)(trained)
    updates, state = tx.update(grads, state, trained)
    return (
      optax.apply_updates(trained, updates),
      state,
      optax.tree.norm(grads),
    )

  trained = jax.tree.map(jnp.asarray, trained)
  state, norms = tx.init(trained), []
  for _ in range(3):
    trained, state, norm = step(trained, state)
    norms.append(norm)
  np.testing.assert_allclose(norms, data['adamw/grad_norms'], rtol=1e-4)
  check_parameters(config, trained, data)


def check_parameters(config, ours, data):
  expected, gradients = (
    fixtures.model_params(config, fixtures.under(data, name), targets=False)
    for name in ('adamw/after_3_steps', 'stage2/grad')
  )
  told = jax.tree.map(
    lambda x: (np.abs(x) > fixtures.ROUNDING) | (x == 0), gradients
  )
  jax.tree_util.tree_map_with_path(
    lambda path, told, a, b: fixtures.assert_close(
      np.where(told, a, b), b, name=jax.tree_util.keystr(path)
    ),
    told,
    ours,
    expected,
  )
  flat = jax.tree.leaves(told)
  assert sum(x.sum() for x in flat) >= 0.995 * sum(x.size for x in flat)


def test_steps_of_rounding_are_no_difference():
  """The bias of attention keys adds the same to all logits of a softmax."""
  data, config, _, _ = setup('c51_cql')
  ours = fixtures.model_params(
    config, fixtures.under(data, 'adamw/after_3_steps'), targets=False
  )
  attention = ours['backbone']['layer_0']['attn']
  attention['key']['bias'] = attention['key']['bias'] + 2e-3
  check_parameters(config, ours, data)
  attention['query']['bias'] = attention['query']['bias'] + 2e-3
  with pytest.raises(AssertionError, match=r"\['query'\]\['bias'\]"):
    check_parameters(config, ours, data)
