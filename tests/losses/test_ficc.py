"""FICC's cycle losses, by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from jowa_jax.losses import ficc


def test_excess_cross_entropy():
  logits = jnp.array([0.0, 0.0, 0.0, 200.0, -200.0])
  targets = jnp.array([0.5, 1.0, 0.25, 0.0, 0.0])
  entropy = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
  np.testing.assert_allclose(
    ficc.excess_bce(logits, targets),
    # A prediction of the target costs nothing; logarithms end at -100.
    [0, np.log(2), np.log(2) - entropy, 100, 0],
    atol=1e-6,
  )


def test_frames_are_summed_over_pixels():
  frames = jnp.array([[[1.0, 0.0], [0.0, 0.0]], [[0.5] * 2] * 2])
  found = ficc.frame_loss(jnp.zeros((2, 2, 2)), frames)
  np.testing.assert_allclose(found, [4 * np.log(2), 0], atol=1e-6)


def test_changes_at_every_scale():
  before = jnp.array([[0.0, 0.2], [0.8, 0.5]])
  after = jnp.array([[0.3, 0.1], [0.2, 0.5]])
  coarse, fine = ficc.changes(jnp.stack([before, after]), scales=2)
  np.testing.assert_allclose(
    fine[0, ..., 0], [[0.3, 0], [0, 0]], rtol=1e-6, atol=1e-7
  )
  np.testing.assert_allclose(
    fine[0, ..., 1], [[0, 0.1], [0.6, 0]], rtol=1e-6, atol=1e-7
  )
  np.testing.assert_allclose(coarse[0, 0, 0], [0.3, 0.6], rtol=1e-6)

  logits = [jnp.zeros((1, 1, 1, 2)), jnp.zeros((1, 2, 2, 2))]
  frames = jnp.stack([before, before])  # nothing changes
  both = ficc.change_loss(logits, frames, finest_only=False)
  finest = ficc.change_loss(logits, frames, finest_only=True)
  np.testing.assert_allclose(both, [10 * np.log(2)], rtol=1e-6)
  np.testing.assert_allclose(finest, [8 * np.log(2)], rtol=1e-6)


def test_cycles_compare_directions():
  predicted = jnp.array([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [0.0, 0.0]])
  targets = jnp.array([[5.0, 0.0], [4.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
  np.testing.assert_allclose(
    ficc.cycle_loss(predicted, targets), [0, 1, 2, 1], atol=1e-6
  )
  to_predicted, to_targets = jax.grad(
    lambda *both: ficc.cycle_loss(*both).sum(), (0, 1)
  )(predicted, targets)
  np.testing.assert_array_equal(to_targets, np.zeros((4, 2)))
  # Of a unit of 3: what is missing sideways, by its length.
  np.testing.assert_allclose(to_predicted[1], [-1 / 3, 0], atol=1e-6)
  assert np.isfinite(to_predicted).all()


def test_codes_and_latents_meet():
  latents, rows = jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 2.0]])
  found = ficc.code_loss(latents, rows, commitment=0.5)
  np.testing.assert_allclose(found, [2 + 0.5 * 2])
  to_latents, to_rows = jax.grad(
    lambda *both: ficc.code_loss(*both, commitment=0.5).sum(), (0, 1)
  )(latents, rows)
  np.testing.assert_allclose(to_rows, [[2, 0]])
  np.testing.assert_allclose(to_latents, [[-1, 0]])
