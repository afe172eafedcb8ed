"""The quickstart of a packed agent: a tiny one, on tiny recordings."""

import json

import numpy as np
import pytest

from configs import quickstart as quickstart_config
from jowa_jax import agent as agent_lib
from jowa_jax.collect import recordings
from jowa_jax.collect.replay import replay
from jowa_jax.configuration import ConfigError
from jowa_jax.recipes.quickstart import quickstart
from jowa_jax.recipes.quickstart import recorded as recorded_lib
from jowa_jax.train.run import Run
from tests.train import helpers

GAMES = ('Assault', 'Carnival')


@pytest.fixture(scope='module')
def recording(record):
  """Long enough that some of Carnival's episodes are whole."""
  return record(600)


@pytest.fixture(scope='module')
def trained(recording, tmp_path_factory):
  """A run on all that is recorded of two games."""
  folder = tmp_path_factory.mktemp('trained')
  replay(str(recording), folder / 'data', GAMES, progress=False)
  config = helpers.tiny_config(
    folder / 'data',
    steps=(0, 2),
    backbone__max_blocks=6,
    data__held_out_fraction=0.2,
  )
  run = Run(config, folder / 'run')
  run.train(progress=False)
  return run


@pytest.fixture(scope='module')
def packed(trained, tmp_path_factory):
  path = tmp_path_factory.mktemp('packed') / 'agent.safetensors'
  agent_lib.pack(trained.workdir, path)
  return path


@pytest.fixture
def config(recording, packed):
  config = quickstart_config.get_config('full').copy_and_resolve_references()
  short = dict(context_length=2)
  with config.unlocked():
    helpers.change(
      config,
      recordings=str(recording),
      games='',  # those of the agent
      new_game='',
      pretrained__shipped=str(packed),
      data__new=dict(checkpoints=(1,), steps_per_checkpoint=100, minutes=0.1),
      judge__num_dreams=2,
      judge__decisions=50,
      evaluate__film_decisions=4,
      evaluate__films=('shipped_beam',),
    )
    config.evaluate.protocol.update(rollouts=1, max_frames=40)
    config.evaluate.agents.shipped.options = short
    config.evaluate.agents.shipped_beam.options.update(horizon=1, **short)
    for name in config.runs.order:
      changes = dict(save_every=2, log_every=1, batch_size=4)
      config.runs[name].config.run.update(changes)
      config.runs[name].config.stages.finetune.steps = 2
      config.runs[name].config.finetune.scratch.steps = 2
      config.runs[name].config.finetune.tokenizer_steps = 2
  return config.to_dict()


def test_the_new_game_is_learned_in_as_many_steps_by_all():
  runs = quickstart_config.get_config('full').runs
  steps = {}
  for name in runs.order:
    config = runs[name].config
    options, stage = config.finetune, config.stages.finetune
    rest = stage.steps if runs[name].source else options.scratch.steps
    steps[name] = options.tokenizer_steps + rest
  assert set(steps) == {'finetuned', 'scratch', 'cloned'}
  assert len(set(steps.values())) == 1


def test_a_run_of_a_game_is_found_among_recordings():
  names = 'Freeway_4,Gopher_5,Freeway_5'
  assert recorded_lib.of_run(names, 'Freeway', 5) == 'Freeway_5'
  assert recorded_lib.of_run(names, 'Gopher', 4) == ''


@pytest.mark.slow
def test_from_a_packed_agent_to_the_page(config, tmp_path, capsys):
  page = quickstart(config, tmp_path, progress=False).read_text()
  output = capsys.readouterr().out
  assert '[12/12]' in output and 'done before' not in output
  assert 'Replay play of a new game: Robotank' in output
  assert 'Games it was trained on' in page and 'Not found' not in page
  assert 'MTBC, fine-tuned' in page and 'JOWA, from scratch: ' in page
  scores = json.loads((tmp_path / 'scores.json').read_text())
  for game in GAMES:
    assert {'random', 'shipped', 'shipped_beam'} <= set(scores[game])
  new = {'random', 'finetuned', 'scratch', 'cloned'}
  assert set(scores['Robotank']) == new
  # What it learned from needed no replay.
  recorded = recorded_lib.read(config['recordings'])['Carnival']
  whole = [s for some in recorded for s in some.scores[some.terminated]]
  assert whole and scores['Carnival']['data']['mean'] == np.mean(whole)
  # All is done; the same again only writes the page, and the config if a kill
  # left the directory without it.
  saved = (tmp_path / 'config.json').read_text()
  (tmp_path / 'config.json').unlink()
  quickstart(config, tmp_path, progress=False)
  assert capsys.readouterr().out.count('(done before)') == 12
  assert (tmp_path / 'config.json').read_text() == saved


@pytest.mark.slow
def test_the_runs_start_from_what_they_say(config, packed, tmp_path):
  from jowa_jax.recipes.quickstart.plan import make_plan

  runs = make_plan(config, tmp_path).runs
  sources = {n: r.config['init_from']['checkpoints'] for n, r in runs.items()}
  assert sources == {
    'finetuned': str(packed),
    'scratch': '',
    'cloned': str(packed),
  }
  agent = agent_lib.load(packed)
  for run in runs.values():
    for section in ('tokenizer', 'backbone', 'heads'):
      assert run.config[section] == agent.config[section]
  trained = {n: [set(s.optimizers) for s in r.stages] for n, r in runs.items()}
  assert trained == {
    'finetuned': [{'tokenizer'}, {'world_action'}],
    'scratch': [{'tokenizer'}, {'world_action'}],
    'cloned': [{'tokenizer'}, {'policy'}],
  }


@pytest.mark.slow
def test_what_was_held_out_is_known_without_playing(
  trained, packed, recording, tmp_path
):
  agent = agent_lib.load(packed)
  recorded = recorded_lib.read(str(recording))
  parts = recorded_lib.held_out(agent, recorded, GAMES, 10_000)
  held, others = recorded_lib.load_held_out(
    str(recording), parts, tmp_path, progress=False
  )
  data = trained.load_data()
  wanted = {
    episode.digest
    for episode in data.held_out.episodes
    if episode.checkpoint == parts[episode.game].checkpoint
  }
  assert {episode.digest for episode in held} == wanted and wanted
  shown = {episode.digest for episode in data.train.episodes}
  assert {episode.digest for episode in others} <= shown


@pytest.mark.slow
def test_play_that_was_not_trained_on_is_refused(packed, recording):
  agent = agent_lib.load(packed)
  recorded = recorded_lib.read(str(recording))
  recorded['Assault'] = recorded['Assault'][:1]
  with pytest.raises(ConfigError, match='held out of Assault cannot be told'):
    recorded_lib.held_out(agent, recorded, GAMES, 100)


def test_recorded_scores_of_a_beginning(recording):
  some = recorded_lib.read(str(recording))['Carnival']
  every = recorded_lib.rollouts(some, 0)
  assert [r.rollout for r in every] == list(range(len(every)))
  assert all(r.clipped_score is None and r.terminated for r in every)
  # The last one of a checkpoint is cut off.
  cut = int(some[0].lengths[-1])
  assert not some[0].terminated[-1]
  limited = recorded_lib.rollouts(some[:1], 0, limit=cut)
  assert limited[-1].decisions == cut and not limited[-1].terminated
  assert limited[:-1] == recorded_lib.rollouts(some[:1], 0)
  first = recorded_lib.rollouts(some[:1], int(some[0].lengths[0]))
  assert len(first) == int(some[0].terminated[0])
  assert recordings.load(recording).games == (*GAMES, 'Robotank')
