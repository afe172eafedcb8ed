"""Outputs that two commands may share: one is at work, the other is told."""

import threading
import types

import numpy as np
import pytest

from jowa_jax import ownership
from jowa_jax.eval import diagnosis_run, quality_report, records
from jowa_jax.eval.diagnosis import DiagnosisConfig
from jowa_jax.recipes.quickstart import phases
from jowa_jax.report import write_report
from tests.report.played import rollouts


def _quickstart(path):
  phases.quickstart({}, path)


def _judge(path):
  quality_report.judge(None, [None], np.zeros(1), path)


def _diagnose(path):
  agent = types.SimpleNamespace()
  diagnosis_run.diagnose(
    agent, ('Pong',), DiagnosisConfig(), None, path / 'rows.json'
  )


@pytest.mark.parametrize(
  'command, lock',
  [
    (_quickstart, '.owner'),
    (_judge, '.judge.owner'),
    (_diagnose, '.rows.json.owner'),
  ],
)
def test_the_second_is_told_who_holds_it(tmp_path, monkeypatch, command, lock):
  plan = types.SimpleNamespace(config={})
  monkeypatch.setattr(phases, 'make_plan', lambda config, workdir: plan)
  with ownership.owned(tmp_path / lock):
    with pytest.raises(ownership.InUseError, match='in use by process .*since'):
      command(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [lock]
  # What is wrong otherwise is another error: the lock is free again.
  with pytest.raises(AttributeError):
    command(tmp_path)
  assert not list(tmp_path.iterdir())


def test_an_evaluation_says_who_writes(tmp_path):
  path = tmp_path / 'jowa.jsonl'
  with (
    records.appended(path, 'jowa', {'Pong': {}}),
    pytest.raises(records.RecordError, match='Another.*process .* on .*since'),
    records.appended(path, 'jowa', {'Pong': {}}),
  ):
    raise AssertionError('written twice')


def test_a_page_waits_for_another(tmp_path):
  records.write_rollouts(tmp_path / 'a.jsonl', rollouts('a', 'Pong', [1, 2]))
  page, done = tmp_path / 'report' / 'index.html', []

  def write():
    done.append(write_report(output=page, results=[tmp_path], reps=5))

  with ownership.owned(page.with_name('.index.html.owner')):
    other = threading.Thread(target=write)
    other.start()
    other.join(0.5)
    assert not page.exists() and not done
  other.join(60)
  assert done == [page] and page.exists()
  assert not list(page.parent.glob('.*'))
