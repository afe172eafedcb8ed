"""What page and server tell each other."""

import numpy as np
import pytest

from jowa_jax.play import wire
from jowa_jax.play.keys import FIRE, LEFT
from jowa_jax.play.session import Session

GAMES = ('Assault', 'Carnival')


def parse(text):
  return wire.parse(text, GAMES, 4)


def test_messages():
  message = parse('{"held": 20, "pressed": 16, "seen": 7}')
  assert message.held == LEFT | FIRE and message.pressed == FIRE
  assert message.seen == 7 and message.deed is None and not message.changes
  assert parse('{"do": "rewind"}').deed == 'rewind'
  given = '{"set": {"speed": 30, "game": "Assault", "temperature": 0.5}}'
  found = parse(given).changes
  assert found == {'speed': 30.0, 'game': 'Assault', 'temperature': 0.5}


@pytest.mark.parametrize(
  'text, message',
  [
    ('held', 'not JSON'),
    ('[' * 1000, 'not JSON'),
    ('[1]', 'not an object'),
    ('{"set": 1}', 'not an object'),
    ('{"held": 32}', 'held=32 must be from 0 to 31'),
    ('{"held": 1.5}', 'whole number'),
    ('{"held": true}', 'held=True'),
    ('{"seen": NaN}', 'seen=nan'),
    ('{"do": "quit"}', "'quit'"),
    ('{"set": {"speed": 61}}', 'speed=61 must be from 5 to 60'),
    ('{"set": {"horizon": 5}}', 'horizon=5 must be from 1 to 4'),
    ('{"set": {"width": 99}}', 'width=99'),
    ('{"set": {"game": "Pong"}}', "'Pong'"),
    ('{"set": {"game": ["Pong"]}}', 'Pong'),
    ('{"set": {"player": "it"}}', "'it'"),
    ('{"set": {"seed": 1}}', "no setting 'seed'"),
  ],
)
def test_messages_that_cannot_be(text, message):
  with pytest.raises(ValueError, match=message):
    parse(text)


@pytest.mark.slow
def test_decisions(programs):
  session = Session(programs, 'Carnival')
  session.settings.player = 'planning'
  shown = session.step()
  told, frames = wire.unpack(wire.pack(shown, session.legal, 1.5))
  np.testing.assert_array_equal(frames[0], shown.state.frame)
  np.testing.assert_array_equal(frames[1], shown.state.dream_frame)
  np.testing.assert_array_equal(
    frames[2:], shown.plan.frames.reshape(-1, 84, 84)
  )
  assert told['action'] == shown.action == told['plan']['paths'][0][0]
  assert len(told['q']) == len(session.legal)
  assert told['accuracy'] == shown.token_accuracy
  told, frames = wire.unpack(wire.pack(session.now(), session.legal, 0))
  assert told['action'] is None and len(frames) == 2
