"""What cannot be run is one clear message, and leaves nothing behind."""

import json
import re

import numpy as np
import pytest
from flax import linen as nn

from jowa_jax.checkpoint.manager import CheckpointError, Checkpoints
from jowa_jax.configuration import ConfigError
from jowa_jax.data.episodes import DataError
from jowa_jax.train import sharding
from jowa_jax.train.metrics import check_finite
from jowa_jax.train.run import Run
from tests.train import helpers
from tests.train.helpers import read_metrics


def _without(config, dotted):
  *sections, field = dotted.split('.')
  section = config
  for key in sections:
    section = section[key]
  del section[field]
  return config


@pytest.mark.parametrize(
  ('field', 'value'),
  [
    ('run.batch_sise', 4),
    ('backbone.widht', 32),
    ('losses.cql', 0.1),
    ('stages.stage1.step', 3),
    ('stages.stage1.world.lr', 1e-4),
    ('stages.stage3', {}),
    ('data.game', 'Assault'),
    ('mesh.rule', {}),
    ('init_from.param', ()),
    ('optimiser', {}),
    # Wrong types.
    ('run.batch_size', '4'),
    ('run.batch_size', 4.5),
    ('run.seed', True),
    ('backbone.dropout', None),
    ('losses.rem', 1),
    ('data.games', 'Assault'),
    ('stages.stage1.steps', '3'),
    ('stages.stage1.steps', 3.5),
    ('stages.stage2.world_action.clip', '1'),
    # Wrong values.
    ('method', 'dreamer'),
    ('losses.penalty', 'mopo'),
    ('run.batch_size', 0),
    ('run.log_every', 0),
    ('run.save_every', 0),
    ('run.keep_checkpoints', 0),
    ('stages.stage1.steps', -1),
    ('mesh.axes.data', 3),
    ('mesh.rules.mlp', 'model'),
    ('mesh.rules.mlp', ('model',)),
  ],
)
def test_bad_field_is_named_and_nothing_is_made(
  field, value, atari_data_dir, tmp_path
):
  config = helpers.tiny_config(atari_data_dir)
  helpers.change(config, **{field.replace('.', '__'): value})
  workdir = tmp_path / 'run'
  with pytest.raises(ConfigError) as raised:
    Run(config, workdir)
  names = field.split('.')
  assert names[0] in str(raised.value) and names[-1] in str(raised.value)
  assert not workdir.exists()


@pytest.mark.parametrize(
  'field',
  [
    'method',
    'tokenizer',
    'backbone',
    'losses',
    'returns',
    'tokenizer_training',
    'run',
    'data',
    'mesh',
    'stages',
    'init_from',
    'data.directory',
    'backbone.width',
    'stages.order',
    'stages.stage2',
    'stages.stage1.steps',
    'stages.stage1.world',
    'mesh.axes.data',
  ],
)
def test_missing_section_or_field_is_named(field, atari_data_dir, tmp_path):
  config = _without(helpers.tiny_config(atari_data_dir), field)
  workdir = tmp_path / 'run'
  with pytest.raises(ConfigError) as raised:
    Run(config, workdir)
  assert field.split('.')[-1] in str(raised.value)
  assert not workdir.exists()


def test_part_of_another_method_is_refused(atari_data_dir, tmp_path):
  config = helpers.tiny_config(atari_data_dir)
  stage = config['stages']['stage2']
  stage['parts'], stage['policy'] = ('policy',), stage.pop('world_action')
  with pytest.raises(ConfigError, match="'policy'.*world_action"):
    Run(config, tmp_path / 'run')


@pytest.mark.parametrize('directory', ['', 'nowhere'])
def test_missing_data_leaves_nothing(directory, atari_data_dir, tmp_path):
  config = helpers.tiny_config(atari_data_dir)
  missing = directory and str(tmp_path / directory)
  config['data']['directory'] = missing
  workdir = tmp_path / 'run'
  wanted = 'set data.directory' if not directory else re.escape(missing)
  with pytest.raises(DataError, match=wanted):
    Run(config, workdir).train(progress=False)
  assert not workdir.exists()


def test_missing_warm_start_can_be_put_right(atari_data_dir, tmp_path):
  """The directory is not lost to the run that never began."""
  config = helpers.tiny_config(atari_data_dir)
  config['init_from']['checkpoints'] = str(tmp_path / 'nowhere')
  config['init_from']['params'] = ('tokenizer',)
  workdir = tmp_path / 'run'
  with pytest.raises(CheckpointError, match='nowhere'):
    Run(config, workdir).train(progress=False)
  # With the file that claims it, another config would be refused.
  assert not (workdir / 'config.json').exists()
  assert not Run(config, workdir).is_finished()


@pytest.mark.slow
def test_warm_start_of_unknown_parameters_is_refused(finished, tmp_path):
  config = json.loads(json.dumps(finished.config))
  config['init_from']['checkpoints'] = str(finished.workdir / 'checkpoints')
  config['init_from']['params'] = ['tokeniser']
  with pytest.raises(CheckpointError, match='tokeniser.*tokenizer'):
    Run(config, tmp_path / 'run').train(progress=False)


@pytest.mark.slow
def test_divergence_stops_the_run_and_keeps_a_good_checkpoint(
  atari_data_dir, tmp_path
):
  config = helpers.tiny_config(
    atari_data_dir,
    steps=(3, 6),
    stages__stage2__world_action__learning_rate=1e30,
    # Saving more often than logging must not replace good by bad.
    run__save_every=1,
    run__log_every=6,
    run__keep_checkpoints=2,
  )
  with pytest.raises(FloatingPointError) as raised:
    Run(config, tmp_path).train(progress=False)
  message = str(raised.value)
  assert 'Lower the learning rate' in message
  found = re.fullmatch(r'(\S+) is (nan|inf|-inf) at step (\d).*', message)
  assert found and '/' in found[1], message
  step = int(re.search(r'checkpoint is that of step (\d)', message)[1])
  assert step < int(found[3])
  assert [record['step'] for record in read_metrics(tmp_path)] == [3]
  run = Run(config, tmp_path)
  template = nn.meta.unbox(helpers.abstract_variables(config))
  shardings = sharding.tree_shardings(template, run._mesh, {})
  checkpoints = Checkpoints(tmp_path / 'checkpoints', create=False)
  assert checkpoints.latest_step() == step
  variables = checkpoints.restore_variables(template, shardings, step)
  checkpoints.close()
  for path, value in helpers.flat(variables).items():
    assert np.isfinite(value).all(), path


def test_divergence_before_any_checkpoint():
  check_finite(3, {'loss/world': 1.0}, None)
  with pytest.raises(FloatingPointError, match='loss/q is nan at step 3; no'):
    check_finite(3, {'loss/world': 1.0, 'loss/q': float('nan')}, None)
  with pytest.raises(FloatingPointError, match='is inf .* step 2'):
    check_finite(3, {'loss/q': float('inf')}, 2)


def test_a_directory_that_another_trains_in(atari_data_dir, tmp_path):
  run = Run(helpers.tiny_config(atari_data_dir), tmp_path / 'run')
  with run.directory.owned():
    with pytest.raises(OSError, match='in use by process'):
      run.train(progress=False)
    assert not run.directory.config.exists()
