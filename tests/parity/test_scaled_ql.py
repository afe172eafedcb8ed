"""Scaled-QL against recordings: of programs, and of the papers' formulas."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jowa_jax.losses.q_learning import (
  bootstrap_targets,
  c51_loss,
  categorical_projection,
  cql_terms,
  mse_loss,
)
from jowa_jax.methods import scaled_ql
from jowa_jax.methods.base import Variables, is_kernel
from jowa_jax.methods.scaled_ql import (
  ScaledQlConfig,
  ScaledQlLosses,
  Transitions,
)
from jowa_jax.models import q_network
from jowa_jax.models.resnet import Encoder
from jowa_jax.train.optimizer import OptimizerConfig, make_optimizer
from tests.parity import q_learning

NETWORKS = ('scaledql_basic', 'scaledql_bottleneck')


@pytest.fixture(scope='module', params=NETWORKS)
def recording(request):
  return q_learning.load(request.param)


def network(data):
  return q_learning.encoder_config(data), q_learning.network_config(data)


def test_every_parameter_is_filled(recording):
  encoder, config = network(recording)
  games = len(recording['legal'])
  template = jax.eval_shape(
    lambda key: nn.meta.unbox(q_network.init(encoder, config, games, key)),
    jax.random.key(0),
  )
  filled = q_learning.params(recording, 'state_dict')
  assert jax.tree.structure(filled) == jax.tree.structure(template)
  shapes = jax.tree.map(lambda x: x.shape, (filled, template))
  assert shapes[0] == shapes[1]


def test_outputs(recording):
  encoder, config = network(recording)
  outputs = jax.jit(q_network.apply, static_argnums=(0, 1))(
    encoder,
    config,
    q_learning.params(recording, 'state_dict'),
    recording['frames'],
    recording['task'],
  )
  for name, value in outputs._asdict().items():
    q_learning.assert_close(value, recording[f'out/{name}'], name)
  np.testing.assert_allclose(config.atoms, recording['support'], rtol=1e-6)


def test_the_encoder_with_strides_of_its_own():
  data = q_learning.load('encoder_strides_1211')
  params = q_learning.params(data, 'state_dict')
  embedding = jax.jit(Encoder(q_learning.encoder_config(data)).apply)(
    {'params': params['encoder']}, data['frames']
  )
  q_learning.assert_close(embedding, data['out/embedding'])


def method_config(data, **losses):
  encoder, config = network(data)
  weight = float(data['cql_coefficient'])
  return ScaledQlConfig(
    encoder, config, ScaledQlLosses(cql_weight=weight, **losses)
  )


def transitions(data):
  return Transitions(
    stacks=data['frames'],
    next_stacks=data['next_frames'],
    actions=data['action'],
    returns=data['n_step_return'],
    discounts=data['discount'],
    legal=data['legal'][data['task']],
    rows=data['task'],
    trained=np.ones(len(data['task']), bool),
  )


def variables_of(data):
  return Variables(
    params=q_learning.params(data, 'state_dict'),
    targets=q_learning.params(data, 'target_state_dict'),
    extras={},
  )


@pytest.mark.parametrize('double', [False, True])
def test_targets(recording, double):
  config, data = method_config(recording, double=double), recording
  found = jax.jit(scaled_ql.errors, static_argnums=0)(
    config, variables_of(data), transitions(data)
  )
  atoms = config.q_network.atoms
  support = data['n_step_return'][:, None] + data['discount'][:, None] * atoms
  projected = jax.vmap(categorical_projection, (0, 0, None))(
    found.bootstrapped, support, atoms
  )
  name = 'target/probs_double' if double else 'target/probs'
  q_learning.assert_close(projected, data[name])


def test_losses_gradients_and_adam(recording):
  """Three updates on one batch, of which the first gradients are recorded."""
  config, batch = method_config(recording), transitions(recording)
  variables = variables_of(recording)
  optimizer = make_optimizer(
    OptimizerConfig(
      learning_rate=float(recording['adam_lr']),
      clip=float(recording['clip_norm']),
      eps=float(recording['adam_eps']),
      kind='adam',
    ),
    steps=3,
    decays=is_kernel,
  )

  @functools.partial(jax.value_and_grad, has_aux=True)
  def loss(params, variables, batch):
    terms = scaled_ql.metrics(config, variables.replace(params=params), batch)
    return scaled_ql.total_loss(config.losses, terms), terms

  # What is fixed is an argument, too: of constants, XLA would compute all that
  # it can while it compiles, and slowly.
  @jax.jit
  def update(params, state, variables, batch):
    (total, terms), gradients = loss(params, variables, batch)
    updates, state = optimizer.update(gradients, state, params)
    return optax.apply_updates(params, updates), state, total, terms, gradients

  params, state = variables.params, optimizer.init(variables.params)
  for step in range(3):
    params, state, total, terms, gradients = update(
      params, state, variables, batch
    )
    if step == 0:
      q_learning.assert_close(terms['q/td'], recording['loss/td'])
      q_learning.assert_close(terms['q/cql'], recording['loss/cql'])
      q_learning.assert_close(total, recording['loss/total'])
      q_learning.assert_gradients_close(
        gradients, q_learning.params(recording, 'grad')
      )
    q_learning.assert_close(total, recording['adam_loss'][step])
    norm = optax.tree.norm(gradients)
    np.testing.assert_allclose(norm, recording['adam_grad_norm'][step], 2e-3)
  for module, arrays in q_learning.params(recording, 'adam').items():
    jax.tree.map(q_learning.assert_close, params[module], arrays)


@pytest.mark.parametrize('kind', ['c51', 'c51_double', 'mse'])
def test_losses_of_a_table(kind):
  """Dopamine's training step on logits, and ours on scalars."""
  data = q_learning.load('dopamine_losses')
  actions, atoms = data['action'], data['support']
  discounts = data['cumulative_discount'] * (1 - data['terminal'])
  given = actions, data['n_step_return'], discounts
  scalar, allowed = kind == 'mse', np.ones(data['online_q'].shape, bool)
  online = data['online_q' if scalar else 'online_logits']

  def expected(logits):
    return jax.nn.softmax(logits) @ atoms

  if scalar:
    later, q = data['target_next_q'][..., None], data['target_next_q']
  else:
    later = jax.nn.softmax(data['target_next_logits'])
    name = 'online' if kind == 'c51_double' else 'target'
    q = expected(data[f'{name}_next_logits'])
  chosen, _ = jax.vmap(bootstrap_targets)(later, q, allowed)

  def loss(x):
    if scalar:
      td, q = mse_loss(x, *given, chosen[:, 0]), x
    else:
      td, q = c51_loss(jax.nn.softmax(x), *given, chosen, atoms), expected(x)
    soft_maximum, taken = cql_terms(q, actions)
    td, cql = td.mean(), (soft_maximum - taken).mean()
    return td + data['cql_coefficient'] * cql, (td, cql)

  (total, (td, cql)), gradient = jax.value_and_grad(loss, has_aux=True)(
    jnp.asarray(online)
  )
  for name, value in (('total', total), ('td', td), ('cql', cql)):
    q_learning.assert_close(value, data[f'{kind}/{name}'], name)
  q_learning.assert_gradients_close(
    {'table': gradient}, {'table': data[f'{kind}/grad']}
  )
