"""Scaled-QL goes through everything that JOWA does, as it does."""

import pathlib

import numpy as np
import pytest

import jowa_jax
from jowa_jax.bench import decisions
from jowa_jax.bench import train as bench
from jowa_jax.checkpoint.manager import CheckpointError
from jowa_jax.train.run import Run
from tests.methods import cycle
from tests.methods.cycle import launch
from tests.train import helpers

pytestmark = pytest.mark.slow


def changes(data, **more):
  tiny = dict(
    encoder__stage_sizes=(1,),
    encoder__stage_strides=(1,),
    encoder__spatial_features=2,
    q_network__mlp_layers=1,
    losses__length=2,
    stages__q__steps=24,
    stages__q__q__learning_rate=3e-2,
  )
  return cycle.fields(data, **{**tiny, **more})


def config_of(data, **more):
  return cycle.config_of('scaled_ql', changes(data, **more))


@pytest.fixture(scope='module')
def trained(atari_data_dir, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('scaled_ql') / 'run'
  Run(config_of(atari_data_dir), workdir).train(progress=False)
  return workdir


def test_it_learns(trained):
  records = helpers.read_metrics(trained)
  assert [record['step'] for record in records] == [*range(1, 25)]
  # Features have length 1, so that values and logits grow slowly.
  for name, fall in (('td', 0.03), ('cql', 0.2)):
    values = [record[f'q/{name}'] for record in records]
    assert np.mean(values[-6:]) < np.mean(values[:6]) - fall
  for name in ('td', 'cql', 'agreement'):
    assert np.isfinite(records[-1][f'held_out/q/{name}'])


def test_a_frame_is_moved_once(atari_data_dir, tmp_path):
  """Stacks of 4 frames for 2 states and those 3 steps later: 8 frames."""
  run = Run(config_of(atari_data_dir), tmp_path)
  (batch,) = run.load_data().batches(0, 1, lambda segments: segments)
  frames = batch.observations
  assert frames.shape == (8, 3 + 2 + 3, 84, 84) and frames.dtype == np.uint8
  assert batch.train[:, 3:5].any() and not batch.train[:, :3].any()


def test_an_interrupted_run_is_the_same_run(trained, atari_data_dir, tmp_path):
  cycle.check_interrupted(config_of(atari_data_dir), trained, tmp_path)


def test_it_acts(trained):
  agent = jowa_jax.load(trained)
  cycle.check_play(agent, decisions=4)
  with pytest.raises(ValueError, match='No head for Pong'):
    agent.begin(('Pong',))


def test_a_new_game_starts_with_a_new_head(trained, atari_data_dir, tmp_path):
  config = config_of(
    atari_data_dir,
    data__games=('Carnival',),
    init_from__checkpoints=str(trained),
    init_from__task_row='new',
    stages__q__steps=0,
  )
  before = jowa_jax.load(trained).variables.params
  after = Run(config, tmp_path / 'new').train(progress=False)
  for name in ('encoder', 'mlp'):
    theirs = helpers.flat(before[name])
    for params in (after.params, after.targets):
      for path, value in helpers.flat(params[name]).items():
        np.testing.assert_array_equal(value, theirs[path])
  head, theirs = after.params['heads']['kernel'], before['heads']['kernel']
  assert head.shape == (1, *theirs.shape[1:])
  assert not any(np.array_equal(head[0], other) for other in theirs)
  # Its own head, where it has one.
  config['init_from']['task_row'] = None
  after = Run(config, tmp_path / 'own').train(progress=False)
  np.testing.assert_array_equal(
    after.params['heads']['kernel'][0], theirs[1], err_msg='Carnival'
  )
  config['data']['games'] = ('Assault', 'Pong')
  with pytest.raises(CheckpointError, match='no row of Pong for Pong'):
    # Whatever the data are: it is found as the run begins.
    data = Run(config_of(atari_data_dir), tmp_path / 'data').load_data()
    Run(config, tmp_path / 'none').train(progress=False, data=data)


@pytest.mark.parametrize(
  'variant',
  [
    dict(q_network__num_atoms=1),
    dict(
      q_network__shared_head=True,
      q_network__normalize_features=False,
      encoder__pooling='mean',
      losses__double=True,
      losses__freeze_encoder=True,
      augmentation__crop=4,
      run__accumulate=2,
    ),
  ],
  ids=['scalar', 'others'],
)
def test_variants_train(variant, atari_data_dir, tmp_path):
  config = config_of(atari_data_dir, stages__q__steps=2, **variant)
  Run(config, tmp_path).train(progress=False)
  records = helpers.read_metrics(tmp_path)
  assert np.isfinite([record['loss/q'] for record in records]).all()


def test_it_is_measured(atari_data_dir):
  config = config_of(atari_data_dir)
  (record,) = bench.run_config(config, seconds=0.01)
  assert record['stage'] == 'q' and record['step_seconds'] > 0
  assert record['model_flops'] > 0 and record['frames'] == 'pixels'
  records = decisions.run_config(config, [3], seconds=0.01)
  assert [each['environments'] for each in records] == [3]


def test_it_is_evaluated_and_told_of(trained, tmp_path):
  results = tmp_path / 'scaled_ql.jsonl'
  launch(
    'evaluate',
    *(f'--checkpoint={trained}', '--games=Assault', '--rollouts=2'),
    *('--config.protocol.max_frames=80', f'--output={results}'),
    '--noprogress',
  )
  assert len(results.read_text().splitlines()) == 2
  page = launch(
    'report',
    *(f'--results={results}', f'--runs={trained}'),
    f'--output={tmp_path}/index.html',
  ).strip()
  assert 'CQL penalty' in pathlib.Path(page).read_text()


def test_it_is_finetuned(trained, atari_data_dir, tmp_path):
  workdir = tmp_path / 'run'
  done = cycle.finetune('scaled_ql', trained, atari_data_dir, workdir)
  assert 'play/Carnival: best' in done and 'launch.evaluate' in done
  before, after = jowa_jax.load(trained), jowa_jax.load(workdir)
  for section in ('encoder', 'q_network'):
    assert after.config[section] == before.config[section]
  assert after.games == ('Carnival',)
  assert len(after.variables.params['heads']['bias']) == 1
  theirs = helpers.flat(before.variables.params['encoder'])
  for path, value in helpers.flat(after.variables.params['encoder']).items():
    # From there, and a few steps further.
    assert np.abs(value - theirs[path]).max() < 0.01, path


def test_eight_devices_train_the_same_agent(atari_data_dir, tmp_path):
  fields = changes(
    atari_data_dir,
    stages__q__steps=4,
    stages__q__q__eps=1e-3,
    run__evaluate_every=0,
  )
  cycle.check_eight_devices('scaled_ql', fields, 'q', tmp_path)
