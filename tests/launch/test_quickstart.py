"""The quickstart from emulator to report, interrupted on the way."""

import json
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from configs import quickstart as quickstart_config
from jowa_jax.bench import passes
from jowa_jax.configuration import ConfigError
from jowa_jax.data.episodes import DataError
from jowa_jax.methods.jowa_dreams import DECODERS
from jowa_jax.recipes.quickstart import quickstart, recorded
from jowa_jax.recipes.quickstart.plan import make_plan
from tests.train import helpers

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope='module')
def recording(record):
  return record(120)


def flags(workdir, recording):
  return [
    '--config=configs/quickstart.py:smoke',
    '--config.games=Assault,Carnival',
    f'--config.recordings={recording}',
    f'--workdir={workdir}',
  ]


def start(workdir, recording):
  return subprocess.Popen(
    [sys.executable, '-m', 'launch.quickstart', *flags(workdir, recording)],
    cwd=ROOT,
    env=helpers.script_env(),
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def encode_tokens(workdir, output):
  arguments = [f'--checkpoint={workdir}/jowa', f'--data={workdir}/data/play']
  return subprocess.run(
    [sys.executable, '-m', 'launch.encode_tokens', *arguments]
    + ['--games=Assault,Carnival', f'--output={output}'],
    cwd=ROOT,
    env=helpers.script_env(),
    capture_output=True,
    text=True,
  )


def check_result(workdir):
  page = (workdir / 'report' / 'index.html').read_text()
  assert 'data:image' in page and 'src="http' not in page
  # One of each game, and the best of them above all else.
  assert page.count('src="data:video/mp4') == 3
  assert 'Games it was trained on' in page and 'A game it never saw' in page
  assert 'steps dreamed' in page and 'Not found' not in page
  scores = json.loads((workdir / 'scores.json').read_text())
  for game in ('Assault', 'Carnival'):
    assert set(scores[game]) >= {'random', 'mtbc', 'jowa', 'jowa_beam'}
  assert set(scores['Robotank']) == {'random', 'finetuned'}
  steps = [
    json.loads(line)['step']
    for line in (workdir / 'jowa' / 'metrics.jsonl').read_text().splitlines()
  ]
  assert steps == sorted(set(steps)) and steps[-1] == 16


@pytest.mark.slow
def test_from_recordings_to_report(recording, launch, tmp_path):
  done = launch('quickstart', *flags(tmp_path, recording))
  assert done.returncode == 0, done.stderr
  output = done.stdout + done.stderr
  assert '[12/12]' in output and 'done before' not in output
  check_result(tmp_path)
  check_decoders(tmp_path / 'jowa')


def check_decoders(checkpoint):
  """What was trained dreams the same at once and token by token."""
  parallel, sequential = passes.measure(
    str(checkpoint),
    ['Assault'],
    20,
    environments=2,
    context_length=2,
    progress=False,
  )
  assert (parallel['decoder'], sequential['decoder']) == DECODERS
  assert sequential['passes_per_frame'] == 37
  assert 1 <= parallel['passes_per_frame'] <= parallel['most_passes'] <= 37
  for record in (parallel, sequential):
    assert record['decisions'] == 20 and record['decisions_per_second'] > 0
    assert record['same_actions'] == record['same_tokens'] == 1
    for name in ('tokens_dreamed', 'tokens_real', 'frames_real'):
      assert 0 <= record[f'changed_{name}'] <= 1
    assert record['game'] == 'Assault' and isinstance(record['peak_bytes'], int)
  assert 'Assault, parallel: ' in passes.describe([parallel])


@pytest.mark.slow
def test_killed_and_continued(recording, tmp_path):
  first = start(tmp_path, recording)
  checkpoint = tmp_path / 'jowa' / 'checkpoints' / '8'
  deadline = time.monotonic() + 600
  while not checkpoint.is_dir():
    assert first.poll() is None, first.stdout.read()
    assert time.monotonic() < deadline
    time.sleep(0.2)
  first.send_signal(signal.SIGKILL)
  first.wait()
  assert not (tmp_path / 'report' / 'index.html').exists()

  second = start(tmp_path, recording)
  output, _ = second.communicate(timeout=1200)
  assert second.returncode == 0, output
  assert output.count('(done before)') == 2 and 'Replaying' not in output
  check_result(tmp_path)

  # Nothing is left to do: the same command only writes the page again.
  third = start(tmp_path, recording)
  output, _ = third.communicate(timeout=600)
  assert third.returncode == 0, output
  assert output.count('(done before)') == 12
  check_result(tmp_path)

  # The tokens that training encoded are those that the command encodes.
  trained = encode_tokens(tmp_path, tmp_path / 'tokens' / 'play-jowa')
  assert trained.returncode == 0 and 'Encoding' not in trained.stderr
  done = encode_tokens(tmp_path, tmp_path / 'again')
  assert done.returncode == 0 and 'Encoding' in done.stderr
  assert '480 frames' in done.stdout
  for path in (tmp_path / 'tokens' / 'play-jowa').glob('*.npy'):
    ours = np.load(tmp_path / 'again' / path.name)
    np.testing.assert_array_equal(ours, np.load(path))
  # Those of another tokenizer are refused.
  (tmp_path / 'again' / 'tokens.json').write_text('{"tokenizer": "other"}')
  refused = encode_tokens(tmp_path, tmp_path / 'again')
  assert refused.returncode == 2
  assert 'has tokens of tokenizer other' in refused.stderr
  # By hand comes to the same, and goes onto a page.
  for script, *flags in (
    (
      'judge',
      f'--checkpoint={tmp_path}/jowa',
      f'--output={tmp_path}/judged',
      '--num_dreams=4',
    ),
    (
      'report',
      f'--pictures={tmp_path}/judged',
      f'--output={tmp_path}/page/index.html',
    ),
  ):
    done = subprocess.run(
      [sys.executable, '-m', f'launch.{script}', *flags],
      cwd=ROOT,
      env=helpers.script_env(),
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, done.stderr
  judged, ours = tmp_path / 'judged', tmp_path / 'eval'
  assert (judged / 'open_loop.json').read_text() == (
    ours / 'open_loop.json'
  ).read_text()
  quality = json.loads((judged / 'model_quality.json').read_text())
  for game, table in json.loads(
    (ours / 'model_quality.json').read_text()
  ).items():
    assert quality[game].items() <= table.items()
  assert 'steps dreamed' in (tmp_path / 'page' / 'index.html').read_text()


@pytest.fixture
def config(recording):
  config = quickstart_config.get_config('smoke').to_dict()
  return {**config, 'games': 'Assault,Carnival', 'recordings': str(recording)}


@pytest.mark.parametrize(
  ('field', 'value', 'message'),
  [
    (
      'runs.jowa.config.data.held_out_fraction',
      0.0,
      'runs.jowa.config: run.evaluate_every needs held-out episodes',
    ),
    ('judge.num_dreams', 0, 'judge: num_dreams must be at least 1'),
    ('judge.agent', 'mtbc', "judge.agent='mtbc' has no simulator"),
    ('judge.agent', 'nobody', "judge.agent='nobody' is none of"),
    ('runs.order', ('jowa',), r"runs.order=\('jowa',\) must name"),
    ('runs.mtbc.source', 'finetuned', "runs.mtbc.source='finetuned' is none"),
    ('runs.mtbc.data', 'old', "runs.mtbc.data='old' is none of"),
    ('runs.mtbc.kind', 'clone', "runs.mtbc: kind='clone' is not"),
    ('runs.jowa.config.run.seed', 3, 'runs.jowa.config.run.seed=3: quickstart'),
    ('data.play.steps_per_checkpoint', -1, 'data.play: steps_per_checkpoint'),
    ('evaluate.films', ('random',), "evaluate.films: 'random' is no trained"),
    ('evaluate.agents.jowa.agent', 'nobody', 'evaluate.agents.jowa: agent='),
    (
      'evaluate.agents.jowa.options',
      {'epsilon': 0.5},
      'epsilon is set in evaluate.protocol',
    ),
    ('evaluate.chapters.new.agents', ('nobody',), "'nobody' is no agent"),
    (
      'evaluate.protocol.rollouts',
      0,
      'evaluate.protocol: .*rollouts',
    ),
    (
      'evaluate.agents.jowa_beam.options.width',
      0,
      'evaluate.agents.jowa_beam: .*width=0',
    ),
    ('runs.jowa.minutes', 0.0, 'runs.jowa: minutes=0.0 is not positive'),
    ('evaluate.film_minutes', -1.0, 'evaluate: film_minutes=-1.0 is not'),
    ('new_game', 'Assault', "new_game='Assault' was trained on"),
  ],
)
def test_what_does_not_fit_is_named(field, value, message, config, tmp_path):
  *sections, name = field.split('.')
  fields = config
  for section in sections:
    fields = fields[section]
  fields[name] = value
  with pytest.raises(ConfigError, match=message):
    quickstart(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_what_is_judged_holds_something_out(config, tmp_path):
  jowa = config['runs']['jowa']['config']
  jowa['run']['evaluate_every'] = jowa['data']['held_out_fraction'] = 0
  with pytest.raises(
    ConfigError, match='config.data.held_out_fraction must be'
  ):
    quickstart(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  ('field', 'value', 'message'),
  [
    ('games', 'Pong', 'data.play: Pong is not recorded, only Assault'),
    ('new_game', 'Pong', 'data.new: Pong is not recorded'),
    ('recordings', 'none.npz', "no recording 'none.npz'"),
  ],
)
def test_what_is_not_recorded_is_named(field, value, message, config, tmp_path):
  with pytest.raises(DataError, match=message):
    quickstart({**config, field: value}, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_another_config_is_refused(config, recording, launch, tmp_path):
  other = make_plan({**config, 'seed': 5}, tmp_path).config
  (tmp_path / 'config.json').write_text(json.dumps(other))
  before = sorted(tmp_path.rglob('*'))
  done = launch('quickstart', *flags(tmp_path, recording))
  assert done.returncode == 2, done.stderr
  for output in (done.stdout, done.stderr):
    assert 'Traceback' not in output
  assert 'seed: was 5, now 0' in done.stderr
  assert sorted(tmp_path.rglob('*')) == before


def test_runs_of_one_tokenizer_share_what_it_encoded(config, tmp_path):
  def caches(runs):
    return {
      name: pathlib.Path(run.config['data']['token_cache']).name
      for name, run in runs.items()
    }

  runs = make_plan(config, tmp_path).runs
  play = {'jowa': 'play-jowa', 'mtbc': 'play-jowa'}
  # Its tokenizer is trained on.
  assert caches(runs) == {**play, 'finetuned': 'new-finetuned'}
  assert runs['jowa'].config['data']['token_cache'] == str(
    tmp_path / 'tokens' / 'play-jowa'
  )
  # One that stays as it is has the codes of its source.
  config['runs']['finetuned']['config']['finetune']['train_tokenizer'] = False
  kept = caches(make_plan(config, tmp_path).runs)
  assert kept == {**play, 'finetuned': 'new-jowa'}
  assert runs['mtbc'].config['init_from']['checkpoints'] == str(
    tmp_path / 'jowa' / 'checkpoints'
  )
  # The fine-tuned agent has the sizes of its source.
  assert runs['finetuned'].config['tokenizer']['vocab_size'] == 64
  assert not list(tmp_path.iterdir())


def test_with_and_without_the_tokenizer_is_learned_alike(tmp_path):
  runs = make_plan(
    quickstart_config.get_config('full').to_dict(), tmp_path
  ).runs
  known, scratch = (runs[name].config for name in ('finetuned', 'scratch'))
  # The codes of a pretrained tokenizer are in use.
  assert known['tokenizer_training'].pop('codebook_init_step') == 0
  assert scratch['tokenizer_training'].pop('codebook_init_step') > 0
  for config in (known, scratch):
    # Where the tokenizer comes from, and where its codes are kept.
    del config['init_from'], config['data']['token_cache']
  assert known == scratch


def test_scratch_asks_for_what_the_package_records():
  config = quickstart_config.get_config('scratch')
  assert set(config.games.split(',')) == set(recorded.read(config.recordings))
  assert config.runs.order == ('jowa', 'mtbc') and not config.pretrained


def test_unknown_quickstart_is_an_error():
  with pytest.raises(ValueError, match='half'):
    quickstart_config.get_config('half')
