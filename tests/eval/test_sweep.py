import json

import pytest

from jowa_jax.envs.protocol import Protocol
from jowa_jax.eval.players import load_player
from jowa_jax.eval.records import read_rollouts
from jowa_jax.eval.sweep import label, sweep
from launch.sweep import parse_settings

SHORT = Protocol(rollouts=1, max_frames=120, epsilon=0.5)


def test_settings_are_read():
  assert parse_settings('planner=none; planner=beam, width=2', ['1', '4']) == [
    {'planner': 'none', 'context_length': 1},
    {'planner': 'none', 'context_length': 4},
    {'planner': 'beam', 'width': 2, 'context_length': 1},
    {'planner': 'beam', 'width': 2, 'context_length': 4},
  ]
  assert parse_settings('temperature=0.5', []) == [{'temperature': 0.5}]
  with pytest.raises(ValueError, match='--settings'):
    parse_settings('planner', [])


@pytest.mark.slow
def test_the_best_is_played_again_on_other_seeds(trained, tmp_path, caplog):
  # The last needs more blocks than there are: it is left out.
  too_long = {'context_length': 9}
  candidates = [{'context_length': 1}, {'context_length': 2}, too_long]
  arguments = dict(
    select=SHORT,
    select_seed=7,
    report=Protocol(rollouts=2, max_frames=120, epsilon=0.5),
    report_seed=3,
    progress=False,
  )
  player = load_player('jowa', str(trained.workdir))
  games = ('Assault', 'Carnival')
  found = sweep(player, games, candidates, tmp_path / 'jowa', **arguments)
  assert 'Left out: context_length=9' in caplog.text
  candidates.remove(too_long)
  for game in games:
    means = found[game]['means']
    for options in candidates:
      path = tmp_path / 'jowa' / 'select' / f'{label(options)}.jsonl'
      scores = [r.score for r in read_rollouts(path) if r.game == game]
      assert means[label(options)] == sum(scores) / len(scores)
    assert found[game]['mean'] == max(means.values())
    assert means[label(found[game]['options'])] == found[game]['mean']
  report = read_rollouts(tmp_path / 'jowa' / 'jowa.jsonl')
  assert len(report) == 4
  for rollout in report:
    assert rollout.setup['seed'] == 3
    assert rollout.setup['options'] == found[rollout.game]['options']
  # Again: nothing is played anew.
  again = sweep(player, games, candidates, tmp_path / 'jowa', **arguments)
  assert (
    again
    == found
    == json.loads((tmp_path / 'jowa' / 'selected.json').read_text())
  )
  with pytest.raises(ValueError, match='would both choose and report'):
    sweep(
      player,
      games,
      candidates,
      tmp_path / 'other',
      **{**arguments, 'select_seed': 3},
    )
  certain = Protocol(rollouts=1, max_frames=120, epsilon=0.0)
  with pytest.raises(ValueError, match='Nothing is random'):
    sweep(
      player,
      games,
      candidates,
      tmp_path / 'other',
      **{**arguments, 'select': certain},
    )
  assert not (tmp_path / 'other').exists()
