"""Hand-computed cases, and the figures of the paper and its released scores."""

import json
import pathlib

import numpy as np
import pytest
from rliable import library, metrics

from jowa_jax import games as games_lib
from jowa_jax.report import statistics
from jowa_jax.report.comparisons import compare

DATA = pathlib.Path(__file__).parents[1] / 'data' / 'scores'
# Half of the last printed decimal.
PRINTED = 5e-4


def _load(name):
  return json.loads((DATA / f'{name}.json').read_text())


def _aggregates(agents, **kwargs):
  return statistics.aggregates(agents, **{'noise': 'rollouts', **kwargs})


@pytest.fixture(scope='module')
def released():
  """agent -> game -> the one released mean."""
  return {
    agent: {game: [score] for game, score in means.items()}
    for agent, means in _load('released_mean_scores').items()
  }


@pytest.fixture(scope='module')
def rollouts():
  """agent -> game -> the 16 released rollouts."""
  return {
    agent: {game: record['raw_scores'] for game, record in records.items()}
    for agent, records in _load('released_rollout_scores').items()
  }


@pytest.fixture
def table_2(monkeypatch):
  """agent -> game -> the score in the paper's Table 2, with its references."""
  table = _load('paper_table_2')
  for game, row in table.items():
    reference = games_lib.REFERENCE_SCORES[game]
    # Only Carnival's differs: the paper's random score is 0.
    assert row['human'] == reference.human
    assert row['random'] == (0 if game == 'Carnival' else reference.random)
    monkeypatch.setitem(
      games_lib.REFERENCE_SCORES,
      game,
      reference._replace(random=row['random']),
    )
  agents = [name for name in table['Assault'] if name != 'random']
  return {
    agent: {game: [row[agent]] for game, row in table.items()}
    for agent in agents
  }


def test_the_games_module_has_the_released_reference_scores():
  ours = {
    game: reference._asdict()
    for game, reference in games_lib.REFERENCE_SCORES.items()
  }
  # RoadRunner is not among theirs, and recorded play of it is shipped.
  assert ours.pop('RoadRunner') == dict(random=11.5, human=7845.0, dqn=None)
  assert ours == _load('reference_scores')


@pytest.mark.parametrize(
  'agent,expected',
  [
    ('JOWA_150M_with_planning', 0.847),
    ('JOWA_70M_with_planning', 0.802),
    ('JOWA_40M_with_planning', 0.664),
    ('JOWA_150M_without_planning', 0.524),
    ('JOWA_70M_without_planning', 0.461),
    ('JOWA_40M_without_planning', 0.271),
    ('MTBC_120M', 0.326),
    ('MGDT_200M', 0.490),
    ('EDT_200M', 0.501),
    ('Scaled_QL_80M', 0.390),
  ],
)
def test_released_means_give_the_known_interquartile_means(
  released, agent, expected
):
  result = _aggregates({agent: released[agent]})[agent]
  assert set(result.games) == set(games_lib.PRETRAIN_GAMES)
  assert result.interquartile_mean.value == pytest.approx(expected, abs=PRINTED)
  assert result.interquartile_mean.interval is None


# What the paper's Table 2 prints and what its raw scores give.
PRINTED_IN_TABLE_2 = {
  'MTBC-120M': dict(iqm=0.329, median=0.197, superhuman=4),
  'MGDT-200M': dict(iqm=0.498, median=0.391, superhuman=3),
  'EDT-200M': dict(iqm=0.502, median=0.400, superhuman=4),
  'Scaled-QL-80M': dict(iqm=0.420, median=0.387, superhuman=3),
  'FICC-85M': dict(iqm=0.433, median=0.390, superhuman=3),
  'JOWA-40M': dict(iqm=0.371, median=0.360, superhuman=3),
  'JOWA-70M': dict(iqm=0.476, median=0.390, superhuman=4),
  'JOWA-150M': dict(iqm=0.789, median=0.456, superhuman=6),
}
CONTRADICTED_BY_ITS_RAW_SCORES = {
  'MTBC-120M': dict(iqm=0.326),
  'EDT-200M': dict(superhuman=3),
  'Scaled-QL-80M': dict(iqm=0.402, median=0.402),
  'JOWA-70M': dict(iqm=0.781, median=0.540, superhuman=6),
}


@pytest.mark.parametrize('agent', PRINTED_IN_TABLE_2)
def test_table_2_from_its_raw_scores(table_2, agent):
  printed = PRINTED_IN_TABLE_2[agent]
  corrected = CONTRADICTED_BY_ITS_RAW_SCORES.get(agent, {})
  result = _aggregates({agent: table_2[agent]})[agent]
  figures = {
    'iqm': result.interquartile_mean.value,
    'median': result.median.value,
    'superhuman': result.above_reference.value,
  }
  assert figures == pytest.approx(printed | corrected, abs=PRINTED)
  for name in corrected:
    assert figures[name] != pytest.approx(printed[name], abs=PRINTED)


def test_table_2_with_the_other_random_score_of_carnival(table_2, monkeypatch):
  monkeypatch.setitem(
    games_lib.REFERENCE_SCORES,
    'Carnival',
    games_lib.REFERENCE_SCORES['Carnival']._replace(random=700.8),
  )
  result = _aggregates({'jowa': table_2['JOWA-150M']})['jowa']
  assert result.interquartile_mean.value == pytest.approx(0.799, abs=PRINTED)


def test_humans_score_one_everywhere_and_are_not_above_themselves(table_2):
  result = _aggregates({'human': table_2['human']})['human']
  assert result.mean.value == result.median.value == 1
  assert result.interquartile_mean.value == pytest.approx(1)
  assert result.optimality_gap.value == pytest.approx(0, abs=1e-12)
  assert result.above_reference.value == 0


def test_released_rollouts_have_the_released_means(released, rollouts):
  for agent, games in rollouts.items():
    means = released[f'{agent}_with_planning']
    assert set(games) == set(means)
    for game, values in games.items():
      assert len(values) == 16
      # Released with one decimal.
      assert np.mean(values) == pytest.approx(means[game][0], abs=0.0501)


def test_the_pooled_interquartile_mean_is_another_quantity(rollouts):
  scores = rollouts['JOWA_150M']
  result = _aggregates({'a': scores}, reps=2)['a']
  assert result.interquartile_mean.value == pytest.approx(0.847, abs=PRINTED)
  pooled = metrics.aggregate_iqm(statistics.normalized_matrix(scores))
  assert pooled == pytest.approx(0.730, abs=PRINTED)


def test_intervals_of_released_rollouts_bracket_the_estimates(rollouts):
  result = _aggregates(rollouts, reps=300)
  assert list(result) == list(rollouts)
  for agent in result.values():
    assert (agent.runs, agent.noise, agent.reference) == (
      16,
      'rollouts',
      'human',
    )
    for name in ('mean', 'median', 'interquartile_mean', 'optimality_gap'):
      estimate = getattr(agent, name)
      low, high = estimate.interval
      assert low <= estimate.value <= high
      assert low < high
    count = agent.above_reference
    if count.interval is not None:  # no resample had another count
      low, high = count.interval
      assert low <= count.value <= high
      assert low < high
  assert any(agent.above_reference.interval for agent in result.values())


def test_aggregates_by_hand():
  # Human-normalised: Assault 0, 2 (random 222.4, human 742.0), Pong 0.5, 0.5
  # (random -20.7, human 14.6).
  scores = {'Assault': [222.4, 1261.6], 'Pong': [-3.05, -3.05]}
  result = _aggregates({'a': scores}, noise='seeds', reps=500)['a']
  assert result.games == ('Assault', 'Pong')
  assert (result.runs, result.noise) == (2, 'seeds')
  assert result.mean.value == pytest.approx(0.75)
  assert result.median.value == pytest.approx(0.75)
  assert result.interquartile_mean.value == pytest.approx(0.75)
  # The runs cut at 1: 0, 1, 0.5, 0.5. Of the means it would be 0.25.
  assert result.optimality_gap.value == pytest.approx(0.5)
  assert result.above_reference.value == 0  # Assault's mean is 1, not above.
  # Assault's mean is 0, 1 or 2 with probability 1/4, 1/2, 1/4.
  assert result.mean.interval == pytest.approx((0.25, 1.25))
  assert result.optimality_gap.interval == pytest.approx((0.25, 0.75))
  assert result.above_reference.interval == (0, 1)


def test_dqn_normalisation():
  matrix = statistics.normalized_matrix(
    {'SpaceInvaders': [148.0, 1794.2], 'Pong': [16.6, -20.7]}, 'dqn'
  )
  # The games are in alphabetical order.
  assert matrix == pytest.approx(np.array([[1, 0], [0, 1]]))


def test_dqn_normalisation_where_dqn_is_below_random(monkeypatch):
  monkeypatch.setitem(
    games_lib.REFERENCE_SCORES, 'Pong', games_lib.ReferenceScore(10, 20, 6)
  )
  matrix = statistics.normalized_matrix({'Pong': [6, 10, 7]}, 'dqn')
  assert matrix == pytest.approx(np.array([[0], [1], [0.25]]))


def test_the_interquartile_mean_leaves_out_a_quarter_at_both_ends():
  # 11 games: the two lowest and the two highest are left out.
  values = np.random.RandomState(0).permutation(np.arange(11.0) ** 3)
  scores = {
    game: [games_lib.REFERENCE_SCORES[game].random + value]
    for game, value in zip(games_lib.PRETRAIN_GAMES, values, strict=False)
  }
  normalized = np.sort(statistics.normalized_matrix(scores)[0])
  result = _aggregates({'a': scores})['a'].interquartile_mean.value
  assert result == pytest.approx(normalized[2:-2].mean())


def test_one_run_has_no_interval():
  scores = {'Assault': [742.0], 'Pong': [14.6]}
  result = _aggregates({'a': scores})['a']
  assert result.runs == 1
  for name in (
    'mean',
    'median',
    'interquartile_mean',
    'optimality_gap',
    'above_reference',
  ):
    assert getattr(result, name).interval is None
  profile = statistics.performance_profiles(
    {'a': scores}, [0.5, 2], noise='seeds'
  )['a']
  assert profile.interval is None
  assert profile.fractions.tolist() == [1, 0]


def test_equal_runs_have_no_interval():
  """They are mostly one episode that was played repeatedly."""
  scores = {'Assault': [300.0] * 4, 'Pong': [1.0] * 4}
  result = _aggregates({'a': scores}, reps=20)['a']
  assert result.runs == 4
  assert all(x.interval is None for x in result.estimates().values())
  profile = statistics.performance_profiles(
    {'a': scores}, [0.1, 0.5, 2], noise='rollouts', reps=20
  )['a']
  assert profile.interval is None
  # Where some differ, only what does not depend on them has none.
  scores = {**scores, 'Assault': [300.0, 310.0, 320.0, 330.0]}
  result = _aggregates({'a': scores}, reps=50)['a']
  assert result.mean.interval and result.above_reference.interval is None


def test_performance_profile_by_hand():
  # Normalised: Assault 0 and 1, Pong 0.5 and 0.5.
  scores = {'Pong': [-3.05, -3.05], 'Assault': [222.4, 742.0]}
  profile = statistics.performance_profiles(
    {'a': scores}, [-1, 0, 0.25, 0.75, 1], noise='rollouts', reps=500
  )['a']
  assert profile.games == ('Assault', 'Pong')
  assert profile.fractions == pytest.approx([1, 0.75, 0.75, 0.25, 0])
  # Assault's two runs are both low, or both high, in a quarter of the draws.
  assert profile.interval[0] == pytest.approx([1, 0.5, 0.5, 0, 0])
  assert profile.interval[1] == pytest.approx([1, 1, 1, 0.5, 0])


def test_an_agents_aggregates_are_its_own(rollouts):
  few = {game: rollouts['JOWA_40M'][game] for game in ('Assault', 'Zaxxon')}
  together = _aggregates({**rollouts, 'few': few}, reps=20)
  assert together['few'].games == ('Assault', 'Zaxxon')
  assert together['few'] == _aggregates({'few': few}, reps=20)['few']
  backwards = dict(reversed(few.items()))
  assert together['few'] == _aggregates({'few': backwards}, reps=20)['few']


def test_intervals_depend_on_the_seed_alone(rollouts):
  few = {'a': {game: rollouts['JOWA_40M'][game] for game in ('Assault',)}}

  def all_intervals(seed):
    kwargs = dict(noise='rollouts', reps=50, seed=seed)
    np.random.random()  # What others draw does not matter,
    before = np.random.get_state()[1].tolist(), np.random.get_state()[2]
    mean = statistics.aggregates(few, **kwargs)['a'].mean.interval
    profile = statistics.performance_profiles(few, [2.3, 2.4], **kwargs)
    better = compare(few['a'], {'Assault': [1300, 1400, 1500]}, **kwargs)
    # and they draw what they would have drawn.
    after = np.random.get_state()[1].tolist(), np.random.get_state()[2]
    assert before == after
    interval = profile['a'].interval.tolist()
    return mean, interval, better.probability.interval, better.mean.interval

  assert all_intervals(1) == all_intervals(1)
  assert all_intervals(1) != all_intervals(2)


def test_rliable_ignores_its_random_state():
  """Why `statistics` seeds numpy's global generator; drop that once fixed."""
  scores = {'a': np.random.RandomState(0).normal(size=(8, 3))}

  def interval():
    state = np.random.RandomState(1)
    with pytest.warns(FutureWarning, match='random_state is deprecated'):
      _, intervals = library.get_interval_estimates(
        scores, metrics.aggregate_mean, reps=20, random_state=state
      )
    return intervals['a'].tolist()

  assert interval() != interval()


@pytest.mark.parametrize(
  'scores,message',
  [
    ({}, 'No scores of jowa'),
    (
      {'Pong': [1, 2], 'Assault': [1, 2, 3]},
      'jowa need equal numbers .* Assault 3, Pong 2',
    ),
    ({'Pong': []}, 'at least one, but have: Pong 0'),
    ({'Pong': [1, float('nan')]}, 'A score of jowa is not finite'),
    ({'AirRaid': [1], 'Pong': [1]}, 'No human reference .* AirRaid: leave'),
    ({'Pooyan': [1]}, 'No human reference scores for Pooyan'),
    ({'Pongg': [1]}, "Unknown game 'Pongg'"),
  ],
)
def test_bad_scores(scores, message):
  with pytest.raises(ValueError, match=message):
    _aggregates({'jowa': scores})
  with pytest.raises(ValueError, match=message):
    statistics.performance_profiles({'jowa': scores}, [1], noise='rollouts')


def test_bad_arguments():
  scores = {'a': {'Pong': [1, 2]}}
  with pytest.raises(ValueError, match="'rollouts' or 'seeds'"):
    _aggregates(scores, noise='games')
  with pytest.raises(ValueError, match='reps is 0'):
    _aggregates(scores, reps=0)
  with pytest.raises(ValueError, match="'human' or 'dqn'"):
    _aggregates(scores, reference='gpt')
  for taus in ([], 0.5, [float('inf')]):
    with pytest.raises(ValueError, match='taus'):
      statistics.performance_profiles(scores, taus, noise='rollouts')
