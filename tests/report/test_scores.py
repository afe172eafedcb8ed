import dataclasses
import math

import pytest

from jowa_jax.report import scores
from tests.report.played import rollouts


def test_one_game_by_hand():
  # Assault: random 222.4, human 742.0. Deviations -2, 0, 2: variance 4.
  table = scores.score_table(
    {'jowa': rollouts('jowa', 'Assault', [480.2, 482.2, 484.2])}
  )
  score = table['Assault']['jowa']
  assert score.mean == pytest.approx(482.2)
  assert score.standard_error == pytest.approx(2 / math.sqrt(3))
  assert score.human_normalized == pytest.approx(0.5)
  assert score.decisions == 101
  assert score.scores == (480.2, 482.2, 484.2)
  assert score.cut_off == 0


def test_episodes_that_the_frame_limit_ended_are_counted():
  played = rollouts('a', 'Pong', [1, 2]) + rollouts('a', 'Pong', [3], False)
  assert scores.score_table({'a': played})['Pong']['a'].cut_off == 1


def test_a_single_episode_has_no_standard_error():
  table = scores.score_table({'jowa': rollouts('jowa', 'Pong', [-21])})
  assert table['Pong']['jowa'].standard_error is None


def test_equal_episodes_are_one_played_again():
  played = rollouts('a', 'Pong', [-21, -21])
  score = scores.score_table({'a': played})['Pong']['a']
  assert score.standard_error is None and not score.equal  # of unlike lengths
  again = [dataclasses.replace(r, decisions=100) for r in played]
  score = scores.score_table({'a': again})['Pong']['a']
  assert score.standard_error is None and score.equal


def test_a_game_without_reference_scores_is_not_normalised():
  # Pooyan's human scores less than random play.
  for game in ('AirRaid', 'Pooyan'):
    table = scores.score_table({'a': rollouts('a', game, [1, 2])})
    assert table[game]['a'].human_normalized is None


def _evaluated(values, checkpoint, step):
  setup = {'run': checkpoint, 'checkpoint_step': step}
  return [
    dataclasses.replace(r, setup=setup)
    for r in rollouts('jowa', 'Assault', values)
  ]


def test_the_last_evaluated_step_of_a_run_counts():
  played = _evaluated([10, 20], 'runs/a', 100) + _evaluated([1, 2], 'runs/a', 5)
  score = scores.score_table({'jowa': played})['Assault']['jowa']
  assert score.scores == (10, 20) and score.noise == 'rollouts'
  assert list(scores.by_step(played)) == [5, 100]


def test_a_run_that_was_named_shorter_before_is_the_same():
  """By the first half of its digest, see `train.identity`."""
  played = _evaluated([1, 2], 'ab', 5) + _evaluated([10, 20], 'ab-cd', 100)
  score = scores.score_table({'jowa': played})['Assault']['jowa']
  assert score.scores == (10, 20) and score.noise == 'rollouts'
  # An evaluation that was begun before, and gone on with.
  played = _evaluated([1, 2], 'ab', 5) + _evaluated([10, 20], 'ab-cd', 5)
  score = scores.score_table({'jowa': played})['Assault']['jowa']
  assert sorted(score.scores) == [1, 2, 10, 20] and score.noise == 'rollouts'


def test_training_runs_under_one_name_are_seeds():
  played = _evaluated([10, 20], 'runs/a', 7) + _evaluated([1, 2], 'runs/b', 7)
  score = scores.score_table({'jowa': played})['Assault']['jowa']
  assert score.runs == (15, 1.5) and score.noise == 'seeds'
  assert score.mean == pytest.approx(8.25) and len(score.scores) == 4
  assert score.standard_error == pytest.approx(6.75)
