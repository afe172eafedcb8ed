"""An interrupted run ends where an uninterrupted one does, bit for bit."""

import json
import shutil

import numpy as np
import pytest

from jowa_jax.checkpoint.manager import (
  CheckpointError,
  Checkpoints,
  DamagedCheckpointError,
)
from jowa_jax.train.metrics import RATES
from jowa_jax.train.run import Run
from tests.train import helpers
from tests.train.helpers import read_metrics

# JOWA's; the toy method's interrupted run is a quick test.
pytestmark = pytest.mark.slow


class Interrupt(Exception):
  """What the user's Ctrl-C or a lost machine is to the loop."""


def _interrupt_at(stop):
  def on_step(step):
    if step == stop:
      raise Interrupt

  return on_step


def _rate(config, record, part):
  """The tokenizer's rate falls in a line to a fifth; the rest are constant."""
  peak = config['stages'][record['stage']][part]['learning_rate']
  place = (record['step'] - 1) / 2
  factor = 1 - 0.8 * place if part == 'tokenizer' else 1.0
  return pytest.approx(peak * factor)


def test_uninterrupted_run(finished):
  assert finished.steps == [1, 2, 3, 4, 5, 6, 7]
  assert [r['step'] for r in finished.records] == finished.steps
  stages = [r['stage'] for r in finished.records]
  assert stages == ['stage1'] * 3 + ['stage2'] * 4
  for record in finished.records:
    parts = {
      'stage1': ('tokenizer', 'world'),
      'stage2': ('world_action',),
    }[record['stage']]
    for part in parts:
      assert np.isfinite(record[f'loss/{part}'])
      assert record[f'gradient_norm/{part}'] > 0
      assert record[f'update_norm/{part}'] > 0
      assert record[f'lr/{part}'] == _rate(finished.config, record, part)
    assert record['steps_per_second'] > 0
    # Two blocks of four tokens and an action, four segments.
    ratio = record['tokens_per_second'] / record['steps_per_second']
    assert ratio == pytest.approx(4 * 2 * 5)
    assert 0 <= record['input_wait_share'] <= 1
  saved = json.loads((finished.workdir / 'config.json').read_text())
  assert saved == json.loads(json.dumps(finished.config))
  assert list((finished.workdir / 'tensorboard').glob('events.*'))


def test_only_the_latest_checkpoints_are_kept(finished):
  # Saved at 2, 3 (the stage's end), 4, 6 and 7 (the run's end).
  names = {path.name for path in (finished.workdir / 'checkpoints').iterdir()}
  assert names == {'4', '6', '7'}


def test_interrupted_run_is_the_same_run(finished, tmp_path):
  # Between the stages; in stage 2, a step after a checkpoint.
  for stop in (3, 5):
    with pytest.raises(Interrupt):
      Run(finished.config, tmp_path).train(
        progress=False, on_step=_interrupt_at(stop)
      )
    # As it is left by a kill in the middle of a line.
    with (tmp_path / 'metrics.jsonl').open('a') as file:
      file.write('{"step": 99, "sta')
  taken = []
  variables = Run(finished.config, tmp_path).train(
    progress=False, on_step=taken.append
  )
  assert taken == [5, 6, 7]
  records = read_metrics(tmp_path)
  assert len(records) == len(finished.records)
  for ours, theirs in zip(records, finished.records, strict=True):
    assert _timeless(ours) == _timeless(theirs)
  ours = helpers.flat(variables)
  assert ours.keys() == finished.variables.keys()
  for path, value in finished.variables.items():
    np.testing.assert_array_equal(ours[path], value, err_msg=path)


def _timeless(record):
  return {k: v for k, v in record.items() if k not in RATES}


def test_finished_run_gives_its_variables_and_takes_no_step(finished):
  taken = []
  variables = Run(finished.config, finished.workdir).train(
    progress=False, on_step=taken.append
  )
  assert not taken
  for path, value in helpers.flat(variables).items():
    np.testing.assert_array_equal(value, finished.variables[path], err_msg=path)
  assert read_metrics(finished.workdir) == finished.records


def test_checkpoint_says_what_it_belongs_to(finished):
  checkpoints = Checkpoints(finished.workdir / 'checkpoints', create=False)
  meta = checkpoints.meta()
  checkpoints.close()
  assert meta['step'] == 7 and meta['stage'] == 'stage2'
  assert meta['config'] == json.loads(json.dumps(finished.config))
  assert set(meta['data']['games']) == set(helpers.GAMES)


def test_other_config_is_refused(finished):
  config = json.loads(json.dumps(finished.config))
  config['stages']['stage2']['world_action']['learning_rate'] = 1.0
  config['backbone']['dropout'] = 0.2
  with pytest.raises(ValueError) as raised:
    Run(config, finished.workdir).train(progress=False)
  message = str(raised.value)
  assert 'backbone.dropout: was 0.1, now 0.2' in message
  assert 'stages.stage2.world_action.learning_rate: was 5e-05' in message
  assert str(finished.workdir) in message


def test_other_data_is_refused(finished, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(finished.workdir, workdir)
  # The same config finds less in the directory than the run began with.
  config = json.loads(json.dumps(finished.config))
  config['data']['checkpoints'] = [0]
  (workdir / 'config.json').write_text(json.dumps(config))
  with pytest.raises(ValueError, match='trained on other data') as raised:
    Run(config, workdir).train(progress=False)
  assert 'games.Assault.run_1/checkpoint_01' in str(raised.value)


def damage(checkpoint, item):
  """Cuts the files of an item short, as a disk that was full does."""
  files = [p for p in (checkpoint / item).rglob('*') if p.is_file()]
  assert files
  for path in files:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize('item', ['variables', 'opt_state', 'meta'])
def test_damaged_checkpoint_is_set_aside_for_the_one_before(
  finished, tmp_path, caplog, item
):
  workdir = tmp_path / 'run'
  shutil.copytree(finished.workdir, workdir)
  # The last one: of its stage's end, from which nothing but variables is read.
  shutil.rmtree(workdir / 'checkpoints' / '7')
  damage(workdir / 'checkpoints' / '6', item)
  taken = []
  variables = Run(finished.config, workdir).train(
    progress=False, on_step=taken.append
  )
  assert taken == [5, 6, 7]
  (record,) = [r for r in caplog.records if 'step 6' in r.getMessage()]
  aside = workdir / 'damaged_checkpoints' / '6'
  assert record.levelname == 'WARNING' and str(aside) in record.getMessage()
  assert aside.is_dir()
  for path, value in helpers.flat(variables).items():
    np.testing.assert_array_equal(value, finished.variables[path], err_msg=path)


def test_only_damaged_checkpoints_are_an_error_and_stay(finished, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(finished.workdir, workdir)
  names = sorted(p.name for p in (workdir / 'checkpoints').iterdir())
  for name in names:
    damage(workdir / 'checkpoints' / name, 'variables')
  with pytest.raises(DamagedCheckpointError, match='step 7'):
    Run(finished.config, workdir).train(progress=False)
  left = sorted(p.name for p in (workdir / 'checkpoints').iterdir())
  assert left == names


def test_other_config_is_accepted_when_told(finished, tmp_path, caplog):
  workdir = tmp_path / 'run'
  shutil.copytree(finished.workdir, workdir)
  config = json.loads(json.dumps(finished.config))
  config['stages']['stage2']['steps'] = 5
  taken = []
  Run(config, workdir).train(
    progress=False, on_step=taken.append, accept_changes=True
  )
  assert taken == [8]
  assert 'stages.stage2.steps: was 4, now 5' in caplog.text
  assert json.loads((workdir / 'config.json').read_text()) == config


def test_state_of_another_optimizer_is_not_taken_for_damage(finished, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(finished.workdir, workdir)
  shutil.rmtree(workdir / 'checkpoints' / '7')
  config = json.loads(json.dumps(finished.config))
  # A schedule has a counter of its own.
  config['stages']['stage2']['world_action']['warmup_steps'] = 2
  with pytest.raises(CheckpointError, match='of another optimizer') as raised:
    Run(config, workdir).train(progress=False, accept_changes=True)
  assert not isinstance(raised.value, DamagedCheckpointError)
  kept = {path.name for path in (workdir / 'checkpoints').iterdir()}
  assert kept == {'4', '6'}
  assert not (workdir / 'damaged_checkpoints').exists()
