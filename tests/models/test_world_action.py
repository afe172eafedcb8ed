"""Functions around the modules: layouts, returns and prefilling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax.models import world_action
from jowa_jax.models.backbone import BackboneConfig
from jowa_jax.models.heads import HeadSizes
from jowa_jax.models.world_action import ReturnConfig, WorldActionConfig
from tests.models import random_params

CONFIG = WorldActionConfig(
  backbone=BackboneConfig(
    num_layers=1,
    width=8,
    num_heads=2,
    vocab_size=5,
    tokens_per_frame=2,
    max_blocks=4,
  ),
  heads=HeadSizes(num_heads=2, width=6),
  returns=ReturnConfig(num_atoms=3, v_min=-1.0, v_max=3.0),
)


def test_interleave_puts_the_action_after_its_frame():
  ids = world_action.interleave(
    jnp.array([[[1, 2], [3, 4]]]), jnp.array([[17, 9]])
  )
  np.testing.assert_array_equal(ids, [[1, 2, 17, 3, 4, 9]])


def test_at_last_observation():
  hidden = jnp.arange(6.0)[None, :, None]
  got = world_action.at_last_observation(CONFIG.backbone, hidden)
  np.testing.assert_array_equal(got, [[[1.0], [4.0]]])


def test_outputs_are_laid_out_action_by_atom():
  logits = jnp.arange(6.0)
  got = world_action.split_atoms(CONFIG.returns, logits)
  np.testing.assert_array_equal(got, [[0, 1, 2], [3, 4, 5]])


def test_heads_are_mixed_as_probabilities():
  probs = np.array([[0.2, 0.3, 0.5], [0.6, 0.2, 0.2]], np.float32)
  logits = jnp.log(probs)[:, None]  # [heads, B, 1 action x 3 atoms]
  mixed = world_action.mixed_returns(CONFIG.returns, logits)
  np.testing.assert_allclose(mixed[0, 0], [0.4, 0.25, 0.35], rtol=1e-5)
  weights = jnp.array([0.75, 0.25])
  mixed = world_action.mixed_returns(CONFIG.returns, logits, weights)
  np.testing.assert_allclose(mixed[0, 0], [0.3, 0.275, 0.425], rtol=1e-5)
  # Atoms -1, 1, 3.
  q = world_action.expected_returns(CONFIG.returns, mixed)
  np.testing.assert_allclose(q, [[1.25]], rtol=1e-5)


def test_scalar_returns_are_plain_means():
  returns = ReturnConfig(num_atoms=1)
  logits = jnp.array([[[1.0, 5.0]], [[3.0, -5.0]]])
  mixed = world_action.mixed_returns(returns, logits)
  q = world_action.expected_returns(returns, mixed)
  np.testing.assert_array_equal(q, [[2.0, 0.0]])


@pytest.mark.parametrize(
  'fields', [{'num_atoms': 0}, {'v_min': 3.0, 'v_max': 3.0}]
)
def test_returns_that_make_no_sense_are_errors(fields):
  with pytest.raises(ValueError, match='returns need'):
    ReturnConfig(**fields)


@pytest.mark.slow
def test_prefill_reads_only_each_rows_context():
  backbone = random_params.like(
    lambda key: world_action.init_backbone(CONFIG.backbone, key)
  )
  rng = np.random.default_rng(0)
  tokens = rng.integers(0, 5, (3, 3, 2))
  actions = rng.integers(0, 18, (3, 3))
  tasks, count = jnp.array([0, 7, 59]), np.array([1, 2, 3])
  hidden, cache = jax.jit(
    lambda p: world_action.prefill(
      CONFIG.backbone, p, tokens, actions, jnp.asarray(count), tasks
    )
  )(backbone)
  assert hidden.shape == (3, 8)
  assert cache.length.tolist() == [2, 5, 8] and not cache.frames
  assert cache.context.valid.sum(axis=1).tolist() == [2, 5, 8]
  # The contexts from the first slot on; what follows them is not read.
  early = [np.roll(x, c, axis=0) for x, c in zip(tokens, count, strict=True)]
  taken = [np.roll(x, c, axis=0) for x, c in zip(actions, count, strict=True)]
  whole = jax.jit(world_action.hidden_states, static_argnums=0)(
    CONFIG.backbone, backbone, jnp.array(early), jnp.array(taken), tasks
  )
  read = world_action.at_last_observation(CONFIG.backbone, whole)
  for row in range(3):
    expected = read[row, count[row] - 1]
    np.testing.assert_allclose(hidden[row], expected, atol=1e-5)
