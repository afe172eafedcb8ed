"""Training the tokenizer: which frames, which weights, which codes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jowa_jax.methods import tokenizer as tokenizer_lib
from jowa_jax.methods.base import Variables
from jowa_jax.methods.tokenizer import TokenizerTraining
from jowa_jax.models import lpips
from jowa_jax.models.vqvae import VQVAEConfig
from tests.methods import small

PLAIN = TokenizerTraining()


def method(training):
  return small.jowa(tokenizer_training=training)


@pytest.fixture(scope='module')
def variables():
  return small.variables(method(TokenizerTraining(motion_weight=1.0)))


def run_objective(training, variables, batch, seed=0):
  objective = tokenizer_lib.objective(small.TOKENIZER, training)
  assert objective.params == ('tokenizer',)
  return jax.jit(objective.loss)(variables, batch, jax.random.key(seed), 0)


losses_of = jax.jit(tokenizer_lib.tokenizer_losses, static_argnums=0)


def latents_of(variables, frames):
  _, out = losses_of(small.TOKENIZER, variables.params['tokenizer'], frames)
  return np.asarray(out['latents']).reshape(len(frames), -1)


def drawn(latents, pool):
  """Which rows of `pool` the latents [n, K, D] are, sorted."""
  latents = np.asarray(latents).reshape(len(latents), -1)
  distances = np.abs(latents[:, None] - pool[None]).max(-1)
  assert distances.min(axis=1).max() < 1e-4
  return sorted(distances.argmin(axis=1).tolist())


@pytest.mark.slow
def test_padding_is_drawn_last(variables):
  batch = small.segment(mask=[[1, 1, 1, 0], [0, 0, 1, 1]])
  pool = latents_of(variables, batch.observations.reshape(-1, 8, 8))
  valid = np.flatnonzero(batch.mask).tolist()

  @functools.partial(jax.jit, static_argnums=0)
  def latents(count, batch, key):
    training = dataclasses.replace(PLAIN, frames_per_step=count)
    objective = tokenizer_lib.objective(small.TOKENIZER, training)
    return objective.loss(variables, batch, key, 0)[1].carry['latents']

  def draw(count, seed):
    return drawn(latents(count, batch, jax.random.key(seed)), pool)

  assert draw(5, 0) == valid
  three = [draw(3, seed) for seed in range(4)]
  assert all(len(set(x)) == 3 and set(x) <= set(valid) for x in three)
  assert len({tuple(x) for x in three}) > 1
  # One more than there are: every valid frame, and one of padding.
  assert set(valid) < set(draw(6, 0))
  assert draw(100, 0) == list(range(8))


def test_loss_is_the_sum_of_its_terms(variables):
  batch = small.segment()
  value, aux = run_objective(PLAIN, variables, batch)
  frames = batch.observations.reshape(-1, 8, 8)
  terms, out = losses_of(small.TOKENIZER, variables.params['tokenizer'], frames)
  assert set(terms) == {'reconstruction', 'commitment'}
  for name, term in terms.items():
    np.testing.assert_allclose(
      aux.metrics[f'tokenizer/{name}'], term, rtol=1e-5
    )
  np.testing.assert_allclose(value, sum(terms.values()), rtol=1e-5)
  counts = np.bincount(np.ravel(out['tokens']), minlength=small.VOCAB)
  np.testing.assert_array_equal(aux.carry['code_counts'], counts)
  used = counts[counts > 0] / counts.sum()
  perplexity = np.exp(-(used * np.log(used)).sum())
  got = aux.metrics['tokenizer/perplexity']
  np.testing.assert_allclose(got, perplexity, rtol=1e-5)


@pytest.mark.slow
def test_moving_pixels_weigh_more(variables):
  training = TokenizerTraining(motion_weight=20.0, motion_threshold=0.1)
  batch = small.segment()
  # Pong's median frame is bright: where it is, is motion to Freeway.
  medians = small.STATISTICS['median_frames'].copy()
  medians[small.PONG] = 200
  extras = {'median_frames': medians}
  value, aux = run_objective(training, variables.replace(extras=extras), batch)
  frames = batch.observations.reshape(-1, 8, 8)
  median = np.repeat([200, 100], 4)[:, None, None]
  moving = np.abs(frames.astype(float) - median) > 25.5
  terms, out = losses_of(small.TOKENIZER, variables.params['tokenizer'], frames)
  error = np.abs(frames / 127.5 - 1 - np.asarray(out['reconstruction']))
  expected = (error * np.where(moving, 21, 1)).mean()
  plain = aux.metrics['tokenizer/reconstruction']
  np.testing.assert_allclose(plain, error.mean(), rtol=1e-4)
  got = aux.metrics['tokenizer/weighted_reconstruction']
  np.testing.assert_allclose(got, expected, rtol=1e-4)
  np.testing.assert_allclose(value, expected + terms['commitment'], rtol=1e-4)


@pytest.mark.slow
def test_encoder_learns_through_the_codebook(variables):
  frames = small.segment().observations[0]

  @jax.jit
  @jax.grad
  def gradient(params):
    terms, _ = tokenizer_lib.tokenizer_losses(small.TOKENIZER, params, frames)
    return terms['reconstruction']

  grads = gradient(variables.params['tokenizer'])
  assert not np.any(grads['codebook'])
  for name in ('encoder', 'decoder'):
    assert np.abs(grads[name]['conv_in']['kernel']).max() > 0


@pytest.mark.slow
def test_evaluation_leaves_padding_out(variables):
  batch = small.segment(mask=[[1, 1, 0, 0], [1, 0, 0, 0]])
  evaluate = jax.jit(tokenizer_lib.evaluate, static_argnums=0)
  params = variables.params['tokenizer']
  got = evaluate(small.TOKENIZER, params, batch)
  terms, out = losses_of(
    small.TOKENIZER, params, batch.observations[batch.mask]
  )
  np.testing.assert_allclose(
    got['tokenizer/reconstruction'], terms['reconstruction'], rtol=1e-5
  )
  counts = np.bincount(np.ravel(out['tokens']))
  used = counts[counts > 0] / counts.sum()
  np.testing.assert_allclose(
    got['tokenizer/perplexity'],
    np.exp(-(used * np.log(used)).sum()),
    rtol=1e-5,
  )


@pytest.mark.slow
def test_what_is_kept_depends_on_the_options():
  def extras(**options):
    return set(small.variables(method(TokenizerTraining(**options))).extras)

  assert extras() == set()
  assert extras(codebook_init_step=3) == {'code_usage'}
  assert extras(restart_period=3, restart_until=9) == {'code_usage'}
  assert extras(motion_weight=2.0) == {'median_frames'}


CODES = jnp.arange(8.0).reshape(4, 2) * 100
# Outputs of the encoder, all distinct and far from the codes.
LATENTS = jnp.arange(20.0).reshape(2, 5, 2) / 10 - 5
COUNTS = jnp.array([3, 0, 7, 0])


def make_carry(seed=0):
  return {
    'latents': LATENTS,
    'code_counts': COUNTS,
    'code_key': jax.random.key(seed),
  }


def replace(training, step, usage=(0, 0, 0, 0), carry=None):
  variables = Variables(
    params={'tokenizer': {'codebook': CODES, 'decoder': jnp.ones(2)}},
    targets={},
    extras={'code_usage': jnp.array(usage)},
  )
  if carry is None:
    carry = make_carry()
  out = jax.jit(
    lambda step: tokenizer_lib.replace_codes(training, variables, carry, step)
  )(step)
  np.testing.assert_array_equal(out.params['tokenizer']['decoder'], [1, 1])
  codebook = np.asarray(out.params['tokenizer']['codebook'])
  replaced = (codebook != np.asarray(CODES)).any(axis=1)
  # What was replaced sits on outputs of the encoder.
  pool = np.asarray(LATENTS).reshape(-1, 2)
  for row in codebook[replaced]:
    assert np.abs(pool - row).max(axis=1).min() < 0.05
  return replaced.tolist(), out.extras['code_usage'].tolist()


INIT = TokenizerTraining(codebook_init_step=3, restart_noise=0.001)
RESTART = TokenizerTraining(
  restart_period=4, restart_until=8, restart_noise=0.001
)


@pytest.mark.slow
def test_whole_codebook_is_replaced_at_its_step_alone():
  assert replace(INIT, 3, (1, 1, 1, 1)) == ([True] * 4, [0] * 4)
  for step in (1, 2, 4, 6):
    assert replace(INIT, step) == ([False] * 4, [3, 0, 7, 0])


def test_only_codes_unused_since_the_last_time_are_restarted():
  # Code 1 was used earlier in the period, code 3 not at all.
  restarted = [False, False, False, True]
  assert replace(RESTART, 4, (0, 2, 0, 0)) == (restarted, [0] * 4)
  assert replace(RESTART, 8, (0, 2, 0, 0)) == (restarted, [0] * 4)


@pytest.mark.parametrize('step', [1, 3, 5, 12])
def test_usage_is_counted_between_restarts(step):
  kept = [False] * 4
  assert replace(RESTART, step, (0, 2, 0, 0)) == (kept, [3, 2, 7, 0])


def test_no_restart_before_the_codebook_is_initialised():
  training = dataclasses.replace(RESTART, codebook_init_step=6)
  assert replace(training, 4)[0] == [False] * 4
  assert replace(training, 6)[0] == [True] * 4
  assert replace(training, 8)[0] == [False, True, False, True]


def test_other_keys_draw_other_codes():
  def codebook(step, key):
    variables = Variables(
      params={'tokenizer': {'codebook': CODES}},
      targets={},
      extras={'code_usage': jnp.zeros(4, int)},
    )
    carry = make_carry(key)
    training = dataclasses.replace(RESTART, restart_noise=0.5)
    out = tokenizer_lib.replace_codes(training, variables, carry, step)
    return np.asarray(out.params['tokenizer']['codebook'])

  first, again, later = codebook(4, 1), codebook(4, 1), codebook(4, 2)
  np.testing.assert_array_equal(first, again)
  assert (first[1] != later[1]).all()
  assert (first[1] != first[3]).all()


def restarted_shares(at_errors, latents, count=2000):
  """How often each latent becomes a code, of codes that are unused."""
  # The first code is in use, and the others are nowhere near.
  codes = jnp.full((count, 2), 1e3).at[0].set(0.0)
  variables = Variables(
    params={'tokenizer': {'codebook': codes}},
    targets={},
    extras={'code_usage': jnp.zeros(count, int)},
  )
  carry = {
    'latents': jnp.array(latents)[None],
    'code_counts': jnp.zeros(count, int).at[0].set(len(latents)),
    'code_key': jax.random.key(0),
  }
  training = dataclasses.replace(
    RESTART, restart_noise=0.0, restart_at_errors=at_errors
  )
  out = tokenizer_lib.replace_codes(training, variables, carry, 4)
  codebook = np.asarray(out.params['tokenizer']['codebook'])
  np.testing.assert_array_equal(codebook[0], 0)
  return [
    float(np.mean(np.all(codebook[1:] == latent, axis=1)))
    for latent in np.array(latents, np.float32)
  ]


def test_codes_go_where_others_are_far():
  """In proportion to the squared distance, as k-means++ draws its centres."""
  latents = [[0.0, 0.0]] * 7 + [[1.0, 0.0], [0.0, 2.0]]
  shares = restarted_shares(True, latents)
  assert shares[0] == 0
  np.testing.assert_allclose(shares[7:], [0.2, 0.8], atol=0.03)
  np.testing.assert_allclose(
    restarted_shares(False, latents)[7:], [1 / 9] * 2, atol=0.03
  )
  # Where all lie on codes, none is preferred.
  same = restarted_shares(True, [[0.0, 0.0]] * 3)
  assert same == [1.0] * 3


def test_nothing_happens_when_off_or_not_trained():
  variables = Variables(params={}, targets={}, extras={})
  carry = make_carry()
  assert tokenizer_lib.replace_codes(PLAIN, variables, carry, 3) is variables
  assert tokenizer_lib.replace_codes(INIT, variables, {}, 3) is variables


def embed(codes, scale=0.5, objectives=('world',), before=('tokenizer',)):
  table = jnp.zeros((len(codes), 6))
  variables = Variables(
    params={
      'tokenizer': {'codebook': jnp.asarray(codes, jnp.float32)},
      'backbone': {'observation_embedding': table},
    },
    targets={},
    extras={},
  )
  training = TokenizerTraining(embed_codes=scale)
  out = tokenizer_lib.embed_codes(training, variables, objectives, before)
  return np.asarray(out.params['backbone']['observation_embedding'])


def test_codes_that_are_alike_are_embedded_alike():
  rng = np.random.default_rng(0)
  codes = rng.normal(size=(30, 4))
  codes[1] = codes[0] + 0.01
  # A direction of little variance tells codes apart as well as the others.
  codes[:, 3] *= 0.1
  codes[2] = codes[0] + [0, 0, 0, 0.3]
  table = embed(codes)
  np.testing.assert_allclose(table.std(), 0.5, rtol=1e-5)
  apart = np.linalg.norm(table - table[0], axis=1)
  assert apart[1] < 0.1 * np.median(apart) < apart[2]
  # Whitened: the size of the codebook does not matter.
  np.testing.assert_allclose(embed(7 * codes), table, atol=1e-4)


@pytest.mark.parametrize(
  'case',
  [
    {'scale': 0.0},
    {'before': ()},
    {'before': ('tokenizer', 'world')},
    {'objectives': ('tokenizer', 'world')},
  ],
)
def test_codes_are_embedded_after_a_tokenizer_alone_if_at_all(case):
  codes = np.random.default_rng(0).normal(size=(30, 4))
  assert not embed(codes, **case).any()


@pytest.mark.slow
def test_the_perceptual_term_is_trained_when_weights_are_given(tmp_path):
  weights = jax.jit(lpips.init_params)(jax.random.key(0))
  names = {}
  for slice_, indices in enumerate(
    ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)), start=1
  ):
    for place, index in enumerate(indices, start=1):
      layer = weights[f'conv{slice_}_{place}']
      prefix = f'lpips.net.slice{slice_}.{index}'
      names[f'{prefix}.weight'] = np.transpose(layer['kernel'], (3, 2, 0, 1))
      names[f'{prefix}.bias'] = np.asarray(layer['bias'])
    names[f'lpips.lin{slice_ - 1}.model.1.weight'] = np.reshape(
      weights[f'lin{slice_ - 1}'], (1, -1, 1, 1)
    )
  path = tmp_path / 'lpips.npz'
  np.savez(path, **names)
  config = VQVAEConfig(
    channels=4,
    res_blocks=1,
    downsample=(2, 2),
    latent_channels=4,
    vocab_size=8,
    embedding_dim=4,
    resolution=16,
  )
  training = TokenizerTraining(frames_per_step=2, perceptual_weights=str(path))
  objective = tokenizer_lib.objective(config, training)
  variables = Variables(
    params={
      'tokenizer': nn.meta.unbox(
        jax.jit(tokenizer_lib.init, static_argnums=0)(config, jax.random.key(1))
      )
    },
    targets={},
    extras={},
  )
  batch = small.segment()
  shape = (*batch.mask.shape, 16, 16)
  frames = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
  batch = batch.replace(observations=frames)
  total, aux = jax.jit(objective.loss)(variables, batch, jax.random.key(2), 0)
  terms = [
    aux.metrics[f'tokenizer/{name}']
    for name in ('reconstruction', 'commitment', 'perceptual')
  ]
  assert terms[2] > 0
  np.testing.assert_allclose(total, sum(terms), rtol=1e-6)
