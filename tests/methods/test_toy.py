"""A method that nothing knows of goes through everything that JOWA does."""

import json
import pathlib

import numpy as np
import pytest

import jowa_jax
from jowa_jax import games
from jowa_jax.bench import train as bench
from jowa_jax.methods import factory
from jowa_jax.recipes import finetuning
from jowa_jax.train.run import Run
from tests.methods import toy
from tests.train import helpers

ROOT = pathlib.Path(__file__).parents[2]
GAMES = ('Assault', 'Carnival')


@pytest.fixture(scope='module', autouse=True)
def registered():
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(factory.METHODS, 'toy', toy.ENTRY)
    yield


def config_of(data, games=GAMES, **changes):
  config = toy.get_config().copy_and_resolve_references().to_dict()
  helpers.change(
    config,
    data__directory=str(data),
    data__games=games,
    data__held_out_fraction=0.3,
    run__log_every=1,
    run__save_every=4,
    run__evaluate_every=4,
  )
  helpers.change(config, **changes)
  return json.loads(json.dumps(config))


@pytest.fixture(scope='module')
def trained(atari_data_dir, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('toy') / 'run'
  Run(config_of(atari_data_dir), workdir).train(progress=False)
  return workdir


@pytest.fixture
def toy_launch(launch):
  """What a script prints that knows of the method."""

  def run(script, *flags, devices=1):
    done = launch(
      'tests.methods.toy', f'launch.{script}', *flags, devices=devices
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout

  return run


def test_it_learns(trained):
  records = helpers.read_metrics(trained)
  assert [record['step'] for record in records] == [*range(1, 25)]
  cloning = [record['toy/cloning'] for record in records]
  assert np.mean(cloning[-6:]) < np.mean(cloning[:6]) - 0.1
  shifts = [record['toy/shift'] for record in records]
  assert len(set(shifts)) > 2 and set(shifts) <= {-2.0, -1.0, 0.0, 1.0, 2.0}
  last = records[-1]
  assert last['held_out/toy/cloning'] > 0 and last['held_out/toy/value'] > 0


@pytest.mark.slow
def test_two_devices_train_the_same_agent(
  atari_data_dir, trained, toy_launch, tmp_path
):
  toy_launch(
    'train',
    f'--config={ROOT}/tests/methods/toy.py',
    f'--config.data.directory={atari_data_dir}',
    f'--config.data.games={GAMES}',
    '--config.data.held_out_fraction=0.3',
    '--config.run.log_every=1',
    '--config.run.save_every=4',
    '--config.run.evaluate_every=4',
    '--config.mesh.axes.data=2',
    f'--workdir={tmp_path}/run',
    '--noprogress',
    devices=2,
  )
  ours = helpers.read_metrics(tmp_path / 'run')
  theirs = helpers.read_metrics(trained)
  for name in ('toy/cloning', 'toy/value', 'toy/shift'):
    np.testing.assert_allclose(
      [record[name] for record in ours],
      [record[name] for record in theirs],
      rtol=1e-4,
    )


def test_from_collected_play_to_an_agent(launch, toy_launch, tmp_path):
  done = launch(
    'collect',
    f'--output={tmp_path}/data',
    '--config.games=Assault',
    '--config.epsilons=(1.0,)',
    '--config.steps_per_checkpoint=60',
    '--config.num_processes=1',
    '--noprogress',
  )
  assert done.returncode == 0, done.stderr[-3000:]
  toy_launch(
    'train',
    f'--config={ROOT}/tests/methods/toy.py',
    f'--config.data.directory={tmp_path}/data',
    "--config.data.games=('Assault',)",
    '--config.stages.all.steps=2',
    f'--workdir={tmp_path}/run',
    '--noprogress',
  )
  agent = jowa_jax.load(tmp_path / 'run')
  assert agent.step == 2 and agent.games == ('Assault',)
  agent.begin(['Assault'] * 2)
  actions = agent.act(np.zeros((2, 84, 84), np.uint8))
  assert set(actions.tolist()) <= set(games.LEGAL_ACTIONS['Assault'])


class Interrupt(Exception):
  """As a lost machine is."""


def test_an_interrupted_run_is_the_same_run(atari_data_dir, trained, tmp_path):
  def on_step(step):
    if step == 22:
      raise Interrupt

  config, taken = config_of(atari_data_dir), []
  with pytest.raises(Interrupt):
    Run(config, tmp_path).train(progress=False, on_step=on_step)
  variables = Run(config, tmp_path).train(progress=False, on_step=taken.append)
  assert taken == [21, 22, 23, 24]
  agent = jowa_jax.load(trained)
  found = helpers.flat(variables.params)
  for path, value in helpers.flat(agent.variables.params).items():
    np.testing.assert_array_equal(found[path], value, err_msg=path)


def test_it_acts_by_its_own_options(trained):
  agent = jowa_jax.load(trained)
  assert agent.method.simulator is None and agent.method.tokenizer is None
  frames = np.random.default_rng(0).integers(0, 256, (2, 84, 84), np.uint8)
  played = []
  for noise in (0.0, 5.0):
    agent.begin(GAMES, epsilon=0.0, noise=noise)
    played.append([agent.act(frames).tolist() for _ in range(12)])
    for actions in played[-1]:
      for game, action in zip(GAMES, actions, strict=True):
        assert action in games.LEGAL_ACTIONS[game]
  # The stack is full after three frames; nothing changes from then on.
  assert all(actions == played[0][3] for actions in played[0][3:])
  assert len({tuple(actions) for actions in played[1]}) > 2
  with pytest.raises(TypeError, match="no option 'planner'"):
    agent.begin(GAMES, planner='beam')


def test_it_is_evaluated_and_told_of(trained, toy_launch, tmp_path):
  toy_launch(
    'evaluate',
    f'--checkpoint={trained}',
    '--games=Assault',
    '--rollouts=2',
    '--noise=0.5',
    '--config.protocol.max_frames=80',
    f'--output={tmp_path}/toy.jsonl',
    '--noprogress',
  )
  rollouts = (tmp_path / 'toy.jsonl').read_text().splitlines()
  assert len(rollouts) == 2 and '"noise": 0.5' in rollouts[0]
  page = toy_launch(
    'report',
    f'--results={tmp_path}/toy.jsonl',
    f'--runs={trained}',
    f'--output={tmp_path}/index.html',
  ).strip()
  assert '<h4>Toy' in pathlib.Path(page).read_text()


def test_a_new_game_starts_from_a_related_ones_row(
  atari_data_dir, trained, tmp_path
):
  config = config_of(atari_data_dir, ())
  config['data']['directory'] = ''
  config['init_from']['task_row'] = 'Assault'
  config['stages']['all']['steps'] = 1
  config['stages']['all']['linear']['learning_rate'] = 0.0
  config['finetune'] = {'scratch': {'steps': 8}}
  resolved = finetuning.resolve(
    config,
    game='Carnival',
    data=str(atari_data_dir),
    checkpoint=str(trained),
  )
  Run(resolved, tmp_path).train(progress=False)
  source, adapted = jowa_jax.load(trained), jowa_jax.load(tmp_path)
  before, after = (
    agent.variables.params['linear'] for agent in (source, adapted)
  )
  np.testing.assert_array_equal(before['kernel'], after['kernel'])
  np.testing.assert_array_equal(
    after['prior'][games.task_id('Carnival')],
    before['prior'][games.task_id('Assault')],
  )


def test_a_step_is_measured(atari_data_dir):
  (record,) = bench.run_config(config_of(atari_data_dir), seconds=0.01)
  assert record['stage'] == 'all' and record['step_seconds'] > 0
  # Forward, and backward for what is trained.
  assert record['model_flops'] > 0 and record['frames'] == 'pixels'
