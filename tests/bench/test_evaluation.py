"""The benchmark of evaluation plays real games in both ways."""

import json

import pytest

from jowa_jax.bench import evaluation


@pytest.mark.slow
def test_rates_are_measured(launch, tmp_path):
  path = tmp_path / 'eval.json'
  done = launch(
    'benchmark',
    '--suite=eval',
    '--size=smoke',
    '--environments=2',
    '--games=Pong,Assault',
    '--decisions=4',
    '--passes=1',
    f'--json={path}',
  )
  assert done.returncode == 0, done.stderr
  records = json.loads(path.read_text())
  assert [r['player'] for r in records] == ['random', 'greedy', 'beam']
  for record in records:
    assert record['environments'] == 4 and record['games'] == 2
    assert record['decisions_per_second'] > 0 < record['one_at_a_time']
    assert record['speed_up'] == pytest.approx(
      record['decisions_per_second'] / record['one_at_a_time']
    )
    assert record['player'] in done.stdout


def test_numbers_that_cannot_be():
  with pytest.raises(ValueError, match='decisions=0'):
    evaluation.measure('smoke', ['Pong'], 1, 0)
