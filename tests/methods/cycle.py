"""What any method goes through: training, a kill, play, many devices."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import jowa_jax
from jowa_jax import games
from jowa_jax.train.run import Run
from tests.train import helpers

ROOT = pathlib.Path(__file__).parents[2]
GAMES = ('Assault', 'Carnival')


def fields(data, **changes):
  """The fields of a short run that is measured often."""
  return {
    'data__directory': str(data),
    'data__games': GAMES,
    'data__held_out_fraction': 0.3,
    'run__batch_size': 8,
    'run__log_every': 1,
    'run__save_every': 4,
    'run__evaluate_every': 4,
    **changes,
  }


def config_of(method, changes):
  """A `smoke` config with some fields changed, as it is saved."""
  config = helpers.CONFIGS[method].get_config('smoke')
  config = config.copy_and_resolve_references().to_dict()
  helpers.change(config, **changes)
  return json.loads(json.dumps(config))


def as_flags(changes):
  return [
    f'--config.{name.replace("__", ".")}={value}'
    for name, value in changes.items()
  ]


def launch(script, *flags, devices=1):
  """What a script prints."""
  done = subprocess.run(
    [sys.executable, '-m', f'launch.{script}', *flags],
    cwd=ROOT,
    env=helpers.script_env(devices),
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stdout


class Interrupt(Exception):
  """As a lost machine is."""


def check_interrupted(config, trained, workdir):
  """A run of 24 steps, killed after 22, ends as the one in `trained`."""

  def on_step(step):
    if step == 22:
      raise Interrupt

  taken = []
  with pytest.raises(Interrupt):
    Run(config, workdir).train(progress=False, on_step=on_step)
  variables = Run(config, workdir).train(progress=False, on_step=taken.append)
  assert taken == [21, 22, 23, 24]
  expected = jowa_jax.load(trained).variables
  for ours, theirs in (
    (variables.params, expected.params),
    (variables.targets, expected.targets),
  ):
    found = helpers.flat(ours)
    for path, value in helpers.flat(theirs).items():
      np.testing.assert_array_equal(found[path], value, err_msg=path)


def check_play(agent, decisions=8):
  """It plays legal actions; returns them, of every decision."""
  assert agent.method.simulator is None and agent.method.tokenizer is None
  frames = np.random.default_rng(0).integers(0, 256, (2, 84, 84), np.uint8)
  agent.begin(GAMES, epsilon=0.0)
  played = [agent.act(frames, rewards=np.zeros(2)) for _ in range(decisions)]
  for actions in played:
    for game, action in zip(GAMES, actions, strict=True):
      assert action in games.LEGAL_ACTIONS[game]
  return played


def finetune(method, workdir, data, output):
  """Fine-tunes an agent on a game for four steps; returns what is printed."""
  return launch(
    'finetune',
    f'--config=configs/finetune.py:{method}_quickstart',
    *('--game=Carnival', f'--data={data}'),
    *(f'--checkpoint={workdir}', f'--workdir={output}', '--noprogress'),
    '--config.stages.finetune.steps=4',
    *('--config.run.save_every=2', '--config.run.log_every=2'),
    *('--config.run.play_every=2', '--config.run.play_max_frames=80'),
    *('--config.run.batch_size=4', '--config.data.transitions=50'),
  )


def check_eight_devices(method, changes, objective, output):
  """One device and eight, a mesh of all three axes, train the same agent."""
  for devices, axes in ((1, (1, 1, 1)), (8, (2, 2, 2))):
    launch(
      'train',
      f'--config=configs/{method}.py:smoke',
      *as_flags(changes),
      *(
        f'--config.mesh.axes.{name}={size}'
        for name, size in zip(('data', 'fsdp', 'tensor'), axes, strict=True)
      ),
      *(f'--workdir={output}/{devices}', '--noprogress'),
      devices=devices,
    )
  one, eight = (helpers.read_metrics(output / str(n)) for n in (1, 8))
  for ours, theirs in zip(eight, one, strict=True):
    for name in ('loss', 'gradient_norm', 'update_norm'):
      name = f'{name}/{objective}'
      np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4)
  values, others = (
    helpers.flat(jowa_jax.load(output / str(n)).variables.params)
    for n in (1, 8)
  )
  for path, value in values.items():
    scale = max(np.abs(value).max(), 1e-3)
    assert np.abs(others[path] - value).max() < 1e-3 * scale, path
