"""What is said of the time left, at the pace of the machine."""

import json

import pytest

from jowa_jax.recipes.quickstart import clock as clock_lib
from jowa_jax.recipes.quickstart.clock import Clock

EXPECTED = {'Replay': 1.0, 'Train': 4.0, 'Film': 5.0}


@pytest.fixture
def now(monkeypatch):
  """A clock that stands still unless its first entry is changed."""
  seconds = [0.0]
  monkeypatch.setattr(clock_lib.time, 'monotonic', lambda: seconds[0])
  return seconds


def test_the_time_left_is_that_of_this_machine(tmp_path, now, capsys):
  clock = Clock(tmp_path / 'timings.json', EXPECTED)
  with clock.phase('Replay', False) as to_do:
    assert to_do
    now[0] += 180
  # Three minutes for one, beside a minute of doubt: a pace of two.
  with clock.phase('Train', False):
    now[0] += 720
  # 15 minutes for five and one of doubt.
  with clock.phase('Film', False):
    now[0] += 900
  assert capsys.readouterr().out.splitlines()[1::2] == [
    '[1/3] Replay (about 10 min left)',
    '[2/3] Train (about 18 min left)',
    '[3/3] Film (about 13 min left)',
  ]
  assert json.loads((tmp_path / 'timings.json').read_text()) == {
    'Replay': 180.0,
    'Train': 720.0,
    'Film': 900.0,
  }


def test_what_was_done_before_tells_the_pace_and_is_not_timed(
  tmp_path, now, capsys
):
  path = tmp_path / 'timings.json'
  written = {'Replay': 180.0, 'Train': 720.0}
  path.write_text(json.dumps(written))
  clock = Clock(path, EXPECTED)
  for name in written:
    with clock.phase(name, True) as to_do:
      assert not to_do
      now[0] += 5
  assert json.loads(path.read_text()) == written
  with clock.phase('Film', False):
    pass
  assert capsys.readouterr().out.splitlines()[1::2] == [
    '[1/3] Replay (done before)',
    '[2/3] Train (done before)',
    '[3/3] Film (about 13 min left)',
  ]


def test_a_phase_that_was_interrupted_adds_up_and_tells_no_pace(tmp_path, now):
  path = tmp_path / 'timings.json'
  clock = Clock(path, EXPECTED)
  with pytest.raises(KeyboardInterrupt), clock.phase('Replay', False):
    now[0] += 30
    raise KeyboardInterrupt
  again = Clock(path, EXPECTED)
  with again.phase('Replay', False):
    now[0] += 40
  assert json.loads(path.read_text()) == {'Replay': 70.0}
