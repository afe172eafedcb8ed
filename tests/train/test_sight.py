"""What a run shows of itself."""

import contextlib
import gzip
import json
import sys

import numpy as np
import pytest

from jowa_jax.configuration import ConfigError
from jowa_jax.eval.rollout import make_player
from jowa_jax.train.metrics import Meter
from jowa_jax.train.profiling import Profiler
from jowa_jax.train.run import Run
from tests.train import helpers
from tests.train.helpers import read_metrics


@pytest.fixture(scope='module')
def run(atari_data_dir, tmp_path_factory, compilation_cache):
  """A run that plays after every other step, keeps the best, and is traced."""
  workdir = tmp_path_factory.mktemp('sight')
  config = helpers.tiny_config(
    atari_data_dir,
    steps=(0, 6),
    run__log_every=2,
    run__save_every=2,
    run__play_every=2,
    run__play_episodes=1,
    run__play_max_frames=80,
    run__keep_checkpoints=1,
    run__best_metric='loss/world_action',
  )
  with helpers.quick_compilation(compilation_cache):
    Run(config, workdir).train(
      progress=False, play=make_player(config), profile_steps=(2, 3)
    )
  return workdir


@pytest.mark.slow
def test_played_games_are_among_the_metrics(run):
  records = read_metrics(run)
  assert [record['step'] for record in records] == [2, 4, 6]
  for record in records:
    for game in helpers.GAMES:
      assert record[f'play/{game}'] >= 0
    assert np.isfinite(record['play/human_normalized'])


@pytest.mark.slow
def test_the_best_checkpoint_is_kept(run):
  losses = {r['step']: r['loss/world_action'] for r in read_metrics(run)}
  kept = {int(path.name) for path in (run / 'checkpoints').iterdir()}
  assert kept == {6, min(losses, key=losses.get)}


@pytest.mark.slow
def test_traced_steps_are_in_the_trace(run):
  (trace,) = (run / 'profile').rglob('*.trace.json.gz')
  events = json.loads(gzip.decompress(trace.read_bytes()))['traceEvents']
  names = [event.get('name', '') for event in events]
  assert sum('ThunkExecutor::Execute' in name for name in names) >= 2


def test_playing_needs_a_player(atari_data_dir, tmp_path):
  config = helpers.tiny_config(atari_data_dir, run__play_every=1)
  with pytest.raises(ValueError, match='run.play_every=1 needs `play`'):
    Run(config, tmp_path / 'run').train(progress=False)
  assert not (tmp_path / 'run').exists()


def test_wandb_is_told_and_goes_on(
  tmp_path, atari_data_dir, compilation_cache, monkeypatch
):
  pytest.importorskip('wandb')
  monkeypatch.setenv('WANDB_MODE', 'offline')
  config = helpers.tiny_config(atari_data_dir, steps=(0, 3))

  def stop(step):
    if step == 2:
      raise KeyboardInterrupt

  for on_step in (stop, lambda step: None):
    with (
      helpers.quick_compilation(compilation_cache),
      contextlib.suppress(KeyboardInterrupt),
    ):
      Run(config, tmp_path / 'run').train(
        progress=False, on_step=on_step, wandb_project='tests'
      )
  told = sorted((tmp_path / 'run' / 'wandb').glob('offline-run-*/*.wandb'))
  assert len(told) == 2 and told[0].name == told[1].name
  for path, steps in zip(told, ([1, 2], [3]), strict=True):
    content = path.read_bytes()
    for record in read_metrics(tmp_path / 'run'):
      value = json.dumps(record['loss/world_action']).encode()
      assert (value in content) == (record['step'] in steps)


def test_missing_wandb_is_said_before_anything_is_written(
  atari_data_dir, tmp_path, monkeypatch
):
  monkeypatch.setitem(sys.modules, 'wandb', None)
  config = helpers.tiny_config(atari_data_dir)
  with pytest.raises(ValueError, match='pip install wandb'):
    Run(config, tmp_path / 'run').train(progress=False, wandb_project='tests')
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('steps', [(0, 3), (4, 3)])
def test_steps_to_trace_are_checked(steps, tmp_path):
  with pytest.raises(ValueError, match='profile_steps'):
    Profiler(tmp_path, steps)


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    (dict(best_metric='held_out/q/td'), 'evaluate_every=0'),
    (dict(best_metric='play/Pong', play_every=4, save_every=6), 'play_every=4'),
    (dict(best_metric='loss/world', log_every=4), 'log_every=4'),
    (dict(best_metric='loss/world', best_mode='most'), "best_mode='most'"),
    (dict(play_every=3, log_every=2), 'play_every=3'),
    (dict(accumulate=3), 'run.accumulate=3'),
  ],
)
def test_fields_that_do_not_go_together(
  fields, message, atari_data_dir, tmp_path
):
  fields = {f'run__{name}': value for name, value in fields.items()}
  config = helpers.tiny_config(atari_data_dir, **fields)
  with pytest.raises(ConfigError, match=message):
    Run(config, tmp_path / 'run')


@pytest.mark.slow
def test_unmeasured_best_metric_is_named(
  atari_data_dir, tmp_path, compilation_cache
):
  config = helpers.tiny_config(
    atari_data_dir, steps=(0, 2), run__best_metric='loss/wrld'
  )
  with (
    helpers.quick_compilation(compilation_cache),
    pytest.raises(ConfigError, match=r"'loss/wrld' is not measured in stage2"),
  ):
    Run(config, tmp_path / 'run').train(progress=False)


def test_meter_counts_waiting(monkeypatch):
  now = [0.0]
  monkeypatch.setattr('time.monotonic', lambda: now[0])
  meter = Meter(batch_size=4, tokens=10, flops=1.0, dtype='float32')

  def slow():
    for item in range(3):
      now[0] += 2.0
      yield item

  for _ in meter.count(slow()):
    now[0] += 6.0
  rates = meter.read(3)
  assert rates['steps_per_second'] == 3 / 24
  assert rates['tokens_per_second'] == 3 * 40 / 24
  assert rates['input_wait_share'] == 6 / 24
