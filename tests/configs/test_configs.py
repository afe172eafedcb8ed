"""Every config is one the program takes, with the published values."""

import importlib
import json
import pathlib
import subprocess
import sys

import pytest

from configs import (
  collect,
  edt,
  evaluate,
  ficc,
  finetune,
  finetune_online,
  jowa,
  mgdt,
  mtbc,
  overnight,
  quickstart,
  scaled_ql,
  small,
  study,
)
from jowa_jax import games
from jowa_jax.collect import recordings
from jowa_jax.configuration import differences
from jowa_jax.recipes import online
from jowa_jax.train.optimizer import rate_after
from jowa_jax.train.run import Run
from jowa_jax.train.settings import complete, parse_stages

METHODS = {'jowa': jowa, 'mtbc': mtbc}
SIZES = ('40m', '70m', '150m', 'smoke')
OF_FRAMES = {'mgdt': mgdt, 'edt': edt}
ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('method', METHODS)
def test_config_is_locked_and_makes_a_run(method, size, tmp_path):
  config = METHODS[method].get_config(size)
  assert config.is_locked
  with pytest.raises(AttributeError):
    config.backbone.widht = 3
  with pytest.raises(TypeError):
    config.run.batch_size = 'many'
  assert Run(config.to_dict(), tmp_path / 'run').config['method'] == method
  # What is saved beside the checkpoints makes the same run.
  saved = json.loads(json.dumps(config.to_dict()))
  again = Run(saved, tmp_path / 'run')
  assert again.stages == Run(config.to_dict(), tmp_path / 'run').stages
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  'module',
  [
    *(jowa, mtbc, collect, evaluate, finetune, overnight, quickstart, small),
    *OF_FRAMES.values(),
    *(ficc, scaled_ql, finetune_online, study),
  ],
)
def test_unknown_variant_is_an_error(module):
  with pytest.raises(ValueError, match='5b'):
    module.get_config('5b')


@pytest.mark.parametrize('name', ['jowa', 'mtbc', 'jowa_smoke', 'mtbc_smoke'])
def test_small_agents_make_runs(name, tmp_path):
  config = small.get_config(name)
  assert config.is_locked
  config = config.to_dict()
  # MTBC starts from what JOWA trained.
  config['init_from']['checkpoints'] = 'x'
  run = Run(config, tmp_path / 'run')
  assert run.config['method'] == name.removesuffix('_smoke')


@pytest.mark.parametrize('end', ['', '_smoke'])
def test_cloning_alone_trains_a_tokenizer_of_its_own(end, tmp_path):
  config = small.get_config(f'mtbc_scratch{end}')
  run = Run(config.to_dict(), tmp_path / 'run')
  assert (
    run.config['method'] == 'mtbc' and not run.config['init_from']['params']
  )
  first, second = run.stages
  assert set(first.optimizers) == {'tokenizer'}
  assert set(second.optimizers) == {'policy'}
  # As JOWA's is trained.
  jowas = small.get_config(f'jowa{end}')
  assert config.tokenizer_training == jowas.tokenizer_training
  assert config.stages.stage1 == jowas.stages.stage1


@pytest.mark.parametrize(
  'name', ('jowa', 'mtbc', 'jowa_searched', 'mtbc_searched')
)
def test_the_shipped_agents_recipe_makes_a_run_of_recorded_games(
  name, tmp_path
):
  config = overnight.get_config(name)
  assert config.is_locked
  recorded = set(recordings.packaged())
  method, _, searched = name.partition('_')
  if searched:
    assert set(config.data.games) <= recorded
  else:
    assert set(overnight.RECORDINGS) <= recorded
    played = {name.split('_')[0] for name in overnight.RECORDINGS}
    assert set(config.data.games) == played
  config = config.to_dict()
  config['init_from']['checkpoints'] = 'x'
  run = Run(config, tmp_path / 'run')
  assert run.config['method'] == method
  shorter = small.get_config(method).stages
  assert [stage.name for stage in run.stages] == list(shorter.order)
  for stage in run.stages:
    assert stage.steps > shorter[stage.name].steps


@pytest.mark.parametrize(
  ('size', 'layers', 'width', 'heads', 'num_q', 'q_width'),
  [
    ('40m', 4, 512, 8, 1, 768),
    ('70m', 6, 768, 12, 1, 1024),
    ('150m', 12, 768, 12, 3, 1792),
  ],
)
@pytest.mark.parametrize('method', METHODS)
def test_published_sizes(method, size, layers, width, heads, num_q, q_width):
  config = METHODS[method].get_config(size)
  assert config.backbone.num_layers == layers
  assert config.backbone.width == width
  assert config.backbone.num_heads == heads
  assert (config.heads.num_heads, config.heads.width) == (num_q, q_width)
  assert config.tokenizer.vocab_size == config.backbone.vocab_size == 2048
  assert config.tokenizer.embedding_dim == 512
  assert config.backbone.tokens_per_frame == 36
  assert config.backbone.max_blocks == 8
  assert config.backbone.dtype == config.tokenizer.dtype == 'bfloat16'


def test_published_optimisation():
  config = jowa.get_config('150m')
  assert config.run.batch_size == 512 and config.data.stride == 4
  assert tuple(config.stages.order) == ('stage1', 'stage2')
  first, second = config.stages.stage1, config.stages.stage2
  assert (first.steps, second.steps) == (250_000, 1_500_000)
  # The tokenizer is updated first, then encodes for the world part.
  assert tuple(first.parts) == ('tokenizer', 'world')
  assert tuple(second.parts) == ('world_action',)
  rates = {
    'tokenizer': (first.tokenizer, 1e-4, 0.0),
    'world': (first.world, 1e-4, 0.01),
    'world_action': (second.world_action, 5e-5, 0.01),
  }
  for name, (optimizer, rate, decay) in rates.items():
    assert optimizer.learning_rate == rate, name
    assert optimizer.weight_decay == decay, name
    assert (optimizer.b1, optimizer.b2, optimizer.eps) == (0.9, 0.999, 1e-8)
    assert (optimizer.clip, optimizer.warmup_steps) == (1.0, 0)
  assert (config.returns.v_min, config.returns.v_max) == (-10.0, 30.0)
  assert (config.returns.num_atoms, config.returns.gamma) == (51, 0.99)
  assert (config.losses.world_weight, config.losses.cql_weight) == (0.1, 0.1)
  assert config.losses.penalty == 'cql' and config.losses.target_period == 1000
  assert not (config.losses.rem or config.losses.stop_gradient)
  assert config.tokenizer_training.frames_per_step == 2048


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


@pytest.mark.parametrize('method', METHODS)
def test_what_the_paper_does_without_is_off(method):
  config = METHODS[method].get_config('150m')
  assert config.tokenizer.encoder_field == 'frame'
  assert config.data.reward_share == 0
  for name in config.stages.order:
    for part in config.stages[name].parts:
      assert config.stages[name][part].decay == 'constant'
  options = config.tokenizer_training
  assert options.codebook_init_step == options.restart_period == 0
  assert options.motion_weight == 0.0


@pytest.mark.parametrize('method', METHODS)
def test_configs_repeat_the_defaults_of_the_dataclasses(method):
  """But for these: configs import no models, and so spell the defaults out."""
  config = json.loads(METHODS[method].get_config('150m').to_json_best_effort())
  stages = {
    name: {part: {} for part in config['stages'][name]['parts']}
    for name in config['stages']['order']
  }
  defaults = complete({'method': method, 'stages': stages})
  config.pop('mesh')
  changed = {
    line.partition(':')[0]
    for line in differences(defaults, config)
    if not line.startswith(('mesh', 'stages', 'adaptation'))
  }
  assert changed == {
    *('tokenizer.dtype', 'backbone.dtype'),
    *('backbone.num_layers', 'backbone.width', 'backbone.num_heads'),
    *('heads.num_heads', 'heads.width'),
    *('data.directory', 'data.games'),
  }
  for stage in stages:
    for part in stages[stage]:
      rates = differences(
        defaults['stages'][stage][part], config['stages'][stage][part]
      )
      fields = {line.partition(':')[0] for line in rates}
      assert fields <= {'learning_rate', 'weight_decay'}


def test_games_of_the_configs_are_known():
  for module in METHODS.values():
    config = module.get_config('150m')
    assert games.parse_games(config.data.games) == games.PRETRAIN_GAMES
  assert len(games.parse_games(collect.get_config().games)) == 2


def test_configs_import_no_models():
  names = [path.stem for path in (ROOT / 'configs').glob('*.py')]
  assert {'common', 'jowa', 'mtbc', 'collect', 'finetune'} <= set(names)
  modules = [f'configs.{name}' for name in names if name != '__init__']
  for module in modules:
    assert importlib.import_module(module).__doc__
  code = (
    f'import sys, {", ".join(modules)}\n'
    "print([m for m in sys.modules if m.split('.')[0] in "
    "('jax', 'flax', 'tensorflow', 'jowa_jax')"
    " and m not in ('jowa_jax', 'jowa_jax.published_sizes',"
    " 'jowa_jax.mesh_rules')])"
  )
  done = subprocess.run(
    [sys.executable, '-c', code],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout.strip() == '[]'
