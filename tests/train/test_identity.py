"""Which configs are of one training run."""

import json

import pytest

from configs import jowa
from jowa_jax.checkpoint.packed import PackedAgent, write_packed
from jowa_jax.methods.base import Variables
from jowa_jax.train import run as run_lib
from jowa_jax.train.identity import run_digest
from jowa_jax.train.settings import complete
from tests.train import helpers


def config(**changes):
  values = json.loads(json.dumps(jowa.get_config('smoke').to_dict()))
  helpers.change(values, **changes)
  return values


@pytest.mark.parametrize(
  'change',
  [
    # C51 and squared errors, among others.
    dict(returns__num_atoms=1),
    dict(returns__gamma=0.95),
    dict(losses__rem=True),
    dict(tokenizer_training__motion_weight=20.0),
    dict(tokenizer_training__perceptual_weights='lpips.npz'),
    dict(stages__stage2__world_action__learning_rate=1e-3),
    dict(stages__stage2__world_action__decay='cosine'),
    dict(run__batch_size=4),
    dict(run__seed=1),
    dict(data__padding='left'),
    dict(data__reward_share=0.25),
    dict(data__games=['Pong']),
    dict(init_from__checkpoints='runs/other'),
  ],
  ids=lambda change: next(iter(change)),
)
def test_other_runs(change):
  assert run_digest(config(**change)) != run_digest(config())


@pytest.mark.parametrize(
  'change',
  [
    dict(data__directory='/elsewhere', data__token_cache='/tokens'),
    dict(data__prefetch=3),
    dict(run__log_every=1, run__save_every=1, run__keep_every=7),
    dict(run__evaluate_every=1, run__play_every=5, run__best_metric='loss/q'),
    dict(run__accumulate=2),
    dict(mesh__axes={'data': 4, 'fsdp': 2}, mesh__rules={}),
    dict(stages__stage2__steps=99),
  ],
  ids=lambda change: next(iter(change)),
)
def test_the_same_run(change):
  assert run_digest(config(**change)) == run_digest(config())


def test_games_in_one_text_are_those_games(tmp_path):
  typed, listed = (
    run_lib.Run(config(data__games=games), tmp_path).config
    for games in (['Pong, Zaxxon'], ['Pong', 'Zaxxon'])
  )
  assert typed == listed


def test_where_files_lie_does_not_matter():
  there = dict(init_from__checkpoints='/there/run')
  here = dict(init_from__checkpoints='run')
  assert run_digest(config(**there)) == run_digest(config(**here))
  there = dict(tokenizer_training__perceptual_weights='/there/lpips.npz')
  here = dict(tokenizer_training__perceptual_weights='lpips.npz')
  assert run_digest(config(**there)) == run_digest(config(**here))


# Of what `tests/data/checkpoints` holds. A field that is new, or the default of
# an old one, must not change them: runs of before would be others.
DIGESTS = {
  'jowa': '00109f0ba1859e06-d596fae403afbfce',
  'mtbc': '30d3991c0db12841-674260e8bd628736',
}


@pytest.mark.parametrize('method', DIGESTS)
def test_the_digests_of_before_stay(method, tmp_path):
  run = helpers.older_run(method, tmp_path)
  saved = json.loads((run / 'config.json').read_text())
  assert run_digest(saved) == DIGESTS[method]
  completed = complete(saved)
  assert run_digest({k: completed[k] for k in saved}) == DIGESTS[method]
  # One that was saved before there were fields and sections.
  del saved['tokenizer']['encoder_field']
  del saved['tokenizer_training']['embed_codes']
  del saved['data']['reward_share']
  for name in saved['stages']['order']:
    for part in saved['stages'][name]['parts']:
      for field in ('warmup_steps', 'decay', 'final_fraction'):
        if field == 'warmup_steps' or part != 'tokenizer':
          del saved['stages'][name][part][field]
  assert run_digest(saved) == DIGESTS[method]


def test_a_packed_agent_is_of_its_run(tmp_path):
  trained = config(
    data__directory='/there/data',
    init_from__checkpoints='/there/run',
    tokenizer_training__perceptual_weights='/there/lpips.npz',
  )
  path = tmp_path / 'agent.safetensors'
  nothing = Variables(params={}, targets={}, extras={})
  write_packed(path, nothing, {'step': 1, 'config': trained, 'data': {}})
  packed = PackedAgent(path).meta()['config']
  assert '/there' not in json.dumps(packed)
  assert run_digest(packed) == run_digest(trained)


def test_a_run_is_the_same_however_its_paths_are_spelled(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('HOME', str(tmp_path))
  located = []
  for spelling in ('runs/jowa', 'runs/jowa/', '~/runs/jowa', './runs//jowa'):
    located.append(run_lib._located(config(init_from__checkpoints=spelling)))
  assert all(one == located[0] for one in located)
  other = run_lib._located(config(init_from__checkpoints='runs/other'))
  assert other != located[0]
