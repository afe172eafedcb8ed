"""The bookkeeping of a study, with commands that do next to nothing."""

import json
import os
import pathlib
import shutil
import sys
import threading

import pytest

from configs import study as study_config
from jowa_jax.configuration import ConfigError
from jowa_jax.recipes.study import cost, plan, report, work
from launch import common

STUB = pathlib.Path(__file__).with_name('stub.py')
ENVIRONMENT = dict(os.environ)


def _command(**flags):
  return dict(script='stub', flags=flags, set={}, minutes=0.1)


def _cell(order, needs=(), shared=False, seed=0, method='mgdt'):
  return dict(
    method=method,
    seed=seed,
    games=('Assault',),
    agents={method or 'random': ''},
    needs=needs,
    shared=shared,
    commands=dict(order=tuple(order), **order),
  )


def _played(name):
  return _command(output=f'{{cell}}/results/{name}.jsonl', text='{}')


@pytest.fixture
def config():
  """Data, an agent of two seeds, and one that starts from the first of them."""
  data = _command(output='{cell}/data', text='{study} at {place}')
  cells = dict(
    data=_cell(dict(make=data), shared=True, method=''),
    **{
      f'mgdt_s{seed}': _cell(
        dict(train=_command(output='{cell}/run'), play=_played('mgdt')),
        ('data',),
        seed=seed,
      )
      for seed in (0, 1)
    },
    tuned=_cell(dict(play=_played('tuned')), ('mgdt_s0',), method='edt'),
  )
  return dict(
    title='A study',
    text='Of tests.',
    device='one core',
    flops=1e9,
    places=dict(place='elsewhere'),
    cells=cells,
  )


def _start(script, arguments):
  return [sys.executable, str(STUB), script, *arguments]


def _make(config, output):
  return plan.make_plan(config, output, common.read_config)


def _work(study, cells=None):
  cells = list(study.cells.values()) if cells is None else cells
  costs = cost.Costs(study)
  return work.work(cells, costs, ENVIRONMENT, _start, progress=False)


def _states(outcomes):
  return {one.cell.name: one.state for one in outcomes}


def test_cells_are_done_once_in_their_order(config, tmp_path):
  study = _make(config, tmp_path)
  assert list(study.cells) == ['data', 'mgdt_s0', 'mgdt_s1', 'tuned']
  assert set(_states(_work(study)).values()) == {work.DONE}
  data = tmp_path / 'cells' / 'data'
  assert (data / 'data').read_text() == f'{tmp_path} at elsewhere\n'
  assert set(json.loads((data / 'done.json').read_text())) == {'make'}
  assert '$ python -m launch.stub' in (data / 'log.txt').read_text()
  assert set(_states(_work(study)).values()) == {work.BEFORE}
  assert (data / 'data').read_text().count('\n') == 1
  # No locks stay behind.
  assert not list((tmp_path / 'cells').glob('.*'))


def test_a_cell_that_fails_stops_those_that_need_it_alone(config, tmp_path):
  train = config['cells']['mgdt_s0']['commands']['train']
  train['flags'] = dict(fail='the disk is full')
  killed = config['cells']['mgdt_s1']['commands']['train']
  killed['flags'] |= dict(die='{study}/died')
  study = _make(config, tmp_path)
  outcomes = _work(study)
  assert _states(outcomes) == {
    'data': work.DONE,
    'mgdt_s0': work.FAILED,
    'mgdt_s1': work.FAILED,
    'tuned': work.WAITS,
  }
  text = work.describe(outcomes)
  assert '4 cells: 1 done, 2 failed, 1 waits' in text
  assert 'mgdt_s0 failed: train: stub: error: the disk is full' in text
  assert 'mgdt_s1 failed: train: ended by SIGKILL after: 20 %' in text
  assert 'tuned waits for mgdt_s0' in text
  # The killed one goes on, and is not trained twice.
  train['flags'] = dict(output='{cell}/run')
  shutil.rmtree(tmp_path / 'cells' / 'mgdt_s0')
  states = _states(_work(_make(config, tmp_path)))
  assert states == {
    'data': work.BEFORE,
    'mgdt_s0': work.DONE,
    'mgdt_s1': work.DONE,
    'tuned': work.DONE,
  }


def test_who_asks_to_be_run_again_is(config, tmp_path):
  train = config['cells']['mgdt_s0']['commands']['train']
  train['flags'] |= dict(again='{study}/again')
  study = _make(config, tmp_path)
  assert set(_states(_work(study)).values()) == {work.DONE}
  log = study.cells['mgdt_s0'].log.read_text()
  assert log.count(' --again=') == 2


def test_shares_are_all_and_go_by_what_a_cell_starts_from(config, tmp_path):
  study = _make(config, tmp_path)
  shares = [[c.name for c in study.share(i, 2)] for i in (1, 2)]
  assert shares == [['data', 'mgdt_s0', 'tuned'], ['data', 'mgdt_s1']]
  assert [c.name for c in study.matching(['tun*'])] == [
    'data',
    'mgdt_s0',
    'tuned',
  ]
  with pytest.raises(ValueError, match='--cells=jowa.*mgdt_s0'):
    study.matching(['jowa*'])


def test_two_at_once_wait_for_each_other(config, tmp_path, monkeypatch):
  """Both need the data, which are made once."""
  study = _make(config, tmp_path)
  found = []

  # Signals are the main thread's.
  monkeypatch.setattr(work.signal, 'signal', lambda *_: None)

  def one(index):
    found.extend(_work(study, study.share(index, 2)))

  threads = [threading.Thread(target=one, args=(i,)) for i in (1, 2)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(found) == 5
  assert {one.state for one in found} <= {work.DONE, work.BEFORE}
  data = tmp_path / 'cells' / 'data' / 'data'
  assert data.read_text().count('\n') == 1


def test_a_cell_that_changed_is_refused_by_its_fields(config, tmp_path):
  command = config['cells']['mgdt_s1']['commands']['train']
  command['flags'] |= dict(config='configs/mgdt.py:smoke')
  command['set'] = dict(run=dict(seed=1))
  study = _make(config, tmp_path)
  _work(study, study.matching(['mgdt_s1']))
  # How long it takes is no part of what it is; nor are cells not begun.
  command['minutes'] = 3.0
  config['cells']['tuned']['seed'] = 4
  plan.check_begun(_make(config, tmp_path))
  command['set'] = dict(run=dict(seed=2))
  with pytest.raises(ConfigError) as error:
    plan.check_begun(_make(config, tmp_path))
  message = str(error.value)
  assert 'cells.mgdt_s1.commands.train.set.run.seed: was 1, now 2' in message
  # What its config file says counts, too.
  assert 'cells.mgdt_s1.configs.train.run.seed: was 1, now 2' in message
  # A study that was moved is the same.
  command['set'] = dict(run=dict(seed=1))
  shutil.move(tmp_path / 'cells', tmp_path / 'moved' / 'cells')
  plan.check_begun(_make(config, tmp_path / 'moved'))


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (dict(needs=('nobody',)), "cells.tuned.needs: there is no cell 'nobody'"),
    (dict(needs=('tuned',)), 'cells.tuned.needs: it needs itself'),
    (dict(sede=1), 'Unknown field cells.tuned.sede'),
    (dict(commands=dict(order=('x',))), 'commands.order'),
    (
      dict(agents=dict(mgdt='beam')),
      "cells.tuned.agents: mgdt has method='edt'",
    ),
  ],
)
def test_what_does_not_fit_is_named(change, message, config, tmp_path):
  config['cells']['tuned'] |= change
  with pytest.raises(ValueError, match=message):
    report.agents_of(_make(config, tmp_path))
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ('set_', 'message'),
  [
    (dict(run=dict(sede=1)), 'train.set.run.sede: there is no such field'),
    (dict(run=dict(seed='many')), 'train.set.run.seed: .*many'),
  ],
)
def test_a_field_of_a_commands_config_is_checked(
  set_, message, config, tmp_path
):
  command = config['cells']['mgdt_s1']['commands']['train']
  command['flags'] |= dict(config='configs/mgdt.py:smoke')
  command['set'] = set_
  with pytest.raises(ConfigError, match=message):
    _make(config, tmp_path)


def test_commands_are_those_that_are_left(config, tmp_path):
  command = config['cells']['mgdt_s1']['commands']['train']
  command['flags'] |= dict(config='configs/mgdt.py:smoke')
  command['set'] = dict(data=dict(games=('Assault', 'Pong')))
  study = _make(config, tmp_path)
  _work(study, study.matching(['data']))
  lines = plan.commands(list(study.cells.values())).splitlines()
  assert '# data' not in lines and '# mgdt_s1, after data' in lines
  (train,) = [line for line in lines if 'mgdt.py' in line]
  assert train.startswith('python -m launch.stub --output=')
  assert """'--config.data.games=("Assault","Pong",)'""" in train


@pytest.mark.parametrize('name', ['laptop', 'overnight', 'paper', 'smoke'])
def test_a_study_that_ships_can_be_planned(name, tmp_path):
  config = study_config.get_config(name)
  assert config.is_locked
  study = _make(config.to_dict(), tmp_path)
  assert report.agents_of(study)
  table = cost.describe(study, list(study.cells.values()), cost.Costs(study))
  assert study.study.device in table and 'in all' in table
  covered = {c.name for i in (1, 2, 3) for c in study.share(i, 3)}
  assert covered == set(study.cells)


def test_hours_are_from_operations_or_from_what_was_measured(tmp_path):
  study = _make(study_config.get_config('paper').to_dict(), tmp_path)
  cell = study.cells['jowa_40m_origin']
  step = cell.steps[0]
  hours = cost.Costs(study).minutes(step) / 60
  # 1 million steps of a batch of 512; facts: 8e13 operations for 150M.
  assert 3 < hours < 30
  records = [
    {
      'stage': stage,
      'model_flops': flops,
      'step_seconds': 0.5,
      'devices': 2,
    }
    for stage, flops in cost.operations(step.config).items()
  ]
  measured = cost.Costs(study, records)
  assert measured.minutes(step) == pytest.approx(1e6 / 60)
