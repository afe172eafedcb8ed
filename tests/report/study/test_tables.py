"""The paper's tables, fed as result files, come out as they were printed."""

import csv
import dataclasses
from xml.etree import ElementTree

import pytest

from jowa_jax import games as games_lib
from jowa_jax.eval.records import write_rollouts
from jowa_jax.report import plots
from jowa_jax.report.study import results as results_lib
from jowa_jax.report.study.page import write_study
from jowa_jax.report.study.published import published, references
from jowa_jax.report.study.results import Agent, Source
from jowa_jax.report.study.tables import study_tables
from tests.report.played import rollouts

SVG = '{http://www.w3.org/2000/svg}'
# Half of the last printed decimal.
PRINTED = {'Tables 5 and 19': 5.1e-3}
FIGURES = {
  'mean': 'Mean',
  'median': 'Median',
  'interquartile_mean': 'Interquartile mean',
  'above_reference': 'Games above 1',
}
TABLES = {
  'Table 2': 'aggregates',
  'Tables 3 and 18': 'finetuning',
  'Table 21': 'finetuning',
  'Tables 5 and 19': 'planners',
  'Tables 6 and 20': 'ablations',
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('study')


def _fed(one, folder, name):
  """Result files of a table's agent, with seconds that give its speed."""
  path = folder / 'cells' / name / 'results' / f'{name}.jsonl'
  speed = one.decisions_per_second
  played = [
    dataclasses.replace(
      rollout,
      seconds=(i + 1) * 100 / speed if speed else 0.0,
      decisions=100,
    )
    for i, (game, score) in enumerate(one.scores.items())
    for rollout in rollouts(name, game, [score], parameters=10)
  ]
  write_rollouts(path, played)
  names = ('method', 'size', 'planner', 'quality', 'ablation')
  kind = {field: getattr(one, field) for field in names}
  return Agent(name, **kind, sources=(Source(name, path),))


@pytest.fixture(scope='module')
def fed(folder):
  """By table and published name: the row that the study's report has."""
  agents = {}
  for i, one in enumerate(published()):
    if one.table not in TABLES or not one.scores:
      continue
    if one.table == 'Tables 5 and 19' and one.planner == 'beam':
      continue  # the same agent as in Table 2, in half of its games
    agents[one.table, one.name] = _fed(one, folder, f'agent_{i}')
  ours = games_lib.REFERENCE_SCORES
  with pytest.MonkeyPatch.context() as patch:
    for game, scores in references().items():
      patch.setitem(ours, game, ours[game]._replace(**scores))
    made = {
      table.name: table
      for table in study_tables(results_lib.read(agents.values()), reps=2)
    }
  return agents, made


def _row(made, name, agent, source='here'):
  table = made[name]
  for row in table.rows:
    of_agent = row[0].agent == agent if source == 'here' else True
    if of_agent and row[1].text == source:
      return dict(zip(table.columns, row, strict=True))
  raise AssertionError(f'{name} has no row of {agent}')


@pytest.mark.parametrize(
  'one',
  [one for one in published() if one.table in TABLES and one.scores],
  ids=lambda one: f'{one.table}: {one.name}',
)
def test_a_published_row_comes_out_as_printed(one, fed):
  agents, made = fed
  key = one.table, one.name
  if key not in agents:
    key = 'Table 2', 'JOWA-150M'
  row = _row(made, TABLES[one.table], agents[key].name)
  expected = one.printed | one.contradicted
  there = {n: title for n, title in FIGURES.items() if title in row}
  assert {n for n in one.printed if n in there}
  for name in expected.keys() & there.keys():
    assert row[there[name]].value == pytest.approx(
      expected[name], abs=PRINTED.get(one.table, 5.1e-4)
    ), name
  for name in one.contradicted:
    assert row[there[name]].value != pytest.approx(
      one.printed[name], abs=5.1e-4
    )
  if one.decisions_per_second and key[0] != 'Table 2':
    assert row['Decisions a second'].value == pytest.approx(
      one.decisions_per_second
    )


def test_what_was_published_stands_beside(fed):
  agents, made = fed
  name = agents['Table 2', 'JOWA-70M'].name
  table = made['aggregates']
  at = next(i for i, row in enumerate(table.rows) if row[0].agent == name)
  printed, of_scores, released = table.rows[at + 1 : at + 4]
  assert printed[1].text == 'Table 2, printed'
  assert printed[6].text == '0.476 †' and printed[7].text == '4 †'
  assert of_scores[1].text == 'Table 2, its scores'
  assert of_scores[6].value == pytest.approx(0.781, abs=5.1e-4)
  # With 0 for Carnival's random score, unlike the released figures' 0.802.
  assert released[1].text == 'released scores'
  # Every score of the paper's Table 2 is there.
  scores = made['scores']
  for row in scores.rows:
    assert len(row) == len(scores.columns)
  assault = next(row for row in scores.rows if row[0].text == 'Assault')
  assert 2302.0 in [cell.value for cell in assault]


def test_an_interval_is_held_against_what_was_published(tmp_path):
  one = next(
    p for p in published() if (p.table, p.name) == ('Table 2', 'EDT-200M')
  )
  for factor, mark in ((0.1, ' ↓'), (1.0, ''), (3.0, ' ↑')):
    path = tmp_path / f'{factor}.jsonl'
    write_rollouts(
      path,
      [
        rollout
        for game, score in one.scores.items()
        for rollout in rollouts(
          'edt', game, [factor * score * part for part in (0.8, 0.9, 1.1, 1.2)]
        )
      ],
    )
    agent = Agent('edt', 'edt', '200m', sources=(Source('edt', path),))
    made = study_tables(results_lib.read([agent]), reps=50)
    table = next(table for table in made if table.name == 'aggregates')
    median = table.rows[0][5].text
    assert '[' in median and median.endswith(f']{mark}')


@pytest.mark.parametrize('count, said', [(3, '3 episodes'), (2, 'means')])
def test_games_of_unlike_numbers_of_episodes_are_means(tmp_path, count, said):
  path = tmp_path / 'mgdt.jsonl'
  played = rollouts('mgdt', 'Pong', [1.0, 2.0, 4.0])
  played += rollouts('mgdt', 'Freeway', [1.0, 2.0, 4.0][:count])
  write_rollouts(path, played)
  agent = Agent('mgdt', 'mgdt', '40m', sources=(Source('mgdt', path),))
  made = study_tables(results_lib.read([agent]), reps=2)
  (table,) = (table for table in made if table.name == 'aggregates')
  assert (
    dict(zip(table.columns, table.rows[0], strict=True))['Runs'].text == said
  )


def test_the_page_links_every_number_to_its_run(tmp_path):
  """Three seeds of an agent, of which one has not played yet; random play."""
  agents = []
  for name, method, cells in (('random', '', 1), ('mgdt', 'mgdt', 3)):
    sources = []
    for seed in range(cells):
      root = tmp_path / 'cells' / f'{name}_s{seed}'
      path = root / 'results' / f'{name}.jsonl'
      if seed < 2:
        (root / 'run').mkdir(parents=True)
        values = [300 + 200 * seed, 400 + bool(method) * 300]
        setup = dict(run=f'r{seed}', weights=f'w{seed}') if method else {}
        write_rollouts(path, rollouts(name, 'Assault', values, **setup))
      sources.append(
        Source(f'{name}_s{seed}', path, root / 'run' if method else None)
      )
    agents.append(Agent(name, method, 'small', sources=tuple(sources)))
  page = write_study('A study', 'Of two.', agents, tmp_path / 'report', reps=20)
  text = page.read_text()
  assert 'MGDT small beats random play in the one game and comes' in text
  assert 'Without results yet: mgdt_s2' in text
  assert 'href="#agent-mgdt"' in text and 'id="agent-mgdt"' in text
  for seed in range(2):
    assert f'href="../cells/mgdt_s{seed}/run/"' in text
    assert f'href="../cells/mgdt_s{seed}/results/mgdt.jsonl"' in text
  assert 'src="http' not in text
  bars = ElementTree.parse(tmp_path / 'report' / 'bars.svg').getroot()
  shown = [''.join(each.itertext()).strip() for each in bars.iter(f'{SVG}text')]
  assert {'MGDT small', 'Random play'} <= set(shown)
  style = bars.find(f'{SVG}style').text
  assert all(f'--agent-{i}:' in style for i in range(plots.PALETTE))
  with open(tmp_path / 'report' / 'scores.csv') as file:
    (row,) = csv.DictReader(file)
  assert float(row['MGDT small']) == 550 and float(row['Random play']) == 350
  markdown = (tmp_path / 'report' / 'scores.md').read_text()
  assert '](index.html#agent-mgdt)' in markdown
  assert r'$\pm$' in (tmp_path / 'report' / 'scores.tex').read_text()
  assert write_study('None', '', [], tmp_path / 'none') is None
  assert not (tmp_path / 'none').exists()
