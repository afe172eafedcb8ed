"""What is drawn from a large data set, against hand-made lists of episodes."""

import numpy as np
import pytest

from jowa_jax.data.episodes import DataError
from jowa_jax.data.prepare import selection
from jowa_jax.data.source import Split


def _splits(runs, checkpoints):
  return [Split('Pong', run, c) for run in runs for c in checkpoints]


def test_numbers():
  assert selection.parse_numbers('3') == [3]
  assert selection.parse_numbers('0-2,7,1') == [0, 1, 2, 7]
  with pytest.raises(ValueError, match='ends before it begins'):
    selection.parse_numbers('9-3')
  for text in ('', 'x', '1-', '-1', '1,,2', '1.5'):
    with pytest.raises(ValueError, match='no list of numbers'):
      selection.parse_numbers(text)


def test_runs():
  splits = _splits((1, 2, 3, 4, 5), (0, 1))
  assert selection.draw_runs(splits, 'all', 0) == splits
  assert selection.draw_runs(splits, '2,4', 0) == _splits((2, 4), (0, 1))
  drawn = [selection.draw_runs(splits, 'random:2', seed) for seed in range(40)]
  runs = [tuple(sorted({split.run for split in some})) for some in drawn]
  assert all(len(pair) == 2 for pair in runs) and len(set(runs)) >= 8
  assert drawn[7] == selection.draw_runs(splits, 'random:2', 7)
  for text in ('random:0', 'random:', 'random:1,2', 'random:x'):
    with pytest.raises(ValueError, match='not a number of runs'):
      selection.draw_runs(splits, text, 0)
  for text in ('6', 'random:6'):
    with pytest.raises(DataError, match=r'Pong has .*run'):
      selection.draw_runs(splits, text, 0)


@pytest.mark.parametrize(
  'name, first, last',
  [
    ('all', 0, 49),
    ('expert', 40, 49),
    ('suboptimal', 0, 49),
    ('highly_suboptimal', 0, 9),
    ('45-49', 45, 49),
  ],
)
def test_ranges_of_dqn_replay(name, first, last):
  """Facts, section 8: fifths of the 50 checkpoints."""
  chosen = selection.select_checkpoints(_splits((1, 2), range(50)), name)
  assert chosen == _splits((1, 2), range(first, last + 1))


@pytest.mark.parametrize(
  'there, name, chosen',
  [
    (range(1, 51), 'expert', range(41, 51)),
    (range(1, 51), 'highly_suboptimal', range(1, 11)),
    (range(1, 11), 'highly_suboptimal', range(1, 11)),
    (range(38, 45), 'expert', range(41, 45)),
    ((5, 6, 9), 'all', (5, 6, 9)),
    (range(50), 'expert', range(40, 50)),
  ],
)
def test_fifths_are_of_a_whole_run(there, name, chosen):
  """Whichever of its logs are here."""
  found = selection.select_checkpoints(_splits((1,), there), name, 50)
  assert found == _splits((1,), chosen)


def test_no_expert_among_the_first_logs():
  with pytest.raises(DataError, match=r'expert \(41-50\).*--checkpoints=10'):
    selection.select_checkpoints(_splits((1,), range(1, 11)), 'expert', 50)


def test_ranges_of_few_checkpoints():
  few = _splits((1,), range(4))
  assert selection.select_checkpoints(few, 'expert') == [Split('Pong', 1, 3)]
  worst = selection.select_checkpoints(few, 'highly_suboptimal')
  assert worst == [Split('Pong', 1, 0)]
  one = _splits((1,), (0,))
  for name in ('expert', 'highly_suboptimal', 'all'):
    assert selection.select_checkpoints(one, name) == one
  # The last ones, downloaded alone, are still the last.
  late = _splits((1,), (45, 49))
  assert selection.select_checkpoints(late, 'expert') == late
  with pytest.raises(DataError, match='no checkpoint among highly_suboptimal'):
    selection.select_checkpoints(late, 'highly_suboptimal')
  with pytest.raises(
    DataError, match=r'no checkpoint 46: there are \[45, 49\]'
  ):
    selection.select_checkpoints(late, '45-46')


LENGTHS = {
  split: list(np.random.default_rng(split.checkpoint).integers(1, 100, 60))
  for split in _splits((1, 2), (0, 1))
}
TOTAL = int(sum(map(sum, LENGTHS.values())))


def _count(drawn):
  return sum(
    LENGTHS[split][i] for split, chosen in drawn.items() for i in chosen
  )


def test_a_fraction_in_whole_episodes():
  drawn = selection.draw_episodes(LENGTHS, seed=0, fraction=0.1)
  assert set(drawn) == set(LENGTHS)
  for chosen in drawn.values():
    assert chosen == sorted(set(chosen))
  # The last episode drawn is the one that reaches the number.
  assert TOTAL * 0.1 <= _count(drawn) < TOTAL * 0.1 + 100
  assert drawn == selection.draw_episodes(LENGTHS, seed=0, fraction=0.1)
  assert drawn != selection.draw_episodes(LENGTHS, seed=1, fraction=0.1)
  # Not the same places of another game.
  lengths = LENGTHS[Split('Pong', 1, 0)]
  ours, theirs = (
    selection.draw_episodes({Split(game, 1, 0): lengths}, seed=0, fraction=0.1)
    for game in ('Pong', 'Assault')
  )
  assert list(ours.values()) != list(theirs.values())


def test_more_contains_less():
  few = selection.draw_episodes(LENGTHS, 0, fraction=0.1)
  many = selection.draw_episodes(LENGTHS, 0, fraction=0.5)
  for split, chosen in few.items():
    assert set(chosen) <= set(many[split])


def test_episodes_are_drawn_uniformly():
  """Each episode in every draw with the same chance, long ones too."""
  counts = {split: np.zeros(60) for split in LENGTHS}
  draws = 400
  for seed in range(draws):
    for split, chosen in selection.draw_episodes(LENGTHS, seed, 0.25).items():
      counts[split][chosen] += 1
  shares = np.concatenate(list(counts.values())) / draws
  assert abs(shares.mean() - 0.25) < 0.02
  # 240 episodes, standard error 0.022 each.
  assert np.abs(shares - shares.mean()).max() < 4.5 * 0.022
  lengths = np.concatenate([LENGTHS[split] for split in counts])
  assert abs(np.corrcoef(shares, lengths)[0, 1]) < 0.25


def test_a_number_of_transitions():
  drawn = selection.draw_episodes(LENGTHS, seed=3, transitions=500)
  assert 500 <= _count(drawn) < 600
  assert _count(selection.draw_episodes(LENGTHS, 0)) == TOTAL
  assert _count(selection.draw_episodes(LENGTHS, 0, fraction=1.0)) == TOTAL


def test_episodes_in_which_nothing_happens_are_never_drawn():
  split = Split('Pong', 1, 0)
  assert selection.draw_episodes({split: [0, 4, 0]}, 0) == {split: [1]}


def test_bad_requests():
  with pytest.raises(DataError, match=f'Pong has {TOTAL} transitions'):
    selection.draw_episodes(LENGTHS, 0, transitions=2 * TOTAL)
  with pytest.raises(DataError, match='Pong has 0 transitions'):
    selection.draw_episodes({Split('Pong', 1, 0): []}, 0)
  for options, message in (
    (dict(fraction=0.0), 'fraction is 0'),
    (dict(fraction=1.5), 'fraction is 1.5'),
    (dict(transitions=0), 'transitions is 0'),
    (dict(fraction=0.5, transitions=5), 'not both'),
  ):
    with pytest.raises(ValueError, match=message):
      selection.draw_episodes(LENGTHS, 0, **options)


def _prepared(make_episode, checkpoints):
  """Episodes of two games, runs and some checkpoints, of 5 to 8 steps."""
  where = [
    (game, run, checkpoint)
    for game in ('Pong', 'Assault')
    for run in (1, 2)
    for checkpoint in checkpoints
  ]
  return [
    make_episode(5 + i % 4, game, checkpoint, i, run=run)
    for i, (game, run, checkpoint) in enumerate(where)
  ]


@pytest.mark.parametrize(
  ('quality', 'wanted'),
  [
    ('expert', {40, 45, 49}),
    ('suboptimal', {0, 9, 10, 39, 40, 45, 49}),
    ('highly_suboptimal', {0, 9}),
  ],
)
def test_qualities_of_prepared_play(make_episode, quality, wanted):
  """Facts, section 8: the last fifth of 50 checkpoints, all, the first."""
  episodes = _prepared(make_episode, (0, 9, 10, 39, 40, 45, 49))
  drawn = selection.draw_prepared(episodes, quality, None, seed=0)
  assert {episode.checkpoint for episode in drawn} == wanted
  expected = [e for e in episodes if e.checkpoint in wanted]
  assert [e.episode_id for e in drawn] == [e.episode_id for e in expected]


def test_a_number_of_prepared_transitions_of_each_game(make_episode):
  episodes = _prepared(make_episode, range(40, 50))
  drawn = selection.draw_prepared(episodes, 'expert', 50, seed=0)
  assert set(drawn) <= set(episodes)
  for game in ('Pong', 'Assault'):
    steps = sum(len(e) for e in drawn if e.game == game)
    # Whole episodes of at most 8 steps.
    assert 50 <= steps < 58
  again = selection.draw_prepared(episodes, 'expert', 50, seed=0)
  assert again == drawn
  assert selection.draw_prepared(episodes, 'expert', 50, seed=1) != drawn
  with pytest.raises(DataError, match='1000 are wanted'):
    selection.draw_prepared(episodes, 'expert', 1000, seed=0)


def test_a_little_less_than_is_wanted_is_taken(caplog):
  """As of 5,000 transitions that another program cut off at 4,950."""
  split = Split('Pong', 1, 0)
  drawn = selection.draw_episodes({split: [4000, 950]}, 0, transitions=5000)
  assert drawn == {split: [0, 1]}
  assert 'Pong has 4950 of 5000 transitions' in caplog.text
  with pytest.raises(DataError, match='4949 .*5210 are wanted.*--transitions'):
    selection.draw_episodes({split: [4949]}, 0, transitions=5210)
