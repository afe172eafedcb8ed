"""Checkpoints that were written before act as they did and are gone on with.

What they are and how they were made: `tests/data/checkpoints/README.md`.
"""

import json
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jowa_jax
from configs import finetune
from jowa_jax import games
from jowa_jax.recipes import finetuning
from jowa_jax.train.run import Run
from jowa_jax.types import TimeStep
from tests.cases import quick
from tests.train import helpers

# What each method plays by, and the values that it goes by.
OPTIONS = {
  'jowa': {'greedy': {}, 'beam': dict(planner='beam', width=2, horizon=1)},
  'mtbc': {'greedy': {}},
}
VALUES = {'jowa': 'q', 'mtbc': 'logits'}
CASES = quick(
  ((method, name) for method in OPTIONS for name in OPTIONS[method]),
  ('jowa', 'beam'),
)


def outputs(agent, options):
  """Returns what an agent makes of two steps of two games: arrays by name."""
  key = VALUES[agent.config['method']]
  tasks = np.array([games.task_id(game) for game in agent.games], np.int32)
  policy = agent.policy(epsilon=0.0, **options)
  state = policy.init(tasks)
  rng = np.random.default_rng(0)
  found = {}
  for step in range(2):
    frames = rng.integers(0, 256, (len(tasks), 84, 84)).astype(np.uint8)
    actions, state, info = policy.act(
      agent.variables,
      state,
      TimeStep(
        frames=jnp.asarray(frames),
        first=jnp.full(len(tasks), step == 0),
        rewards=None,
      ),
      jax.random.split(jax.random.key(step), len(tasks)),
    )
    found[f'{step}/actions'] = np.asarray(actions)
    found[f'{step}/{key}'] = np.asarray(info[key])
  return found


@pytest.mark.parametrize(('method', 'name'), CASES)
def test_it_acts_as_it_did(method, name, tmp_path):
  run = helpers.older_run(method, tmp_path)
  agent = jowa_jax.load(run)
  assert agent.step == 5
  found = outputs(agent, OPTIONS[method][name])
  expected = np.load(run / 'outputs.npz')
  for key, value in found.items():
    np.testing.assert_allclose(
      value, expected[f'{name}/{key}'], rtol=1e-4, atol=1e-5, err_msg=key
    )


@pytest.mark.slow
@pytest.mark.parametrize('method', ['jowa', 'mtbc'])
def test_it_is_gone_on_with(method, atari_data_dir, tmp_path, caplog):
  run, taken = helpers.older_run(method, tmp_path), []
  config = json.loads((run / 'config.json').read_text())
  config['data']['directory'] = str(atari_data_dir)
  (run / 'config.json').write_text(json.dumps(config))
  with caplog.at_level(logging.WARNING):
    # Another version of the emulator may have played other data.
    variables = Run(config, run).train(
      progress=False, on_step=taken.append, accept_changes=True
    )
  assert taken == [6, 7]
  assert 'another config' not in caplog.text
  for path, value in helpers.flat(variables).items():
    assert np.isfinite(value).all(), path


@pytest.mark.slow
@pytest.mark.parametrize('steps', [0, 1])
def test_it_is_finetuned(steps, atari_data_dir, tmp_path):
  older = str(helpers.older_run('jowa', tmp_path))
  theirs = finetuning.checkpoint_config(older)
  config = finetune.get_config('smoke').copy_and_resolve_references()
  with config.unlocked():
    helpers.change(
      config,
      data__transitions=None,
      stages__finetune__steps=steps,
      run__play_every=0,
      run__log_every=1,
      run__save_every=1,
    )
  config = finetuning.resolve(
    config.to_dict(),
    game='Carnival',
    data=str(atari_data_dir),
    checkpoint=older,
    model=theirs,
  )
  finetuning.check_source(config, {})
  variables = Run(config, tmp_path / 'run').train(progress=False)
  if steps:
    assert jowa_jax.load(tmp_path / 'run').step == steps
    return
  # Before the first step it is the older agent, but for the new game's row.
  old = helpers.flat(jowa_jax.load(older).variables.params)
  for path, value in helpers.flat(variables.params).items():
    if 'task' not in path:
      np.testing.assert_array_equal(value, old[path], err_msg=path)
