"""What the page begins with."""

import json

import pytest

from jowa_jax.report import labels, write_report
from jowa_jax.report.chapters import chapters
from jowa_jax.report.inputs import SUMMARY, read_inputs
from jowa_jax.report.scores import score_table
from tests.report.played import rollouts

SAID = {
  'chapters': [
    {
      'title': 'Known games',
      'text': 'Two of them.',
      'agents': ['random', 'data', 'mine', 'absent'],
      'games': ['Assault', 'Carnival', 'Zaxxon'],
    }
  ],
  'names': {'mine': {'title': 'Mine', 'note': 'my own'}},
}


def test_means_of_who_played_and_what_follows():
  table = score_table(
    {
      'random': rollouts('random', 'Assault', [100, 300])
      + rollouts('random', 'Carnival', [600]),
      'data': rollouts('data', 'Assault', [900]),
      'mine': rollouts('mine', 'Assault', [400])
      + rollouts('mine', 'Carnival', [500]),
    }
  )
  names = {name: labels.Label(name.title()) for name in ('random', 'mine')}
  names['data'] = labels.Label('Training data')
  colors = {'random': 0, 'data': 1, 'mine': 5}
  (chapter,) = chapters(SAID, table, names, colors)
  assert [agent['color'] for agent in chapter['agents']] == [0, 1, 5]
  first, second = chapter['rows']
  assert first['game'] == 'Assault' and second['game'] == 'Carnival'
  assert [cell['mean'] for cell in first['cells']] == [
    '200.0',
    '900.0',
    '400.0',
  ]
  assert first['cells'][0]['error'] == '± 100.0'
  # Data does not compete.
  assert [cell['best'] for cell in first['cells']] == [False, False, True]
  assert [cell['mean'] for cell in second['cells']] == ['600.0', '–', '500.0']
  assert chapter['conclusions'] == [
    'Mine: above random in 1 of 2, above training data in 0 of 1'
  ]
  # A single episode, whose error nobody knows.
  assert chapter['unclear'] == 1
  assert chapters({}, table, names, colors) == []


def test_differences_within_two_standard_errors_may_be_chance():
  def unclear(mine, random):
    table = score_table(
      {
        'random': rollouts('random', 'Assault', random),
        'mine': rollouts('mine', 'Assault', mine),
      }
    )
    names = {name: labels.Label(name) for name in ('random', 'mine')}
    (found,) = chapters(SAID, table, names, {'random': 0, 'mine': 1})
    assert found['conclusions'] == ['mine: above random in 1 of 1']
    return found['unclear']

  # Standard errors of 1 each: the difference is of the square root of 2.
  assert unclear([9, 11], [5, 7]) == 0
  assert unclear([9, 11], [7.5, 9.5]) == 1
  # Episodes that are all equal have an error that nobody knows.
  assert unclear([10, 10], [5, 5]) == 1


@pytest.mark.slow
def test_a_quickstart_says_who_is_expected(workdir):
  config = {
    'runs': {'order': ['finetuned']},
    'evaluate': {'agents': {'random': {}, 'mine': {}}},
  }
  (workdir / 'config.json').write_text(json.dumps(config))
  said = {**SAID, 'names': {'jowa': {'title': 'My JOWA', 'note': ''}}}
  said['chapters'] = [{**SAID['chapters'][0], 'agents': ['random', 'jowa']}]
  (workdir / 'eval' / SUMMARY).write_text(json.dumps(said))
  missing = read_inputs(workdir).missing
  assert set(missing) == {
    'finetuned/config.json',
    'finetuned/metrics.jsonl',
    'eval/mine.jsonl',
  }
  page = write_report(workdir, reps=20).read_text()
  assert 'Known games' in page and 'My JOWA' in page
  assert 'above random play in 0 of 2' in page
