"""One real training step of every config, traced once and donated."""

import jax
import numpy as np
import pytest

from jowa_jax.methods.factory import make_method
from jowa_jax.train import state as state_lib
from jowa_jax.train import step as step_lib
from jowa_jax.train.optimizer import OptimizerConfig
from tests.cases import quick
from tests.train import helpers

# The top-level parameters that each stage trains.
TRAINED = {
  ('jowa', 'stage1'): {'tokenizer', 'backbone', 'world_heads'},
  ('jowa', 'stage2'): {'backbone', 'world_heads', 'q_heads'},
  ('mtbc', 'stage1'): {'tokenizer', 'backbone', 'policy_heads'},
  ('mtbc', 'stage2'): {'backbone', 'policy_heads'},
}
# The bias of attention keys adds the same to all logits of a softmax: its
# gradient is zero but for rounding.
UNMOVED = ("['key']['bias']", "['k']['bias']")


# The methods differ by their heads alone, which tests of MTBC train too.
@pytest.mark.parametrize(
  ('method', 'stage'), quick(TRAINED, ('jowa', 'stage2'))
)
def test_step_trains_its_parts_and_nothing_else(
  method, stage, real_batch, atari_data_dir
):
  config = helpers.tiny_config(atari_data_dir, method)
  _, parsed, state, places, mesh = helpers.begin(config, stage)
  step = step_lib.compile_step(
    make_method(config), parsed, 0, seed=0, mesh=mesh, shardings=places
  )
  before = helpers.flat(state.variables)
  batch = real_batch(length=2)
  old = state
  state, metrics = step(state, batch)
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old))
  for name in parsed.optimizers:
    assert np.isfinite(metrics[f'loss/{name}']), name
    assert metrics[f'gradient_norm/{name}'] > 0, name
  assert all(np.isfinite(value) for value in metrics.values())
  _check_changes(before, helpers.flat(state.variables), TRAINED[method, stage])
  for _ in range(2):
    state, metrics = step(state, batch)
  assert step._cache_size() == 1
  assert int(state.step) == 3
  if stage == 'stage2':
    _check_randomness(config, step, batch)


def _check_randomness(config, step, batch):
  """The update is a function of the seed and of the step's number."""

  def update(number):
    state = helpers.begin(config, 'stage2')[2]
    state, _ = step(state.replace(step=state.step + number), batch)
    return helpers.flat(state.variables.params['backbone'])

  first, again, later = update(0), update(0), update(6)
  for path, value in first.items():
    np.testing.assert_array_equal(value, again[path], err_msg=path)
  # Dropout draws anew at another step.
  kernel = "['layer_0']['mlp_0']['kernel']"
  assert (first[kernel] != later[kernel]).any()


def _check_changes(before, after, trained):
  assert before.keys() == after.keys()
  assert trained == {
    name
    for name in trained
    if any(
      (before[path] != after[path]).any()
      for path in before
      if path.startswith(f".params['{name}']")
    )
  }
  for path, value in after.items():
    assert np.isfinite(value).all(), path
    within = any(path.startswith(f".params['{name}']") for name in trained)
    if not within:
      np.testing.assert_array_equal(value, before[path], err_msg=path)
    elif not any(word in path for word in UNMOVED):
      assert (value != before[path]).any(), path


@pytest.mark.slow
def test_a_batch_in_parts_is_a_batch(real_batch, atari_data_dir):
  """Without padding, which would weigh more in a part that has less of it."""
  config = helpers.comparable_config(atari_data_dir)
  method, stage, start, _, _ = helpers.begin(config, 'stage2')
  batch = real_batch(length=2)
  assert batch.mask.all()
  # Ends have no target: as many in each part, or the means weigh otherwise.
  batch = batch.replace(ends=np.zeros_like(batch.ends))
  found = [
    jax.jit(step_lib.step_fn(method, stage, 0, 0, parts))(start, batch)
    for parts in (1, 2)
  ]
  for whole, parts in zip(*map(jax.tree.leaves, found), strict=True):
    np.testing.assert_allclose(whole, parts, rtol=1e-4, atol=1e-5)


def test_target_heads_are_copied_every_period(atari_data_dir):
  config = helpers.tiny_config(atari_data_dir, losses__target_period=3)
  method, _, state, _, _ = helpers.begin(config, 'stage2')
  variables = state.variables
  for step, copied in ((1, False), (2, False), (3, True), (4, False)):
    updated = method.after_update(variables, {}, np.int32(step))
    online, old, new = (
      helpers.flat(tree)
      for tree in (
        variables.params['q_heads'],
        variables.targets['q_heads'],
        updated.targets['q_heads'],
      )
    )
    for path, value in new.items():
      expected = online[path] if copied else old[path]
      np.testing.assert_array_equal(value, expected, err_msg=path)


@pytest.mark.slow
def test_stage_of_another_method_is_refused(atari_data_dir):
  method = make_method(helpers.tiny_config(atari_data_dir))
  for optimizers in ({'policy': OptimizerConfig()}, {}):
    stage = state_lib.Stage('cloning', 1, optimizers)
    with pytest.raises(ValueError, match='cloning.*world_action'):
      state_lib.check_stage(method, stage)
