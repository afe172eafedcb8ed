"""The benchmark of planning runs and measures all it says; not how fast."""

import json

import pytest

from jowa_jax.bench import models, plan

_FIELDS = {
  'size': str,
  'environments': int,
  'width': int,
  'horizon': int,
  'decoder': str,
  'decisions_per_second': float,
  'passes_per_frame': float,
  'peak_bytes': int,
}


@pytest.mark.slow
def test_every_row_is_there(launch, tmp_path):
  path = tmp_path / 'plan.json'
  done = launch(
    'benchmark',
    *('--suite=plan', '--size=smoke', '--environments=2', '--width=2'),
    *('--horizon=1', '--passes=2', '--seconds=0.01', f'--json={path}'),
  )
  assert done.returncode == 0, done.stderr
  records = json.loads(path.read_text())
  rows = [(r['environments'], r['width'], r['decoder']) for r in records]
  assert rows == [(2, 2, 'parallel'), (2, 2, 'sequential')]
  for record in records:
    for name, kind in _FIELDS.items():
      assert isinstance(record[name], kind), name
    assert record['decisions_per_second'] > 0 and record['peak_bytes'] > 0
    if record['decoder'] == 'parallel':
      assert record['passes_per_frame'] == 2 and record['pass_ms'] > 0
  # Each was timed by itself: a difference of two could be anything.
  for name, of in (('search_ms', 'searches'), ('decision_ms', 'decisions')):
    parallel, sequential = (record[name] for record in records)
    assert parallel > 0 and sequential > 0
    assert records[0][f'times_sequential_{of}'] == sequential / parallel
  assert 'smoke' in done.stdout and 'sequential' in done.stdout


@pytest.mark.slow
def test_greedy_play_dreams_nothing():
  (record,) = plan.measure('smoke', [2], [(1, 0)], seconds=0.01)
  assert record['decoder'] == 'none' and record['passes_per_frame'] == 0
  assert record['decisions_per_second'] > 0


def test_sizes_are_those_of_the_configs():
  from configs import jowa
  from jowa_jax.methods import factory

  for size in models.SIZES:
    tokenizer, model = models.configs(size, 'bfloat16')
    config = jowa.get_config(size).copy_and_resolve_references()
    config.tokenizer.dtype = config.backbone.dtype = 'bfloat16'
    found = factory.method_config(config.to_dict())
    assert found.tokenizer == tokenizer and found.model == model
