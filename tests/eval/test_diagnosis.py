"""Diagnoses with a small agent: what is played, compared and written."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from jowa_jax.agent import Agent
from jowa_jax.envs.ale import AleEnv
from jowa_jax.envs.protocol import Protocol
from jowa_jax.eval import diagnosis, diagnosis_run, records, rollout
from jowa_jax.eval.diagnosis import PLAYERS, DiagnosisConfig
from jowa_jax.report import write_report
from tests import compilations
from tests.eval.small_agent import make_agent

GAME = 'Assault'
SHORT = DiagnosisConfig(
  episodes=2, decisions=12, horizon=1, context_length=2, epsilon=0.2
)


@pytest.fixture(scope='module')
def agent():
  return make_agent()


@pytest.fixture(scope='module')
def searches(agent):
  return diagnosis.make_searches(agent, GAME, SHORT, AleEnv)


def play(agent, searches, player, **changes):
  config = dataclasses.replace(SHORT, **changes)
  return diagnosis.play(agent, GAME, player, config, AleEnv, searches)


@pytest.mark.slow
@pytest.mark.parametrize(
  'player, options',
  [
    ('greedy', dict(planner='none')),
    ('model', dict(planner='beam', width=2, horizon=1)),
  ],
)
def test_plays_what_an_evaluation_plays(agent, searches, player, options):
  played = play(agent, searches, player, compare_every=0)
  assert played.compared is None
  evaluated = rollout.evaluate(
    agent.policy(context_length=2, epsilon=0.2, **options),
    agent.variables,
    [GAME],
    Protocol(rollouts=2, max_frames=4 * SHORT.decisions),
    SHORT.seed,
    agent='jowa',
    progress=False,
  )
  for episode, other in zip(played.episodes, evaluated, strict=True):
    assert len(episode.rewards) == SHORT.decisions == other.decisions
    assert episode.rewards.sum() == other.score
  first, second = (list(e.actions) for e in played.episodes)
  assert first != second  # Exploration is each one's own.


@pytest.mark.slow
def test_the_search_in_the_emulator(agent, searches):
  played = play(agent, searches, 'emulator', epsilon=0.0, compare_every=1)
  for episode in played.episodes:
    env = AleEnv(GAME)
    env.reset()
    assert [env.step(a).reward for a in episode.actions] == list(
      episode.rewards
    )
    assert not episode.terminated and not episode.truncated
  compared = played.compared
  # Decision by decision, of both episodes.
  actions = np.stack([e.actions for e in played.episodes], axis=1).ravel()
  rewards = np.stack([e.rewards for e in played.episodes], axis=1).ravel()
  np.testing.assert_array_equal(compared.emulator, actions)
  assert compared.paths.shape == (24, 4, 1)
  # The model's leaves come first.
  np.testing.assert_array_equal(compared.paths[:, 0, 0], compared.model)
  np.testing.assert_array_equal(compared.paths[:, 2, 0], actions)
  np.testing.assert_array_equal(
    compared.real_rewards[:, 2, 0], np.sign(rewards)
  )
  assert np.isfinite(compared.dreamed_values).all()
  # The kept leaves are ordered by what they are worth in the emulator.
  gamma = agent.simulator.gamma
  scores = compared.real_rewards[..., 0] + gamma * compared.real_values
  assert np.all(scores[:, 2] >= scores[:, 3] - 1e-4)
  # That actions are compared changes nothing.
  other = play(agent, searches, 'emulator', epsilon=0.0, compare_every=0)
  for a, b in zip(played.episodes, other.episodes, strict=True):
    np.testing.assert_array_equal(a.actions, b.actions)


@pytest.mark.slow
def test_width_one_is_greedy_and_all_is_compiled_once(agent):
  config = dataclasses.replace(SHORT, width=1, decisions=4)
  with compilations.counted() as compiled:
    played = diagnosis.play(agent, GAME, 'emulator', config, AleEnv)
  assert compiled['act'] == compiled['dreamed'] == 1
  # Of the search in the emulator, and of the paths that are compared.
  assert compiled['look'] == 2
  greedy, model, emulator = played.compared[:3]
  np.testing.assert_array_equal(emulator, greedy)
  np.testing.assert_array_equal(model, greedy)


class Ends(AleEnv):
  """Ends an episode by its fifth decision."""

  def reset(self):
    self.left = 5
    return super().reset()

  def step(self, action):
    self.left -= 1
    return super().step(action)._replace(terminated=self.left <= 0)

  def clone_state(self):
    return super().clone_state(), self.left

  def restore_state(self, state):
    super().restore_state(state[0])
    self.left = state[1]


@pytest.mark.slow
def test_a_diagnosis_on_disk(agent, tmp_path):
  output = tmp_path / 'made' / 'beam.json'
  config = dataclasses.replace(SHORT, compare_every=2)
  new = []
  how = dict(on_row=new.append, progress=False)
  few = diagnosis_run.diagnose(
    agent, [GAME], config, Ends, output, players=('greedy',), **how
  )
  rows = diagnosis_run.diagnose(agent, [GAME], config, Ends, output, **how)
  assert [row['player'] for row in new] == list(PLAYERS)
  assert rows[0] == few[0]
  assert json.loads(output.read_text())['rows'] == rows
  for row in rows:
    # Decisions 0, 2 and 4 of two episodes.
    assert row['decisions'] == 6 and row['ended'] == 2
    assert row['length'] == 5 and row['q_decisions'] == 10
  lines = diagnosis_run.table(rows).splitlines()
  assert lines[0].split() == [GAME, *PLAYERS]
  assert 'model_differs' in [line.split()[0] for line in lines]
  paths = diagnosis_run.write_records(rows, tmp_path, 'b', config, agent)
  assert [path.name for path in paths] == [f'b_{p}.jsonl' for p in PLAYERS]
  found = records.merge(
    r for path in paths for r in records.read_rollouts(path)
  )
  assert [r.decisions for r in found] == [5] * 6
  assert found[-1].setup['options']['planner'] == 'emulator'
  page = write_report(results=paths, output=tmp_path / 'page.html', reps=20)
  assert 'epsilon 0.2, sticky actions 0, 108,000 frames' in page.read_text()
  with pytest.raises(
    ValueError, match='(?s)beam.json is of another.*width: was 2, now 3'
  ):
    diagnosis_run.diagnose(
      *(agent, [GAME], dataclasses.replace(config, width=3), Ends, output),
      **how,
    )
  output.write_text('{}')
  with pytest.raises(ValueError, match='beam.json is no diagnosis'):
    diagnosis_run.diagnose(agent, [GAME], config, Ends, output, **how)


def test_unfinished_episodes_are_no_records(agent):
  row = {
    'game': GAME,
    'player': 'model',
    'episodes': [{'terminated': False, 'truncated': False}],
  }
  assert diagnosis_run.rollouts([row], 'b', SHORT, agent) == {}


def test_errors(agent, tmp_path):
  output = tmp_path / 'x.json'
  with pytest.raises(ValueError, match=r'players=\[.dreamer.\]'):
    diagnosis_run.diagnose(
      agent, [GAME], SHORT, Ends, output, players=['dreamer']
    )
  with pytest.raises(ValueError, match='player='):
    diagnosis.play(agent, GAME, 'dreamer', SHORT, Ends)
  with pytest.raises(ValueError, match='Asault'):
    diagnosis_run.diagnose(agent, ['Asault'], SHORT, Ends, output)
  config = dataclasses.replace(SHORT, context_length=None, horizon=99)
  with pytest.raises(ValueError, match='horizon=99'):
    diagnosis_run.diagnose(agent, [GAME], config, Ends, output)
  method = SimpleNamespace(tokenizer='one', simulator=None)
  cloner = Agent({'method': 'mtbc'}, method, None, 0)
  with pytest.raises(ValueError, match='mtbc has no simulator'):
    diagnosis.make_searches(cloner, GAME, SHORT, Ends)
  for name, value in dict(
    episodes=0, decisions=0, width=0, horizon=0, compare_every=-1, epsilon=2
  ).items():
    with pytest.raises(ValueError, match=f'{name}={value}'):
      dataclasses.replace(SHORT, **{name: value})
  assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command(launch, tmp_path):
  done = launch(
    'tests.eval.small_agent',
    *('launch.diagnose', '--checkpoint=small', f'--games={GAME}'),
    *('--horizon=1', '--episodes=1', '--decisions=3', '--players=emulator'),
    *('--noprogress', f'--output={tmp_path}/x.json'),
  )
  assert done.returncode == 0, done.stderr[-3000:]
  lines = done.stdout.splitlines()
  assert lines[0].startswith('episodes=1, decisions=3, width=2, horizon=1')
  assert lines[2].split() == [GAME, 'emulator']
  (row,) = json.loads((tmp_path / 'x.json').read_text())['rows']
  assert row['decisions'] == 3
  # An error can be no number: all that JSON has no word for is null.
  assert row['standard_error'] is None


@pytest.mark.slow
def test_a_variant_is_played_as_its_game(agent):
  config = dataclasses.replace(SHORT, decisions=3, compare_every=0)
  made = []

  def make(game):
    made.append(game)
    return AleEnv(game)

  played = diagnosis.play(agent, 'Breakout@m12d0', 'greedy', config, make)
  assert [len(each.rewards) for each in played.episodes] == [3, 3]
  assert set(made) == {'Breakout@m12d0'}
