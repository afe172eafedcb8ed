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
from jowa_jax.train.run import Run
from jowa_jax.train.settings import complete

METHODS = {'jowa': jowa, 'mtbc': mtbc}
SIZES = ('40m', '70m', '150m', 'smoke')
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
    *(mgdt, edt, ficc, scaled_ql, finetune_online, study),
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
  # Or all segments would begin at the same decisions.
  assert config['data']['stride'] < run.method.spec.length


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
