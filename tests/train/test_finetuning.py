"""A tiny agent of two games is fine-tuned on a third."""

import json

import jax
import numpy as np
import pytest

from configs import finetune
from jowa_jax import agent as agent_lib
from jowa_jax import games
from jowa_jax.checkpoint.manager import CheckpointError
from jowa_jax.collect.collect import collect
from jowa_jax.configuration import ConfigError
from jowa_jax.methods.adaptation import merge
from jowa_jax.methods.factory import adaptation_config, make_method
from jowa_jax.recipes import finetuning
from jowa_jax.recipes.finetuning import Snapshot
from jowa_jax.train.identity import run_digest
from jowa_jax.train.run import Run
from tests.train import helpers

GAME = 'Robotank'
TABLES = ('observation_task_embedding', 'action_task_embedding')
LORA = dict(mode='lora', rank=2, alpha=4.0, targets=('query', 'value'))


@pytest.fixture(scope='module')
def play_dir(tmp_path_factory):
  """100 random decisions of a game that the agent has not seen."""
  output = tmp_path_factory.mktemp('robotank')
  collect(output, GAME, (1.0, 1.0), 50, num_processes=1, progress=False)
  return output


def _config(**changes):
  """The smoke config of fine-tuning, for the sizes of `trained`."""
  config = finetune.get_config('smoke').copy_and_resolve_references()
  tiny = helpers.older_config('jowa')
  with config.unlocked():
    for section in ('tokenizer', 'backbone', 'heads', 'tokenizer_training'):
      config[section] = tiny[section]
    helpers.change(
      config,
      tokenizer_training__codebook_init_step=0,
      tokenizer_training__restart_period=0,
      tokenizer_training__restart_until=0,
      data__transitions=None,
      stages__finetune__steps=4,
      run__log_every=1,
      run__save_every=2,
      run__play_every=0,
      run__keep_checkpoints=1,
    )
    config.adaptation = dict(mode='full')
    helpers.change(config, **changes)
  return config.to_dict()


@pytest.fixture(scope='module')
def resolve(trained, play_dir):
  def fn(checkpoint=trained.workdir, quality=None, **changes):
    return finetuning.resolve(
      _config(**changes),
      game=GAME,
      data=str(play_dir),
      checkpoint=checkpoint and str(checkpoint),
      quality=quality,
    )

  return fn


def _train(config, workdir, **options):
  return Run(config, workdir).train(progress=False, **options)


def _moved(variables, trained):
  """Returns the top-level parameters that differ from the pretrained ones."""
  return {
    path.split("'")[1]
    for path, value in helpers.flat(variables.params).items()
    if (value != trained.variables[f'.params{path}']).any()
  }


def test_resolved_config(resolve, trained, play_dir):
  config = resolve(run__play_every=2, quality='expert')
  assert config['data']['games'] == [GAME]
  assert config['data']['directory'] == str(play_dir)
  assert config['data']['quality'] == 'expert'
  assert config['data']['stride'] == 1
  assert config['init_from']['checkpoints'] == str(trained.workdir)
  assert config['run']['best_metric'] == f'play/{GAME}'
  assert config['stages']['finetune']['parts'] == ['world_action']
  assert 'finetune' not in config
  trained_on = resolve(finetune__train_tokenizer=True)
  parts = trained_on['stages']['finetune']['parts']
  assert parts == ['tokenizer', 'world_action']


def test_the_tokenizer_in_a_stage_of_its_own(resolve):
  config = resolve(finetune__train_tokenizer=True, finetune__tokenizer_steps=5)
  stages = config['stages']
  assert stages['order'] == ['tokenizer', 'finetune']
  assert stages['tokenizer']['parts'] == ['tokenizer']
  assert stages['tokenizer']['steps'] == 5
  assert stages['finetune']['parts'] == ['world_action']
  # Where it is frozen there is none.
  assert resolve(finetune__tokenizer_steps=5)['stages']['order'] == ['finetune']
  with pytest.raises(ConfigError, match='tokenizer_steps=-1 is negative'):
    resolve(finetune__tokenizer_steps=-1)


def test_from_scratch_everything_is_trained(resolve):
  config = resolve(
    checkpoint=None,
    finetune__scratch__steps=7,
    finetune__scratch__tokenizer_training__codebook_init_step=2,
  )
  stage = config['stages']['finetune']
  assert stage['parts'] == ['tokenizer', 'world_action']
  assert stage['steps'] == 7
  assert config['tokenizer_training']['codebook_init_step'] == 2
  assert config['init_from']['checkpoints'] == ''
  assert config['init_from']['task_row'] is None


def test_without_the_backbone_other_fields_count_and_rows_are_new(resolve):
  def resolved(*params, **changes):
    fields = dict(tokenizer_training=dict(embed_codes=0.25))
    changes |= dict(init_from__params=params, init_from__task_row='related')
    config = resolve(finetune__without=dict(backbone=fields), **changes)
    codes = config['tokenizer_training']['embed_codes']
    return codes, config['init_from']['task_row']

  assert resolved('tokenizer') == (0.25, None)
  assert resolved('tokenizer', 'backbone') == resolved() == (0.0, 'related')
  # What scratch is given is its own section's.
  assert resolved(checkpoint=None) == (0.0, None)


@pytest.mark.slow
@pytest.mark.parametrize(
  'task_row',
  [
    'related',
    'new',
    'Pong',
    None,
  ],
  ids=str,
)
def test_a_games_row_starts_from(task_row, resolve, trained, tmp_path):
  """Everything else is as it was pretrained; of no step, nothing is trained."""
  # Of another seed: of the same, an untrained row is a fresh one.
  config = resolve(
    init_from__task_row=task_row, stages__finetune__steps=0, run__seed=1
  )
  variables = _train(config, tmp_path)
  row = games.task_id(GAME)
  origin = {'related': 'Phoenix', 'new': None, 'Pong': 'Pong', None: GAME}
  origin = origin[task_row]
  for path, value in helpers.flat(variables.params).items():
    pretrained = trained.variables[f'.params{path}'].copy()
    if any(table in path for table in TABLES):
      if origin is None:
        assert (value[row] != pretrained).any(axis=1).all()
        pretrained[row] = value[row]
      else:
        pretrained[row] = pretrained[games.task_id(origin)]
    np.testing.assert_array_equal(value, pretrained, err_msg=path)
  jax.tree.map(
    np.testing.assert_array_equal,
    variables.targets['q_heads'],
    variables.params['q_heads'],
  )


class _Interrupt(Exception):
  pass


def _stop_at(stop):
  def on_step(step):
    if step == stop:
      raise _Interrupt

  return on_step


@pytest.fixture(scope='module')
def finetuned(resolve, tmp_path_factory):
  """A run of four steps that was interrupted after the third."""
  workdir = tmp_path_factory.mktemp('finetuned') / 'run'
  config = resolve(run__play_every=2)
  scores = iter([3.0, 1.0])

  def play(variables, before_decision):
    return {f'play/{GAME}': next(scores)}

  with pytest.raises(_Interrupt):
    _train(config, workdir, play=play, on_step=_stop_at(3))
  variables = _train(config, workdir, play=play)
  return workdir, config, variables


@pytest.mark.slow
def test_the_tokenizer_is_frozen_and_a_resumed_run_is_the_same(
  finetuned, trained, tmp_path
):
  workdir, config, variables = finetuned
  assert _moved(variables, trained) == {'backbone', 'world_heads', 'q_heads'}
  whole = _train(config, tmp_path, play=lambda *_: {f'play/{GAME}': 0.0})
  jax.tree.map(np.testing.assert_array_equal, variables, whole)
  changed = json.loads(json.dumps(config))
  changed['init_from']['task_row'] = 'new'
  with pytest.raises(ConfigError, match='init_from.task_row'):
    _train(changed, workdir, play=lambda *_: {})


@pytest.mark.slow
def test_best_and_last_are_known_and_can_be_loaded(finetuned):
  workdir, _, variables = finetuned
  best, last = finetuning.snapshots(workdir, f'play/{GAME}', 'max')
  assert (best, last) == (Snapshot(2, 3.0), Snapshot(4, 1.0))
  assert finetuning.snapshots(workdir, f'play/{GAME}', 'min')[0] == last
  assert finetuning.snapshots(workdir, 'play/Pong', 'max') is None
  # One of the latest is kept, and the best one.
  assert agent_lib.load(workdir, best.step).step == 2
  loaded = agent_lib.load(workdir)
  jax.tree.map(np.testing.assert_array_equal, loaded.variables, variables)


def test_a_last_snapshot_that_was_not_measured_is_said_to_be(tmp_path):
  for step in (2, 4):
    (tmp_path / 'checkpoints' / str(step)).mkdir(parents=True)
  (tmp_path / 'metrics.jsonl').write_text('{"step": 2, "play/Pong": 1.5}\n')
  best, last = finetuning.snapshots(tmp_path, 'play/Pong', 'max')
  assert best == Snapshot(step=2, score=1.5)
  assert last == Snapshot(step=4, score=None)
  # What launch.evaluate --best plays with.
  run = {'best_metric': 'play/Pong', 'best_mode': 'max'}
  (tmp_path / 'config.json').write_text(json.dumps({'run': run}))
  assert finetuning.best_step(tmp_path) == 2
  run['best_metric'] = 'play/Zaxxon'
  (tmp_path / 'config.json').write_text(json.dumps({'run': run}))
  with pytest.raises(CheckpointError, match='play/Zaxxon'):
    finetuning.best_step(tmp_path)


def test_runs_of_other_origin_are_other_runs(resolve):
  """Or their rollouts would pass for one agent's, see `report.scores`."""
  configs = (
    resolve(),
    resolve(checkpoint=None),
    resolve(quality='expert'),
    resolve(adaptation__mode='lora'),
    resolve(init_from__task_row='new'),
    resolve(tokenizer__encoder_field='patch'),
  )
  assert len({run_digest(config) for config in configs}) == len(configs)
  moved = resolve()
  moved['init_from']['checkpoints'] = '/elsewhere'
  assert run_digest(moved) == run_digest(configs[0])
  # One that was begun before there was the field.
  del moved['tokenizer']['encoder_field']
  assert run_digest(moved) == run_digest(configs[0])
  assert not finetuning.model_differences(moved, configs[0])


@pytest.mark.slow
def test_the_tokenizer_may_be_trained_on(resolve, trained, tmp_path):
  config = resolve(finetune__train_tokenizer=True, stages__finetune__steps=1)
  variables = _train(config, tmp_path)
  moved = {'tokenizer', 'backbone', 'world_heads', 'q_heads'}
  assert _moved(variables, trained) == moved


@pytest.mark.slow
def test_adapters_are_trained_saved_merged_and_gone_on_from(
  resolve, trained, tmp_path
):
  workdir = tmp_path / 'run'
  config = resolve(
    adaptation=LORA, init_from__task_row=None, stages__finetune__steps=2
  )
  variables = _train(config, workdir)
  lora = variables.params['lora']
  plain = {k: v for k, v in variables.params.items() if k != 'lora'}
  moved = _moved(variables.replace(params=plain), trained)
  assert moved == {'world_heads', 'q_heads'}
  assert all(np.any(leaf) for leaf in jax.tree.leaves(lora))
  # An agent is a plain one, with the adapters in its weights.
  agent = agent_lib.load(workdir)
  merged = merge(adaptation_config(config), variables)
  jax.tree.map(np.testing.assert_array_equal, agent.variables, merged)
  method = make_method(trained.config)
  assert agent.method.objectives.keys() == method.objectives.keys()
  # It is not taken without its adapters, nor with others.
  for other in (dict(mode='full'), {**LORA, 'alpha': 8.0}):
    with pytest.raises(CheckpointError, match="adapters.*'rank': 2"):
      _train(resolve(workdir, adaptation=other), tmp_path / 'other')
  again = resolve(
    workdir,
    adaptation=LORA,
    init_from__task_row=None,
    stages__finetune__steps=0,
  )
  begun = _train(again, tmp_path / 'again')
  jax.tree.map(np.testing.assert_array_equal, begun.params, variables.params)


def test_another_size_is_named_with_the_config_that_fits(resolve):
  variants = {
    'configs/finetune.py:40m': finetune.get_config('40m').to_dict(),
    'configs/finetune.py:tiny': _config(),
  }
  finetuning.check_source(resolve(backbone__dropout=0.5), variants)
  wrong = resolve(backbone__num_layers=2)
  with pytest.raises(CheckpointError) as raised:
    finetuning.check_source(wrong, variants)
  message = str(raised.value)
  assert 'backbone.num_layers: was 1, now 2' in message
  assert 'use --config=configs/finetune.py:tiny' in message
  del variants['configs/finetune.py:tiny']
  with pytest.raises(CheckpointError, match='set these fields'):
    finetuning.check_source(wrong, variants)
  # What is taken by name is checked when it is.
  finetuning.check_source(
    resolve(backbone__num_layers=2, init_from__params=('tokenizer',)), variants
  )


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(init_from__task_row='Phenix'), 'task_row=.Phenix. is neither'),
    (dict(adaptation=dict(mode='lorra')), 'adaptation: mode=.lorra.'),
    (dict(adaptation=dict(rnk=2)), 'adaptation.rnk'),
    (dict(adaptation=LORA, checkpoint=None), 'set init_from.checkpoints'),
    (dict(init_from__task_row='Phoenix', checkpoint=None), "='Phoenix'"),
    (dict(data__quality='good'), "quality='good'"),
    (dict(data__games=('Pong',)), 'data.games=.*fills this field'),
    (dict(init_from__checkpoints='x'), 'init_from.checkpoints=.*fills'),
    (dict(finetune__tokenizer=None), 'finetune.tokenizer must be dict'),
    (
      dict(finetune__tokenizer={}, finetune__train_tokenizer=True),
      'train_tokenizer=True needs tokenizer',
    ),
    (dict(finetune__scratch__steps=None), 'finetune.scratch.steps must be int'),
    (
      dict(finetune__scratch__tokenizer_training={'restart': 3}),
      'Unknown field finetune.scratch.tokenizer_training.restart',
    ),
    (
      dict(finetune__without={'backbone': {'tokenizer_training': 3}}),
      'finetune.without.backbone.tokenizer_training must be a section, got 3',
    ),
    (
      dict(finetune__without={'backbone': {'backbone': {'depth': 3}}}),
      'Unknown field finetune.without.backbone.backbone.depth',
    ),
  ],
)
def test_bad_fields_are_named(changes, message, resolve, tmp_path):
  with pytest.raises(ConfigError, match=message):
    Run(resolve(**changes), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_the_model_is_the_checkpoints(trained, play_dir, tmp_path):
  config = finetune.get_config('quickstart').to_dict()
  assert finetuning.wants_model(config)
  assert not finetuning.wants_model(finetune.get_config('40m').to_dict())
  theirs = finetuning.checkpoint_config(str(trained.workdir))
  for checkpoint in (str(trained.workdir), None):
    resolved = finetuning.resolve(
      config,
      game=GAME,
      data=str(play_dir),
      checkpoint=checkpoint,
      model=theirs,
    )
    run = Run(resolved, tmp_path / 'run')
    assert not finetuning.model_differences(theirs, run.config)
    # How it is trained is the config's.
    assert run.config['losses'] == config['losses']
  # An agent of before there was the field: its tokens are those of frames.
  assert config['tokenizer']['encoder_field'] == 'patch'
  older = {**theirs, 'tokenizer': dict(theirs['tokenizer'])}
  assert older['tokenizer'].pop('encoder_field') == 'frame'
  resolved = finetuning.resolve(
    config, game=GAME, data=str(play_dir), checkpoint=None, model=older
  )
  assert resolved['tokenizer']['encoder_field'] == 'frame'
  config['finetune']['model'] = 'mine'
  with pytest.raises(ConfigError, match="model='mine' is neither"):
    finetuning.wants_model(config)
