"""Decision transformers go through everything that JOWA does, as it does."""

import pathlib

import numpy as np
import pytest

import jowa_jax
from jowa_jax.bench import train as bench
from jowa_jax.train.run import Run
from tests.methods import cycle
from tests.methods.cycle import launch
from tests.train import helpers

pytestmark = pytest.mark.slow

METHODS = ('mgdt', 'edt')
# Of every config here: a frame is four patches.
TINY = dict(
  backbone__patch=42,
  backbone__num_layers=1,
  backbone__width=16,
  backbone__steps=3,
)


def changes(data, **more):
  return cycle.fields(
    data,
    **{
      **TINY,
      'stages__policy__steps': 24,
      'stages__policy__policy__learning_rate': 3e-3,
      **more,
    },
  )


def config_of(method, data, **more):
  return cycle.config_of(method, changes(data, **more))


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


def test_an_interrupted_run_is_the_same_run(trained, atari_data_dir, tmp_path):
  method, workdir = trained
  cycle.check_interrupted(config_of(method, atari_data_dir), workdir, tmp_path)


def test_it_acts(trained):
  played = cycle.check_play(jowa_jax.load(trained[1]))
  # Actions are drawn, from the same frames.
  assert len({tuple(actions) for actions in played}) > 2


def test_it_is_evaluated_and_told_of(trained, tmp_path):
  method, workdir = trained
  launch(
    'evaluate',
    *(f'--checkpoint={workdir}', '--games=Assault', '--rollouts=2'),
    *('--kappa=3', '--config.protocol.max_frames=80'),
    *(f'--output={tmp_path}/{method}.jsonl', '--noprogress'),
  )
  rollouts = (tmp_path / f'{method}.jsonl').read_text().splitlines()
  assert len(rollouts) == 2 and '"kappa": 3.0' in rollouts[0]
  page = launch(
    'report',
    *(f'--results={tmp_path}/{method}.jsonl', f'--runs={workdir}'),
    f'--output={tmp_path}/index.html',
  ).strip()
  text = pathlib.Path(page).read_text()
  assert '<h4>Policy' in text and '<h4>Returns' in text
  told = launch('judge', f'--checkpoint={workdir}', f'--output={tmp_path}')
  assert 'Assault: policy right ' in told and '; returns right ' in told
  assert ('rewards right' in told) == (method == 'mgdt')


def test_it_is_finetuned(trained, atari_data_dir, tmp_path):
  method, workdir = trained
  done = cycle.finetune(method, workdir, atari_data_dir, tmp_path / 'run')
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


@pytest.mark.parametrize('method', METHODS)
def test_eight_devices_train_the_same_agent(method, atari_data_dir, tmp_path):
  fields = comparable(atari_data_dir)
  cycle.check_eight_devices(method, fields, 'policy', tmp_path)


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
