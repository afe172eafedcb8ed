"""Decision transformers go through everything that JOWA does, as it does."""

import json
import pathlib

import numpy as np
import pytest

import jowa_jax
from jowa_jax import games
from jowa_jax.bench import train as bench
from jowa_jax.train.run import Run
from tests.train import helpers

ROOT = pathlib.Path(__file__).parents[2]
GAMES = ('Assault', 'Carnival')
METHODS = ('mgdt', 'edt')
# Of every config here: a frame is four patches.
TINY = dict(
  backbone__patch=42,
  backbone__num_layers=1,
  backbone__width=16,
  backbone__steps=3,
)


def changes(data, **more):
  return {
    **TINY,
    'data__directory': str(data),
    'data__games': GAMES,
    'data__held_out_fraction': 0.3,
    'run__batch_size': 8,
    'run__log_every': 1,
    'run__save_every': 4,
    'run__evaluate_every': 4,
    'stages__policy__steps': 24,
    'stages__policy__policy__learning_rate': 3e-3,
    **more,
  }


def config_of(method, data, **more):
  config = helpers.CONFIGS[method].get_config('smoke')
  config = config.copy_and_resolve_references().to_dict()
  helpers.change(config, **changes(data, **more))
  return json.loads(json.dumps(config))


def as_flags(fields):
  return [
    f'--config.{name.replace("__", ".")}={value}'
    for name, value in fields.items()
  ]


@pytest.fixture(scope='module')
def run_script(launch):
  """What a script that must succeed prints."""

  def run(script, *flags, devices=1):
    done = launch(script, *flags, devices=devices)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout

  return run


@pytest.fixture(scope='module', params=METHODS)
def trained(request, atari_data_dir, tmp_path_factory):
  """A method's name and the directory of its run."""
  workdir = tmp_path_factory.mktemp(request.param) / 'run'
  Run(config_of(request.param, atari_data_dir), workdir).train(progress=False)
  return request.param, workdir


def test_it_learns(trained):
  _, workdir = trained
  records = helpers.read_metrics(workdir)
  assert [record['step'] for record in records] == [*range(1, 25)]
  cloning = [record['policy/cross_entropy'] for record in records]
  assert np.mean(cloning[-6:]) < np.mean(cloning[:6]) - 0.1
  rates = [record['lr/policy'] for record in records[:3]]
  # The first step is not taken at a rate of 0.
  np.testing.assert_allclose(rates, [1.5e-3, 3e-3, 3e-3], rtol=1e-5)
  assert records[-1]['held_out/policy/accuracy'] >= 0
  assert records[-1]['held_out/returns/cross_entropy'] > 0


class Interrupt(Exception):
  """As a lost machine is."""


def test_an_interrupted_run_is_the_same_run(trained, atari_data_dir, tmp_path):
  def on_step(step):
    if step == 22:
      raise Interrupt

  method, workdir = trained
  config, taken = config_of(method, atari_data_dir), []
  with pytest.raises(Interrupt):
    Run(config, tmp_path).train(progress=False, on_step=on_step)
  variables = Run(config, tmp_path).train(progress=False, on_step=taken.append)
  assert taken == [21, 22, 23, 24]
  found = helpers.flat(variables.params)
  expected = helpers.flat(jowa_jax.load(workdir).variables.params)
  for path, value in expected.items():
    np.testing.assert_array_equal(found[path], value, err_msg=path)


def test_it_acts(trained):
  agent = jowa_jax.load(trained[1])
  assert agent.method.simulator is None and agent.method.tokenizer is None
  frames = np.random.default_rng(0).integers(0, 256, (2, 84, 84), np.uint8)
  agent.begin(GAMES, epsilon=0.0)
  played = [agent.act(frames, rewards=np.zeros(2)) for _ in range(8)]
  for actions in played:
    for game, action in zip(GAMES, actions, strict=True):
      assert action in games.LEGAL_ACTIONS[game]
  # Actions are drawn, from the same frames.
  assert len({tuple(actions) for actions in played}) > 2


@pytest.mark.slow
def test_it_is_evaluated_and_told_of(run_script, trained, tmp_path):
  method, workdir = trained
  run_script(
    'evaluate',
    *(f'--checkpoint={workdir}', '--games=Assault', '--rollouts=2'),
    *('--kappa=3', '--config.protocol.max_frames=80'),
    *(f'--output={tmp_path}/{method}.jsonl', '--noprogress'),
  )
  rollouts = (tmp_path / f'{method}.jsonl').read_text().splitlines()
  assert len(rollouts) == 2 and '"kappa": 3.0' in rollouts[0]
  page = run_script(
    'report',
    *(f'--results={tmp_path}/{method}.jsonl', f'--runs={workdir}'),
    f'--output={tmp_path}/index.html',
  ).strip()
  text = pathlib.Path(page).read_text()
  assert '<h4>Policy' in text and '<h4>Returns' in text


@pytest.mark.slow
def test_it_is_finetuned(run_script, trained, atari_data_dir, tmp_path):
  method, workdir = trained
  done = run_script(
    'finetune',
    f'--config=configs/finetune.py:{method}_quickstart',
    *('--game=Carnival', f'--data={atari_data_dir}'),
    *(f'--checkpoint={workdir}', f'--workdir={tmp_path}/run', '--noprogress'),
    '--config.stages.finetune.steps=4',
    *('--config.run.save_every=2', '--config.run.log_every=2'),
    *('--config.run.play_every=2', '--config.run.play_max_frames=80'),
    *('--config.run.batch_size=4', '--config.data.transitions=50'),
  )
  assert 'play/Carnival: best' in done and 'launch.evaluate' in done
  before, after = jowa_jax.load(workdir), jowa_jax.load(tmp_path / 'run')
  assert after.config['backbone'] == before.config['backbone']
  assert after.games == ('Carnival',)
  theirs = helpers.flat(before.variables.params)
  for path, value in helpers.flat(after.variables.params).items():
    assert value.shape == theirs[path].shape
    # From there, and a few steps further.
    assert np.abs(value - theirs[path]).max() < 0.01, path


def comparable(data):
  """Runs agree whatever divides the work: see `helpers.comparable_config`."""
  return changes(
    data,
    backbone__dropout=0.0,
    stages__policy__steps=4,
    stages__policy__policy__eps=1e-3,
    run__evaluate_every=0,
  )


@pytest.mark.slow
@pytest.mark.parametrize('method', METHODS)
def test_eight_devices_train_the_same_agent(
  run_script, method, atari_data_dir, tmp_path
):
  fields = as_flags(comparable(atari_data_dir))
  for devices, axes in ((1, (1, 1, 1)), (8, (2, 2, 2))):
    run_script(
      'train',
      f'--config=configs/{method}.py:smoke',
      *fields,
      *(
        f'--config.mesh.axes.{name}={size}'
        for name, size in zip(('data', 'fsdp', 'tensor'), axes, strict=True)
      ),
      *(f'--workdir={tmp_path}/{devices}', '--noprogress'),
      devices=devices,
    )
  one, eight = (helpers.read_metrics(tmp_path / str(n)) for n in (1, 8))
  for ours, theirs in zip(eight, one, strict=True):
    for name in ('loss/policy', 'gradient_norm/policy', 'update_norm/policy'):
      np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4)
  values, others = (
    helpers.flat(jowa_jax.load(tmp_path / str(n)).variables.params)
    for n in (1, 8)
  )
  for path, value in values.items():
    scale = max(np.abs(value).max(), 1e-3)
    assert np.abs(others[path] - value).max() < 1e-3 * scale, path


@pytest.mark.parametrize('method', METHODS)
def test_micro_batches_are_augmented(method, atari_data_dir, tmp_path):
  config = config_of(
    method, atari_data_dir, stages__policy__steps=2, run__accumulate=2
  )
  Run(config, tmp_path).train(progress=False)
  records = helpers.read_metrics(tmp_path)
  assert np.isfinite([record['loss/policy'] for record in records]).all()


@pytest.mark.parametrize('method', METHODS)
def test_a_step_is_measured(method, atari_data_dir):
  (record,) = bench.run_config(config_of(method, atari_data_dir), seconds=0.01)
  assert record['stage'] == 'policy' and record['step_seconds'] > 0
  assert record['model_flops'] > 0 and record['frames'] == 'pixels'
