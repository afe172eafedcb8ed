"""Imagined segments against the authors' program."""

import dataclasses

import jax
import numpy as np

from jowa_jax.methods import tokenizer as tokenizer_lib
from jowa_jax.methods.imagination import Imagination, dream_segments
from tests.parity import fixtures


def test_imagined_segments():
  data = fixtures.load('imagination')
  weights = fixtures.under(data, 'state_dict')
  model = fixtures.model_config(weights)
  params = fixtures.model_params(model, weights, targets=False)
  weights = fixtures.under(data, 'tokenizer_state_dict')
  tokenizer = fixtures.tokenizer_config(weights)
  tokenizer_params = fixtures.tokenizer_params(tokenizer, weights)
  frames = data['observations_uint8']
  tokens = tokenizer_lib.encode(tokenizer, tokenizer_params, frames)
  _, batch = fixtures.segment(
    {**fixtures.under(data, 'batch'), 'observations': np.asarray(tokens)}
  )
  horizon = int(data['horizon'])
  imagination = Imagination(
    policy='planning', horizon=horizon, width=int(data['beam_width'])
  )

  ours, _ = jax.jit(dream_segments, static_argnums=(0, 1))(
    model, imagination, params, tokens, batch, jax.random.key(0)
  )
  theirs = fixtures.under(data, 'imagined')
  # The recorded actions and rewards are right from the first dreamed step to
  # the last but one: before it they are misaligned, and the last is a dummy.
  dreamed = slice(-horizon - 1, -1)
  np.testing.assert_array_equal(
    ours.actions[:, dreamed], theirs['actions'][:, dreamed]
  )
  np.testing.assert_array_equal(
    ours.rewards[:, dreamed], theirs['rewards'][:, dreamed]
  )
  # Real ones stand beside the frames in which they were taken.
  real = slice(horizon, -1)
  for name in ('actions', 'rewards'):
    np.testing.assert_array_equal(
      getattr(ours, name)[:, : -horizon - 1], getattr(batch, name)[:, real]
    )
  np.testing.assert_array_equal(ours.tokens[:, :-horizon], tokens[:, horizon:])
  np.testing.assert_array_equal(
    theirs['observations'][:, :-horizon, 0], frames[:, horizon:]
  )
  # Theirs are kept as pixels, cut off to whole numbers.
  pixels = tokenizer_lib.decode(
    tokenizer, tokenizer_params, ours.tokens[:, -horizon:]
  )
  recorded = theirs['observations'][:, -horizon:, 0]
  assert np.abs(np.int32(pixels) - recorded).max() <= 1
  np.testing.assert_array_equal(ours.ends, theirs['ends'])
  np.testing.assert_array_equal(ours.mask, theirs['mask_padding'])
  np.testing.assert_array_equal(ours.task, theirs['envs'])
  assert ours.imagined.all()
  assert ours.acted[:, :-1].all() and not ours.acted[:, -1].any()


def test_what_is_not_all_real_stays():
  data = fixtures.load('imagination')
  weights = fixtures.under(data, 'state_dict')
  model = fixtures.model_config(weights)
  params = fixtures.model_params(model, weights, targets=False)
  rng = np.random.default_rng(0)
  shape = (*data['batch/actions'].shape, model.backbone.tokens_per_frame)
  tokens = rng.integers(0, model.backbone.vocab_size, shape)
  _, batch = fixtures.segment(
    {**fixtures.under(data, 'batch'), 'observations': tokens}
  )
  mask = np.array(batch.mask)
  mask[0, -1] = mask[1, 0] = False  # too early an end; padding before
  places = np.arange(len(mask))
  batch = batch.replace(
    mask=mask,
    return_to_go=rng.normal(size=mask.shape).astype(np.float32),
    episode_id=places,
    t=places,
  )
  ours, _ = jax.jit(dream_segments, static_argnums=(0, 1))(
    model, Imagination(policy='planning'), params, tokens, batch, None
  )
  np.testing.assert_array_equal(
    ours.imagined, np.arange(len(mask)) > 0, err_msg='which go on'
  )
  for field in dataclasses.fields(batch):
    value = getattr(batch, field.name)
    # Nothing stands around a segment of JOWA: all of it is trained.
    if field.name not in (
      *('imagined', 'tokens', 'acted', 'observations', 'train'),
    ):
      assert value is not None
      np.testing.assert_array_equal(getattr(ours, field.name)[0], value[0])
  np.testing.assert_array_equal(ours.tokens[0], tokens[0])
  assert ours.acted[0].all() and ours.mask[1:].all()
