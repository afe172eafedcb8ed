"""What a page begins with."""

import numpy as np
import pytest

from jowa_jax.eval.findings import Dreams
from jowa_jax.report import opening, write_report
from jowa_jax.report.scores import score_table
from jowa_jax.report.statistics import Estimate
from tests.report.played import rollouts

TITLES = {'mine': 'Mine', 'other': 'Other, planning', 'random': 'Random play'}
# Of Assault, 222.4 is random and 742 human; of Pong -20.7 and 14.6.
ASSAULT, PONG = (222.4, 742.0), (-20.7, 14.6)


def _scores(agent, *shares, **setup):
  """Two episodes of each game around these shares of the way to a human."""
  played = []
  for game, (low, high), share in zip(
    ('Assault', 'Pong'), (ASSAULT, PONG), shares, strict=False
  ):
    values = [low + (share + end) * (high - low) for end in (-0.02, 0.02)]
    played += rollouts(agent, game, values, **setup)
  return played


def _compared(*agents, reps=20):
  played = {agent: _scores(agent, *shares) for agent, *shares in agents}
  table = score_table(played)
  return opening.compare(table, list(played), list(table), reps), table


def test_the_sentence_is_about_the_best_that_learned():
  found, table = _compared(
    ('random', 0.0, 0.0), ('data', 0.9), ('mine', 0.3, 0.1), ('other', 0.2, 0.0)
  )
  # Recorded play lacks a game, and is left out.
  assert list(found.estimates) == ['mine', 'other', 'random']
  assert opening.sentence(found, table, TITLES) == (
    'Mine beats random play in both games and comes 20 % of the way from '
    'there to a human on average.'
  )
  assert 'lines are 95 % intervals over episodes' in opening.describe(found)


@pytest.mark.parametrize(
  ('shares', 'words'),
  [
    ((0.3,), 'beats random play in the one game and comes 30 % of the way '),
    ((-0.2, 0.25), 'beats random play in 1 of 2 games and comes 2.5 % of'),
    # Above in both, in one of them within the noise.
    ((0.05, 0.25), 'beats random play in 1 of 2 games and comes 15 % of'),
    (
      (-0.2, -0.1),
      'beats random play in none of 2 games and is no nearer to a human than',
    ),
  ],
)
def test_sentences(shares, words):
  found, table = _compared(
    ('random', *(0.0 for _ in shares)), ('other', *shares)
  )
  # A title with a comma gets another.
  assert opening.sentence(found, table, TITLES).startswith(
    f'Other, planning, {words}'
  )


def test_one_training_seed_is_not_taken_for_several():
  played = {
    'random': _scores('random', 0.0),
    'mine': _scores('mine', 0.3),
    'other': _scores('other', 0.1, weights='a')
    + _scores('other', 0.2, weights='b'),
  }
  table = score_table(played)
  found = opening.compare(table, list(played), list(table), 20)
  assert opening.sentence(found, table, TITLES).startswith(
    'Mine, which was trained once where others were trained with several '
    'seeds, beats random play in the one game and comes 30 % of the way '
  )
  found = found._replace(
    estimates={name: found.estimates[name] for name in ('other', 'mine')}
  )
  assert 'trained once' not in opening.sentence(found, table, TITLES)


def test_nothing_is_said_where_nothing_was_learned():
  assert _compared(('random', 0.0, 0.0))[0] is None
  table = score_table({'mine': rollouts('mine', 'AirRaid', [1.0])})
  assert opening.compare(table, ['mine'], ['AirRaid'], 20) is None


def test_bars_begin_at_zero():
  bars = [
    opening.Bar('up', 3, Estimate(0.2, (0.1, 0.3))),
    opening.Bar('down', 0, Estimate(-0.1, None)),
  ]
  chart = opening.chart(bars)
  up, down = chart['rows']
  # From -10 % to 30 %.
  assert chart['zero'] == 25
  assert (up['from'], up['width'], up['interval']) == (25, 50, (50, 50))
  assert (down['from'], down['width'], down['interval']) == (0, 25, None)
  assert up['text'] == '20 %' and down['text'] == '−10.0 %'
  assert (25.0, '0 %') in chart['ticks']


def test_the_best_film_and_the_liveliest_dream():
  table = score_table(
    {'mine': _scores('mine', 0.3, 0.4), 'other': _scores('other', 0.1, 0.2)}
  )
  videos = {
    'Assault': {'mine': b'', 'other': b''},
    'Pong': {'other': b''},
    'Zaxxon': {'mine': b''},
  }
  assert opening.best_film(videos, table) == ('Assault', 'mine')
  assert opening.best_film({'Zaxxon': {'mine': b''}}, table)[0] == 'Zaxxon'
  assert opening.best_film({}, table) is None
  real = np.zeros((3, 4, 84, 84), np.uint8)
  real[1, 2] = 9
  dreams = Dreams(real=real, dreamed=np.zeros_like(real))
  assert opening.liveliest(dreams) == 1
  # As wrong as the last real frame, half as wrong, and without any motion.
  games = {
    'Assault': dreams,
    'Pong': Dreams(real=real, dreamed=real // 2),
    'Zaxxon': Dreams(real=0 * real, dreamed=0 * real),
  }
  assert opening.dreamed_game(games) == 'Pong'
  assert opening.dreamed_game({}) is None


@pytest.mark.slow
def test_the_page_speaks_first(workdir):
  text = write_report(workdir, reps=20).read_text()
  header = text[: text.index('</header>')]
  assert '<h1>' in header and 'random play in ' in header
  # One bar for each of who played all games, and one dream beside reality.
  assert header.count('class="fill"') == 5
  assert header.count('<span class="who">Real</span>') == 1
  assert '<nav>' in header and 'class="film"' not in header
