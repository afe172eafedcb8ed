import csv
import dataclasses
from importlib import resources

import pytest

from jowa_jax import report
from jowa_jax.report import plots, scores, summary, tables
from jowa_jax.report.labels import Label
from jowa_jax.report.score_sections import agent_colors, over_games
from tests.report.played import rollouts

REPS = 50


@pytest.fixture(scope='module')
def played():
  # Assault: random 222.4, human 742; Pong: random -20.7, human 14.6.
  return {
    'random': rollouts('random', 'Assault', [222.4, 222.4])
    + rollouts('random', 'Pong', [-20.7, -20.7]),
    'jowa': rollouts('jowa', 'Assault', [742.0, 1261.6], parameters=100)
    + rollouts('jowa', 'Pong', [14.6, 14.6], parameters=100),
    'very_big': rollouts(
      'very_big', 'Assault', [1261.6, 1261.6], parameters=1000
    )
    + rollouts('very_big', 'Pong', [14.6, 14.6], parameters=1000)
    + rollouts('very_big', 'AirRaid', [5, 5], parameters=1000),
    # Unlike numbers of episodes: no intervals, no comparisons.
    'data': rollouts('data', 'Assault', [742.0] * 3)
    + rollouts('data', 'Pong', [14.6]),
  }


@pytest.fixture(scope='module')
def found(played):
  return summary.summarize(scores.score_table(played), played, REPS)


def test_aggregates(found):
  jowa = found.human['jowa']
  assert jowa.games == ('Assault', 'Pong') and jowa.runs == 2
  # Means of games: 1.5 and 1.
  assert jowa.mean.value == pytest.approx(1.25)
  assert jowa.mean.interval == pytest.approx((1.0, 1.5))
  assert jowa.above_reference.value == 1
  assert found.human['very_big'].games == ('Assault', 'Pong')
  assert found.human['data'].mean.interval is None
  assert found.dqn['jowa'].reference == 'dqn'


def test_comparisons(found):
  assert set(found.comparisons) == {
    ('jowa', 'random'),
    ('very_big', 'random'),
    ('very_big', 'jowa'),
  }
  better = found.comparisons['very_big', 'jowa']
  # Assault: one of two is beaten, the other tied; Pong: all tied.
  assert better.probability.value == pytest.approx((0.75 + 0.5) / 2)
  # Means of games: 2 and 1 less 1.5 and 1.
  assert better.mean.value == pytest.approx(0.25)
  assert better.mean.interval == pytest.approx((0, 0.5))
  assert found.comparisons['jowa', 'random'].probability.value == 1
  assert set(found.profiles) == {'random', 'jowa', 'very_big', 'data'}


def test_pairs_are_compared_in_the_games_of_both():
  """No game was played by all three."""
  records = {
    'x': rollouts('x', 'Assault', [222.4, 742.0]),
    'y': rollouts('y', 'Assault', [222.4] * 2) + rollouts('y', 'Pong', [0, 1]),
    'z': rollouts('z', 'Pong', [2, 3]),
  }
  found = summary.summarize(scores.score_table(records), records, REPS)
  assert not found.profiles
  pairs = found.comparisons
  assert {pair: one.games for pair, one in pairs.items()} == {
    ('y', 'x'): ('Assault',),
    ('z', 'y'): ('Pong',),
  }
  assert pairs['y', 'x'].mean.value == pytest.approx(-0.5)
  names = {agent: Label(agent.upper()) for agent in records}
  rows = over_games(found, agent_colors(records), names)['comparisons']
  assert [(row['x'], row['y'], row['noise']) for row in rows] == [
    ('Y', 'X', 'episodes'),
    ('Z', 'Y', 'episodes'),
  ]
  assert rows[0]['cells'][1]['value'] == '−0.500'


def test_scaling_and_learning(played):
  assert summary.summarize(
    scores.score_table(played), played, REPS
  ).scaling == {
    'jowa': (100, pytest.approx(1.25)),
    'very_big': (1000, pytest.approx(1.5)),
  }
  other = {**played}
  other['very_big'] = [
    dataclasses.replace(r, setup={**r.setup, 'method': 'mtbc'})
    for r in played['very_big']
  ]
  found = summary.summarize(scores.score_table(other), other, REPS)
  assert found.scaling == {}  # one size of each method
  steps = {
    'jowa': [
      r
      for step, values in ((10, [222.4]), (20, [742.0, 742.0]))
      for r in rollouts(
        'jowa', 'Assault', values, run='a', checkpoint_step=step
      )
    ]
    + rollouts('jowa', 'Pong', [14.6], run='a', checkpoint_step=20)
  }
  found = summary.summarize(scores.score_table(steps), steps, REPS)
  # Pong was not played at step 10.
  assert found.learning == {
    'jowa': [(10, pytest.approx(0.0)), (20, pytest.approx(1.0))]
  }
  assert found.scaling == {}
  names = {'jowa': Label('JOWA')}
  (plot,) = over_games(found, {'jowa': 3}, names)['plots']
  assert plot['title'] == 'Learning' and 'var(--agent-3)' in plot['svg']


def test_steps_of_different_runs_are_no_curve():
  evaluated = {
    'jowa': [
      r
      for run, step, value in (('a', 10, 300), ('b', 20, 400))
      for r in rollouts(
        'jowa', 'Assault', [value], run=run, checkpoint_step=step
      )
    ]
  }
  table = scores.score_table(evaluated)
  assert summary.summarize(table, evaluated, REPS).learning == {}


def test_seeds_in_one_game_alone_are_no_runs_of_all():
  """Episodes of two seeds would pass for those of one agent."""
  mixed = {
    'jowa': [
      *rollouts('jowa', 'Assault', [1, 2], run='a'),
      *rollouts('jowa', 'Assault', [300, 310], run='b'),
      *rollouts('jowa', 'Pong', [1, 2, 3, 4], run='a'),
    ]
  }
  found = summary.summarize(scores.score_table(mixed), mixed, REPS)
  assert found.human['jowa'].noise == 'rollouts'
  assert found.human['jowa'].runs == 1
  assert found.human['jowa'].mean.interval is None


def test_json(played, found):
  figures = summary.to_json(scores.score_table(played), found)
  assert list(figures) == [
    *('AirRaid', 'Assault', 'Pong', 'aggregates', 'comparisons')
  ]
  assert figures['Assault']['random'] == {
    'mean': 222.4,
    'standard_error': None,  # of equal episodes
    'noise': 'rollouts',
    'cut_off': 0,
    'human_normalized': 0.0,
    'rollouts': [222.4, 222.4],
  }
  mean = figures['aggregates']['jowa']['mean']
  assert mean['value'] == pytest.approx(1.25) and len(mean['interval']) == 2
  first = figures['comparisons'][0]
  assert (first['first'], first['second']) == ('jowa', 'random')
  assert first['mean']['value'] == pytest.approx(1.25)


def test_the_page_says_which_noise_it_shows(played):
  seeds = {
    'jowa': [
      # Seeds that are equal in everything show no noise.
      dataclasses.replace(r, setup={'run': name}, score=r.score + better)
      for name, better in (('a', 0), ('b', 1))
      for r in played['jowa']
    ]
  }
  for records, noises in ((played, ['rollouts']), (seeds, ['seeds'])):
    found = summary.summarize(scores.score_table(records), records, REPS)
    names = {agent: Label(agent) for agent in records}
    section = over_games(found, agent_colors(records), names)
    assert section['noises'] == noises


def test_episodes_are_compared_with_episodes():
  """One agent has seeds, the other has none."""
  seeds = {
    'random': rollouts('random', 'Assault', [0, 1000, 0, 1000, 0, 0, 0, 0]),
    'jowa': [
      r
      for run in ('a', 'b')
      for r in rollouts('jowa', 'Assault', [0, 1000] * 4, run=run)
    ],
  }
  found = summary.summarize(scores.score_table(seeds), seeds, REPS)
  better = found.comparisons['jowa', 'random']
  # Half of the ones against a quarter of the others: 3/8 + half of the ties.
  assert better.probability.value == pytest.approx(3 / 8 + (1 / 8 + 3 / 8) / 2)
  assert better.noise == 'rollouts' and better.runs == (16, 8)
  # Episodes of two seeds are not sixteen independent ones.
  assert better.probability.interval is None
  assert found.profiles['jowa'].interval is None
  assert found.profiles['random'].interval is not None
  assert found.human['jowa'].noise == 'seeds'


def test_tables(played, found, tmp_path):
  table = scores.score_table(played)
  paths = tables.write_tables(tmp_path, table, found)
  assert {path.suffix for path in paths} == {'.csv', '.md', '.tex'}
  rows = list(csv.DictReader((tmp_path / 'scores.csv').open()))
  assert len(rows) == 9
  (row,) = (r for r in rows if (r['game'], r['agent']) == ('Assault', 'jowa'))
  assert float(row['mean']) == pytest.approx(1001.8)
  assert float(row['human_normalized']) == pytest.approx(1.5)
  # Equal episodes are no evidence that there is no noise.
  text = (tmp_path / 'scores.md').read_text()
  assert '| Assault |    222.4 | 1001.8 ± 259.8 |' in text
  latex = (tmp_path / 'aggregates.tex').read_text()
  assert r'very\_big' in latex and 'very_big' not in latex
  assert r'$\pm$' in (tmp_path / 'scores.tex').read_text()
  assert r'\toprule' in latex and 'interquartile mean' in latex
  rows = list(csv.DictReader((tmp_path / 'aggregates.csv').open()))
  assert {(r['agent'], r['reference']) for r in rows} >= {('jowa', 'dqn')}


def test_colours():
  colors = agent_colors(['mine', 'jowa', 'yours', 'random'])
  assert colors == {'mine': 5, 'jowa': 3, 'yours': 6, 'random': 0}
  # A study of all methods has no two alike.
  many = ['random', *(f'agent{i}' for i in range(9))]
  assert len(set(agent_colors(many).values())) == len(many)


def test_the_page_has_every_colour_in_light_and_dark():
  style = (resources.files(report) / 'palette.css.jinja').read_text()
  for i in range(plots.PALETTE):
    assert style.count(f'--agent-{i}:') == 2
