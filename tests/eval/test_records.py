import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from jowa_jax.eval import records
from jowa_jax.eval.records import RecordError

ROLLOUT = records.Rollout(
  agent='jowa',
  game='Pong',
  rollout=0,
  seed=1,
  score=-21.0,
  clipped_score=-21.0,
  decisions=760,
  frames=3040,
  seconds=1.5,
  terminated=True,
  setup={'seed': 0, 'options': {'width': 2}},
)
SETUPS = {'Pong': ROLLOUT.setup}
OTHER = dataclasses.replace(ROLLOUT, rollout=1, score=3.0)


@dataclasses.dataclass(frozen=True)
class _Episode:
  """As much of a stored episode as rollouts are made of."""

  game: str
  episode_id: int
  digest: bytes
  score: float
  terminated: bool = True
  length: int = 3
  run: int = 1
  checkpoint: int = 0

  @property
  def rewards(self):
    return np.zeros(self.length, np.int8)

  def __len__(self):
    return self.length


def test_file_round_trip(tmp_path):
  path = tmp_path / 'eval' / 'jowa.jsonl'
  records.write_rollouts(path, [ROLLOUT, OTHER])
  assert records.read_rollouts(path) == [ROLLOUT, OTHER]
  records.write_rollouts(path, [ROLLOUT])
  assert records.read_rollouts(path) == [ROLLOUT]
  variant = dataclasses.replace(ROLLOUT, game='Freeway@m1d0')
  records.write_rollouts(path, [variant])
  assert records.read_rollouts(path) == [variant]
  assert [p.name for p in path.parent.iterdir()] == ['jowa.jsonl']


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ('{"agent": "a", "ga', 'Unterminated string'),
    ('[]', 'JSON object'),
    ({'score': '12'}, "score is '12', not of type float"),
    ({'decisions': 2.5}, 'decisions is 2.5'),
    ({'game': 'Chess'}, 'Unknown game'),
    ({'extra': 1}, "unknown fields \\['extra'\\]"),
    ({'game': None}, 'game is None'),
  ],
)
def test_a_broken_line_is_named(tmp_path, change, message):
  path = tmp_path / 'jowa.jsonl'
  rollout = ROLLOUT
  records.write_rollouts(path, [rollout])
  if isinstance(change, dict):
    change = json.dumps(dataclasses.asdict(rollout) | change)
  path.write_text(path.read_text() + change + '\n')
  with pytest.raises(ValueError, match=message) as error:
    records.read_rollouts(path)
  assert f'{path}, line 2 is not a rollout' in str(error.value)


def test_a_missing_field_is_named(tmp_path):
  path = tmp_path / 'jowa.jsonl'
  path.write_text('{"agent": "jowa"}\n')
  with pytest.raises(ValueError, match="lacks .*'score'"):
    records.read_rollouts(path)


def test_what_is_appended_is_on_disk_at_once(tmp_path):
  path = tmp_path / 'eval' / 'jowa.jsonl'
  with records.appended(path, 'jowa', SETUPS) as (found, append):
    assert found == []
    append(ROLLOUT)
    assert records.read_rollouts(path) == [ROLLOUT]
  with records.appended(path, 'jowa', SETUPS) as (found, append):
    assert found == [ROLLOUT]
    append(OTHER)
  assert records.read_rollouts(path) == [ROLLOUT, OTHER]


def test_a_line_that_a_kill_cut_short_is_dropped(tmp_path, caplog):
  path = tmp_path / 'jowa.jsonl'
  records.write_rollouts(path, [ROLLOUT, OTHER])
  whole = path.read_bytes()
  path.write_bytes(whole[:-20])
  with records.appended(path, 'jowa', SETUPS) as (found, append):
    assert found == [ROLLOUT]
    append(OTHER)
  assert 'cut short' in caplog.text and str(path) in caplog.text
  assert path.read_bytes() == whole


def test_a_broken_line_elsewhere_loses_nothing(tmp_path):
  path = tmp_path / 'jowa.jsonl'
  records.write_rollouts(path, [ROLLOUT, OTHER])
  path.write_text('{"agent"\n' + path.read_text())
  before = path.read_bytes()
  with pytest.raises(RecordError, match='line 1 is not a rollout.*Delete the'):
    with records.appended(path, 'jowa', SETUPS):
      raise AssertionError('it was opened')
  assert path.read_bytes() == before


def test_another_evaluation_is_refused_naming_what_differs(tmp_path):
  path = tmp_path / 'jowa.jsonl'
  records.write_rollouts(path, [ROLLOUT])
  before = path.read_bytes()
  changed = {'Pong': {'seed': 0, 'options': {'width': 4}}}
  with pytest.raises(RecordError, match='options.width: was 2, now 4'):
    with records.appended(path, 'jowa', changed):
      raise AssertionError('it was opened')
  assert path.read_bytes() == before
  # Other games may be added to the file, by the same rules.
  with records.appended(path, 'jowa', {'Assault': {'seed': 0}}) as (found, _):
    assert found == [ROLLOUT]
  for agent, seed, message in (
    ('jowa', 3, 'seed: was 0, now 3'),
    ('mtbc', 0, "agent: was 'jowa', now 'mtbc'"),
  ):
    with pytest.raises(RecordError, match=message):
      with records.appended(path, agent, {'Assault': {'seed': seed}}):
        raise AssertionError('it was opened')
  # More rollouts of the same may be added too.
  more = {'Pong': {**ROLLOUT.setup, 'rollouts': 16}}
  with records.appended(path, 'jowa', more) as (found, _):
    assert found == [ROLLOUT]


def test_a_file_that_is_no_text(tmp_path):
  path = tmp_path / 'jowa.jsonl'
  path.write_bytes(b'\xff\xfe')
  with pytest.raises(RecordError, match='jowa.jsonl is no text file'):
    records.read_rollouts(path)


def test_rollouts_of_different_evaluations_are_not_pooled():
  """Disjoint ones too: shards played by different rules."""
  other = dataclasses.replace(
    OTHER, setup={**ROLLOUT.setup, 'options': {'width': 4}}
  )
  with pytest.raises(RecordError, match='options.width: was 2, now 4'):
    records.merge([ROLLOUT, other])
  batched = {**ROLLOUT.setup, 'environments': 4, 'rollouts': 9}
  other = dataclasses.replace(OTHER, setup=batched)
  assert len(records.merge([ROLLOUT, other])) == 2


@pytest.mark.parametrize(
  'change, message',
  [
    ({'protocol': {'sticky_actions': 0.25}}, 'protocol.sticky_actions'),
    ({'method': 'mtbc'}, "method: was 'jowa', now 'mtbc'"),
    ({'parameters': 70}, 'parameters: was 40, now 70'),
    ({'options': {'width': 4}}, 'options.width'),
  ],
)
def test_other_agents_are_no_seeds_of_one(change, message):
  """Though their weights are others, as those of seeds are."""
  setup = {
    'method': 'jowa',
    'parameters': 40,
    'options': {'width': 2},
    'protocol': {'sticky_actions': 0.0},
    'seed': 0,
    'weights': 'aa',
  }
  first = dataclasses.replace(ROLLOUT, setup=setup)
  seed = dataclasses.replace(first, setup={**setup, 'weights': 'bb', 'seed': 1})
  assert records.merge([first, seed]) == [first, seed]
  other = dataclasses.replace(first, setup={**seed.setup, **change})
  with pytest.raises(RecordError, match=message):
    records.merge([first, other])


def test_a_packed_run_is_no_other_seed():
  """Its weights are others: they are of half the bits."""
  runs = [
    dataclasses.replace(
      ROLLOUT,
      setup={'run': run, 'weights': weights, 'checkpoint': checkpoint},
    )
    for run, weights, checkpoint in (
      ('a', 'aa', 'runs/a'),
      ('a', 'ab', 'runs/a.safetensors'),
      ('b', 'bb', 'runs/b.safetensors'),
      ('a', 'ac', 'runs/again'),
    )
  ]
  with pytest.raises(RecordError, match='packed into.*one seed'):
    records.merge(runs[:2])
  # Another run, packed or not, is one; so is one that was trained again.
  for other in runs[2:]:
    assert len(records.merge([runs[0], other])) == 2


def test_a_checkpoint_may_lie_elsewhere(tmp_path):
  path = tmp_path / 'jowa.jsonl'
  here, there = (
    dataclasses.replace(
      ROLLOUT, setup={'checkpoint': folder, 'weights': 'aa', 'run': 'b'}
    )
    for folder in ('/one/run', '/other/run')
  )
  records.write_rollouts(path, [here])
  with records.appended(path, 'jowa', {'Pong': there.setup}) as (found, _):
    assert found == [here]
  assert records.merge([here, there]) == [here]
  later = dataclasses.replace(here, setup={**here.setup, 'weights': 'cc'})
  assert records.merge([here, later]) == [here, later]


def _of_run(name, number=0):
  setup = {'run': name, 'weights': 'aa'}
  return dataclasses.replace(ROLLOUT, rollout=number, setup=setup)


def test_a_run_may_be_named_as_it_was_before(tmp_path):
  """By the first half of its digest, see `train.identity`."""
  old, new = _of_run('ab'), _of_run('ab-cd', 1)
  path = tmp_path / 'jowa.jsonl'
  records.write_rollouts(path, [old])
  with records.appended(path, 'jowa', {'Pong': new.setup}) as (found, append):
    assert found == [old]
    append(new)
  assert records.merge(records.read_rollouts(path)) == [old, new]
  assert records.by_run([old, new]) == {'ab-cd': [old, new]}
  # Of two that it may be of, it is said to be of neither.
  other = _of_run('ab-ef', 2)
  assert records.by_run([old, new, other]) == {
    **{'ab': [old], 'ab-cd': [new], 'ab-ef': [other]}
  }
  apart = _of_run('a', 3)
  assert records.by_run([apart, new]) == {'a': [apart], 'ab-cd': [new]}


def test_an_episode_that_is_there_twice_is_one():
  """As in data that were drawn with replacement, or played without noise."""
  found = records.data_rollouts(
    _Episode(game, number, digest, float(digest[0]))
    for number, (game, digest) in enumerate(
      (('Pong', b'a'), ('Pong', b'b'), ('Pong', b'a'), ('Boxing', b'a'))
    )
  )
  assert [(r.game, r.score) for r in found] == [
    ('Pong', 97.0),
    ('Pong', 98.0),
    ('Boxing', 97.0),
  ]


def test_an_episode_as_long_as_the_rules_allow_is_complete():
  ended = _Episode('Pong', 0, b'a', 7.0)
  long, short = (
    dataclasses.replace(ended, digest=digest, terminated=False, length=length)
    for digest, length in ((b'b', 50), (b'c', 49))
  )
  found = records.data_rollouts([ended, long, short], limit=50)
  assert [(r.decisions, r.terminated) for r in found] == [
    (len(ended), True),
    (50, False),
  ]
  (found,) = records.data_rollouts([ended, long, short])
  assert found.terminated
  assert records.best_checkpoints([long, short]) == []
  assert records.best_checkpoints([long, short], 50) == [long]


@pytest.mark.slow
def test_two_evaluations_do_not_write_to_one_file(tmp_path):
  path = tmp_path / 'jowa.jsonl'
  code = (
    'from jowa_jax.eval import records\n'
    f'with records.appended({str(path)!r}, "jowa", {{"Pong": {{}}}}): pass\n'
  )
  with records.appended(path, 'jowa', SETUPS):
    other = subprocess.run(
      [sys.executable, '-c', code], capture_output=True, text=True, check=False
    )
  assert other.returncode and 'Another evaluation is writing' in other.stderr


def test_shards_merge_and_contradictions_are_named():
  again = dataclasses.replace(ROLLOUT, seconds=99.0)
  assert records.merge([ROLLOUT, OTHER, again]) == [ROLLOUT, OTHER]
  with pytest.raises(RecordError, match='scores -21.0 and 3.0'):
    records.merge([ROLLOUT, dataclasses.replace(OTHER, rollout=0)])


def test_the_best_checkpoint_of_each_game():
  def episode(game, run, checkpoint, score, terminated=True):
    return _Episode(
      *(game, 0, b'', score, terminated), run=run, checkpoint=checkpoint
    )

  poor = [episode('Pong', 1, 0, -21.0), episode('Pong', 1, 1, 9.0)]
  poor += [episode('Pong', 1, 1, -9.0), episode('Carnival', 1, 1, 0.0)]
  # An episode that was cut off says nothing.
  poor += [
    episode('Pong', 1, 0, 99.0, False),
    episode('Zaxxon', 1, 0, 9, False),
  ]
  best = [episode('Pong', 2, 1, 3.0), episode('Pong', 2, 1, 2.0)]
  best += [episode('Carnival', 2, 1, 1.0)]
  assert records.best_checkpoints([*poor, *best]) == best
