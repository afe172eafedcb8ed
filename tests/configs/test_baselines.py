"""Configs of the methods that JOWA is compared with, as published."""

import json

import pytest

from configs import (
  edt,
  ficc,
  finetune_online,
  mgdt,
  scaled_ql,
)
from jowa_jax.configuration import differences
from jowa_jax.recipes import online
from jowa_jax.train.optimizer import rate_after
from jowa_jax.train.run import Run
from jowa_jax.train.settings import complete, parse_stages

OF_FRAMES = {'mgdt': mgdt, 'edt': edt}


@pytest.mark.parametrize(
  ('method', 'size'),
  [(name, size) for name in OF_FRAMES for size in mgdt.SIZES],
)
def test_transformers_of_frames_make_runs(method, size, tmp_path):
  config = OF_FRAMES[method].get_config(size)
  assert config.is_locked
  run = Run(config.to_dict(), tmp_path / 'run')
  assert run.config['method'] == method
  saved = json.loads(json.dumps(config.to_dict()))
  assert Run(saved, tmp_path / 'run').stages == run.stages


def test_published_transformers_of_frames():
  sizes = {'40m': (6, 768, 12), '200m': (10, 1280, 20)}
  for module in OF_FRAMES.values():
    for size in sizes:
      config = module.get_config(size)
      backbone = config.backbone
      found = backbone.num_layers, backbone.width, backbone.num_heads
      assert found == sizes[size] == mgdt.SIZES[size]
      assert (backbone.steps, backbone.patch, backbone.dropout) == (4, 14, 0.1)
      assert config.run.batch_size == 512
      assert (config.data.stride, config.augmentation.crop) == (1, 4)
      (name,) = config.stages.order
      assert config.stages[name].steps == 1_750_000
      policy = config.stages[name].policy
      assert (policy.kind, policy.decay_mask) == ('adamw', 'all')
      assert (policy.learning_rate, policy.weight_decay) == (1e-4, 1e-4)
      assert (policy.b1, policy.b2, policy.eps) == (0.9, 0.999, 1e-8)
      assert (policy.clip, policy.decay) == (0.25, 'constant')
      # Step k, counted from 0, at min((k + 1) / 10000, 1) of the rate.
      stage = parse_stages(config.stages)[0].optimizers['policy']
      for k in (0, 1, 4_999, 9_998, 9_999, 20_000):
        expected = 1e-4 * min((k + 1) / 10_000, 1)
        rate = float(rate_after(stage, 1_750_000, k))
        assert rate == pytest.approx(expected, 1e-3)
  config = mgdt.get_config()
  assert config.data.padding == 'left' and config.losses.class_mean
  assert config.backbone.return_min == -20
  assert config.backbone.return_bins == 121
  config = edt.get_config()
  assert config.data.padding == 'right'
  assert (config.backbone.return_min, config.backbone.return_max) == (-20, 100)
  assert (config.backbone.return_bins, config.backbone.return_scale) == (
    60,
    1000,
  )
  assert config.losses.to_dict() == dict(
    expectile=0.99, expectile_weight=0.5, return_weight=0.001, frame_weight=1.0
  )


@pytest.mark.parametrize('size', scaled_ql.SIZES)
def test_scaled_ql_makes_runs(size, tmp_path):
  config = scaled_ql.get_config(size)
  assert config.is_locked
  run = Run(config.to_dict(), tmp_path / 'run')
  assert run.config['method'] == 'scaled_ql'
  saved = json.loads(json.dumps(config.to_dict()))
  assert Run(saved, tmp_path / 'run').stages == run.stages


@pytest.mark.parametrize('size', scaled_ql.SIZES)
def test_online_finetuning_makes_runs(size, tmp_path):
  config = finetune_online.get_config(size)
  assert config.is_locked
  for checkpoint in ('runs/x', None):
    resolved, settings = online.resolve(
      config.to_dict(), 'Freeway@m1', checkpoint
    )
    run = Run(resolved, tmp_path / 'run')
    assert run.config['data']['games'] == ['Freeway']
    assert run.config['losses']['cql_weight'] == 0
    if size.startswith('resnet'):
      # 3 million frames of the emulator.
      decisions = run.total_steps * settings.decisions
      assert 4 * (decisions + settings.random_decisions) == 3_000_000


def test_published_scaled_ql():
  config = scaled_ql.get_config()
  assert config.run.batch_size == 512 and config.data.balance_games
  (stage,) = parse_stages(config.stages)
  assert stage.steps == 1_750_000
  optimizer = stage.optimizers['q']
  assert (optimizer.kind, optimizer.learning_rate) == ('adam', 2e-4)
  assert (optimizer.clip, optimizer.weight_decay) == (1.0, 0.0)
  assert (optimizer.decay, optimizer.warmup_steps) == ('constant', 0)
  # The rest are the defaults of the dataclasses, the published ones.
  saved = json.loads(config.to_json_best_effort())
  defaults = complete({'method': 'scaled_ql', 'stages': {}})
  changed = {
    line.partition(':')[0]
    for line in differences(defaults, saved)
    if not line.startswith(('mesh', 'stages'))
  }
  assert changed == {
    *('encoder.dtype', 'data.directory', 'data.games', 'data.stride'),
    'data.balance_games',
  }
  assert saved['q_network']['v_max'] == -saved['q_network']['v_min'] == 20
  assert (saved['losses']['n'], saved['losses']['cql_weight']) == (3, 0.05)
  assert saved['losses']['target_period'] == 2000


@pytest.mark.parametrize('method', OF_FRAMES)
def test_transformers_of_frames_repeat_the_defaults(method):
  config = OF_FRAMES[method].get_config('200m')
  config = json.loads(config.to_json_best_effort())
  defaults = complete({'method': method, 'stages': {}})
  changed = {
    line.partition(':')[0]
    for line in differences(defaults, config)
    if not line.startswith(('mesh', 'stages', 'adaptation'))
  }
  assert changed - {'data.padding'} == {
    *('backbone.num_layers', 'backbone.width', 'backbone.num_heads'),
    *('backbone.dtype', 'data.directory', 'data.games', 'data.stride'),
    *('augmentation.crop', 'augmentation.rotation'),
  }


@pytest.mark.parametrize('size', ficc.SIZES)
def test_ficc_makes_runs(size, tmp_path):
  config = ficc.get_config(size)
  assert config.is_locked
  run = Run(config.to_dict(), tmp_path / 'run')
  saved = json.loads(json.dumps(config.to_dict()))
  assert Run(saved, tmp_path / 'run').stages == run.stages


def test_published_ficc():
  config = ficc.get_config('85m')
  assert (config.network.channels, config.network.bottleneck) == (640, True)
  assert config.run.batch_size == 512
  assert (config.returns.v_min, config.returns.v_max) == (-10, 30)
  assert (config.losses.steps, config.losses.world_weight) == (6, 0)
  assert (config.losses.cql_weight, config.losses.target_period) == (0.1, 1000)
  watching, _, q = parse_stages(config.stages)
  assert (watching.steps, q.steps) == (500_000, 1_250_000)
  sgd = watching.optimizers['watching']
  assert (sgd.kind, sgd.b1, sgd.weight_decay) == ('sgd', 0.9, 0.01)
  assert (sgd.decay_mask, sgd.clip, sgd.clip_each) == ('all', 10, True)
  # The authors' fifty stages: four up from 1e-5 to 0.02, the others down.
  for stage in (0, 1, 2, 3, 4, 10, 27, 49):
    expected = 1e-5 * 2000 ** (stage / 4)
    if stage >= 4:
      expected = 0.02 * 0.01 ** ((stage - 4) / 46)
    rate = float(rate_after(sgd, 500_000, stage * 10_000))
    assert rate == pytest.approx(expected, 1e-3), stage
  adamw = q.optimizers['q']
  assert (adamw.kind, adamw.learning_rate) == ('adamw', 5e-5)
  assert (adamw.weight_decay, adamw.clip) == (0.01, 1)


def test_ficc_repeats_the_defaults():
  config = json.loads(ficc.get_config('85m').to_json_best_effort())
  defaults = complete({'method': 'ficc', 'stages': {}})
  changed = {
    line.partition(':')[0]
    for line in differences(defaults, config)
    if not line.startswith(('mesh', 'stages'))
  }
  assert changed == {
    *('network.channels', 'network.bottleneck', 'network.remat'),
    *('network.dtype', 'data.directory', 'data.games', 'data.stride'),
  }
