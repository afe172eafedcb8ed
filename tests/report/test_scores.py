import math

import pytest

from jowa_jax.eval.records import Rollout
from jowa_jax.report import scores

# Means released for the 150M model with planning, by game.
RELEASED = {
  'Assault': 1458.6,
  'Atlantis': 2841262.5,
  'BeamRider': 2927.0,
  'Berzerk': 496.9,
  'Carnival': 4910.0,
  'Centipede': 7117.0,
  'ChopperCommand': 3925.0,
  'DemonAttack': 9296.6,
  'NameThisGame': 9380.0,
  'Phoenix': 5230.0,
  'Seaquest': 1413.8,
  'SpaceInvaders': 1036.9,
  'StarGunner': 53237.5,
  'TimePilot': 3975.0,
  'Zaxxon': 331.2,
}


def _rollouts(agent, game, values, terminated=True):
  return [
    Rollout(
      agent=agent,
      game=game,
      rollout=i,
      seed=i,
      score=float(value),
      clipped_score=0.0,
      decisions=100 + i,
      frames=400,
      seconds=1.0,
      terminated=terminated,
    )
    for i, value in enumerate(values)
  ]


def test_one_game_by_hand():
  # Assault: random 222.4, human 742.0. Deviations -2, 0, 2: variance 4.
  table = scores.score_table(
    {'jowa': _rollouts('jowa', 'Assault', [480.2, 482.2, 484.2])}
  )
  score = table['Assault']['jowa']
  assert score.mean == pytest.approx(482.2)
  assert score.standard_error == pytest.approx(2 / math.sqrt(3))
  assert score.human_normalized == pytest.approx(0.5)
  assert score.decisions == 101
  assert score.scores == (480.2, 482.2, 484.2)
  assert score.cut_off == 0


def test_episodes_that_the_frame_limit_ended_are_counted():
  played = _rollouts('a', 'Pong', [1, 2]) + _rollouts('a', 'Pong', [3], False)
  assert scores.score_table({'a': played})['Pong']['a'].cut_off == 1


def test_a_single_episode_has_no_standard_error():
  table = scores.score_table({'jowa': _rollouts('jowa', 'Pong', [-21])})
  assert table['Pong']['jowa'].standard_error is None


def test_a_game_without_reference_scores_counts_in_no_aggregate():
  table = scores.score_table({'a': _rollouts('a', 'AirRaid', [1, 2])})
  assert table['AirRaid']['a'].human_normalized is None
  assert scores.aggregates(table) == {}


def test_interquartile_mean():
  assert scores.interquartile_mean([5, 3]) == 4
  assert scores.interquartile_mean([0, 10, 20, 1000]) == 15
  assert scores.interquartile_mean([9, 1, 2, 3, 1000]) == pytest.approx(14 / 3)


def test_aggregates_reproduce_the_released_models_figure():
  rollouts = [
    r for game, mean in RELEASED.items() for r in _rollouts('j', game, [mean])
  ]
  figures = scores.aggregates(scores.score_table({'j': rollouts}))['j']
  assert figures['games'] == 15
  assert figures['interquartile_mean'] == pytest.approx(0.847, abs=5e-4)
  # Assault, Atlantis, Carnival, DemonAttack, NameThisGame, StarGunner.
  assert figures['above_human'] == 6
  assert figures['mean'] > 10 * figures['median']


def test_json_holds_games_agents_and_aggregates():
  table = scores.score_table(
    {
      'random': _rollouts('random', 'Assault', [222.4, 222.4]),
      'jowa': _rollouts('jowa', 'Assault', [742.0, 742.0])
      + _rollouts('jowa', 'Pong', [-20.7]),
    }
  )
  figures = scores.to_json(table)
  assert list(figures) == ['Assault', 'Pong', 'aggregates']
  assert list(figures['Assault']) == ['random', 'jowa']
  assert figures['Assault']['jowa'] == {
    'mean': 742.0,
    'standard_error': 0.0,
    'cut_off': 0,
    'human_normalized': 1.0,
    'rollouts': [742.0, 742.0],
  }
  assert figures['Pong']['jowa']['standard_error'] is None
  assert figures['aggregates']['jowa']['mean'] == pytest.approx(0.5)
  assert figures['aggregates']['random']['games'] == 1
