"""The server, spoken to as a page does and as nobody should."""

import contextlib
import gc
import io
import threading
import time
import urllib.error
import urllib.request
import weakref

import av
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from jowa_jax.collect import recordings
from jowa_jax.play import guard, server
from jowa_jax.play import session as session_lib
from jowa_jax.play.keys import LEFT
from jowa_jax.play.server import ServerConfig
from tests.play.server import Running, wait_for

GAME = 'Carnival'


@pytest.fixture(scope='module')
def running(programs):
  with pytest.MonkeyPatch.context() as patch:
    # Random parameters expect an end at every step.
    patch.setattr(session_lib, 'ENDS', 1.0)
    with Running(programs, ServerConfig(GAME, patience=1.5)) as running:
      yield running


def get(running, path, **headers):
  request = urllib.request.Request(
    f'http://{running.address}{path}', headers=headers
  )
  opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
  with opener.open(request, timeout=60) as answer:
    return answer.read(), answer.headers


def refusal(running, path, **headers):
  with pytest.raises(urllib.error.HTTPError) as caught:
    get(running, path, **headers)
  return caught.value.code, caught.value.read().decode()


def test_the_page_and_what_it_needs(running):
  page, headers = get(running, '/')
  assert b'<title>Step inside</title>' in page and b'{{' not in page
  assert "default-src 'none'" in headers['content-security-policy']
  for name in ('play.css', 'drawing.js', 'play.js', 'play.svg'):
    assert name.encode() in page and get(running, f'/{name}')[0]
    # Nothing is fetched from elsewhere.
    text = get(running, f'/{name}')[0].replace(b'http://www.w3.org/', b'')
    assert b'http://' not in text and b'https://' not in text
  assert refusal(running, '/play.py')[0] == 404


def test_a_page_plays(running):
  with running.page() as page:
    assert page.hello['max_horizon'] == 2 and GAME in page.hello['games']
    assert page.settings['playing'] is False and page.settings['game'] == GAME
    page.say(held=LEFT, pressed=LEFT, do='play')
    told, frames = page.until(lambda told: told['taken'] == 5)
    assert told['action'] == 4 and frames.shape == (2, 84, 84)
    page.say(set={'player': 'greedy', 'speed': 60}, do='branch')
    told, _ = page.until(lambda told: told['player'] == 'greedy')
    assert told['dream']['steps'] <= 2
    page.say(do='dream_on')
    told, _ = page.until(lambda told: told['dream_on'])
    taken = told['taken']
    page.until(lambda told: told['dream']['steps'] >= 5)
    page.say(do='dream_off')
    told, _ = page.until(lambda told: not told['dream_on'])
    assert told['taken'] == taken
    page.say(set={'player': 'planning', 'width': 1, 'horizon': 1})
    told, frames = page.until(lambda told: 'plan' in told)
    assert len(frames) == 3 and 'Compiling a plan of width 1' in page.notes[0]
    page.say(do='rewind')
    told, _ = page.until(lambda told: told['taken'] == 0)
    page.say(set={'game': 'Assault'})
    page.until(lambda told: told['action'] is None)
    assert page.settings['game'] == 'Assault' and not page.errors


def test_what_is_played_can_be_had(running, tmp_path):
  with running.page() as page:
    query = f'?session={page.hello["session"]}'
    assert refusal(running, f'/film.mp4{query}') == (
      409,
      'Nothing was played yet: there is nothing to film\n',
    )
    assert refusal(running, f'/episode.npz{query}')[0] == 409
    page.say(do='play', set={'speed': 60})
    page.until(lambda told: told['taken'] >= 12)
    page.say(do='pause')
    page.until(lambda told: told['action'] is None)
    film, headers = get(running, f'/film.mp4{query}')
    assert headers['content-disposition'].startswith(
      f'attachment; filename="{GAME}-'
    )
    episode, _ = get(running, f'/episode.npz{query}')
  with av.open(io.BytesIO(film)) as container:
    assert sum(1 for _ in container.decode(video=0)) >= 12
  path = tmp_path / 'play.npz'
  path.write_bytes(episode)
  (recorded,) = recordings.load(path).checkpoints
  assert recorded.lengths[0] >= 12 and recorded.game == GAME
  assert refusal(running, '/film.mp4?session=other')[0] == 404


def test_nonsense_is_answered_and_too_much_ends_it(running):
  with running.page() as page:
    page.say(set={'speed': 1000})
    page.socket.send('hello')
    page.say(do='branch')
    page.decision()
    assert page.errors == ['speed=1000 must be from 5 to 60', 'not JSON']
    with pytest.raises(ConnectionClosed) as caught:
      for _ in range(2000):
        page.say(do='branch')
      while True:
        page.socket.recv(timeout=60)
    assert caught.value.rcvd.code == 1008
  with running.page() as page, pytest.raises(ConnectionClosed):
    page.socket.send('x' * 100_000)
    while True:
      page.socket.recv(timeout=60)


def test_a_page_that_draws_nothing_is_not_flooded(running):
  with running.page() as page:
    page.say(do='play', set={'speed': 60})
    viewer = running.server.viewers[page.hello['session']]
    wait_for(lambda: viewer.session.state.number >= 2)
    number = -1
    while number != viewer.session.state.number:
      number = viewer.session.state.number
      with pytest.raises(TimeoutError):
        while True:
          page.socket.recv(timeout=0.3)
    assert number <= 8


@pytest.mark.slow
def test_a_page_goes_and_comes_back(running):
  with running.page() as page:
    name = page.hello['session']
    page.say(do='play')
    page.until(lambda told: told['taken'] >= 3)
  viewer = running.server.viewers[name]
  wait_for(lambda: viewer.left_at is not None)
  stands = viewer.session.state.number
  time.sleep(0.2)
  # What was being decided as it left is the last.
  assert viewer.session.state.number <= stands + 1
  stands = viewer.session.state.number
  with running.page(f'?session={name}') as page:
    assert page.hello['session'] == name
    assert page.until(lambda told: told['number'] > stands)
    with running.page(f'?session={name}') as other:
      assert other.hello['session'] == name
      with pytest.raises(ConnectionClosed) as caught:
        while True:
          page.socket.recv(timeout=60)
      assert caught.value.rcvd.code == 4001
      assert other.decision()
  # Nobody came back: it is forgotten.
  wait_for(lambda: name not in running.server.viewers)
  with running.page(f'?session={name}') as page:
    assert page.hello['session'] != name


def test_places_are_limited(programs):
  config = ServerConfig(GAME, watching=True, max_viewers=2)
  with Running(programs, config) as running:
    with running.page() as one, running.page() as two:
      assert one.hello['session'] != two.hello['session']
      # They watch what plays by itself.
      assert one.until(lambda told: told['player'] == 'greedy')
      with pytest.raises(ConnectionClosed) as caught, running.page():
        pass
      assert caught.value.rcvd.code == 1013
      assert caught.value.rcvd.reason == 'All 2 places are taken: try later'
    wait_for(lambda: all(v.left_at for v in running.server.viewers.values()))
    # One who waits gives way to one who comes.
    with running.page() as three:
      assert three.settings['playing'] and len(running.server.viewers) == 2


@pytest.mark.slow
def test_many_play_and_some_leave_at_once(programs):
  config = ServerConfig(GAME, watching=True, max_viewers=20, patience=0.0)
  with Running(programs, config) as running, contextlib.ExitStack() as stack:
    viewers = running.server.viewers
    pages = [stack.enter_context(running.page()) for _ in range(20)]
    names = [page.hello['session'] for page in pages]
    assert len(set(names)) == 20
    before = [page.until(lambda told: told['taken'])[0] for page in pages]
    sessions = [weakref.ref(viewers[name].session) for name in names[:3]]
    closing = [threading.Thread(target=p.socket.close) for p in pages[:3]]
    for thread in closing:
      thread.start()
    # The others lose no decision.
    for page, last in zip(pages[3:], before[3:], strict=True):
      numbers = [page.decision()[0]['number'] for _ in range(3)]
      assert numbers == [last['number'] + 1 + i for i in range(3)]
      assert not page.errors
    for thread in closing:
      thread.join()
    # And of those who left nothing stays.
    wait_for(lambda: set(viewers) == set(names[3:]))
    wait_for(lambda: len(running.server._playing) == 17)
    gc.collect()
    assert [session() for session in sessions] == [None] * 3


@pytest.mark.parametrize(
  'headers',
  [
    {'Origin': 'http://elsewhere.example'},
    {'Origin': 'null'},
    {'Host': 'elsewhere.example'},
  ],
)
def test_others_are_refused(running, headers):
  code, text = refusal(running, '/', **headers)
  assert code == 403 and text.startswith(('pages of other', 'this server is'))
  with pytest.raises(InvalidStatus):
    with running.page(additional_headers=headers):
      pass


def test_elsewhere_a_token_is_needed(programs):
  token = guard.make_token('0.0.0.0')
  assert len(token) > 20 and not guard.make_token('localhost')
  with Running(programs, ServerConfig(GAME), token) as running:
    assert refusal(running, '/')[0] == 403
    assert 'lacks its token' in refusal(running, '/?token=no')[1]
    page, _ = get(running, f'/?token={token}', Host='host.example')
    assert f'play.js?token={token}'.encode() in page
    with pytest.raises(InvalidStatus):
      with running.page():
        pass
    with running.page(f'?token={token}') as page:
      assert page.hello['session']


def test_a_busy_port_is_said():
  with server.bind('127.0.0.1', 0) as listening:
    port = listening.getsockname()[1]
    with pytest.raises(ValueError, match=f'--port={port}.*in use.*--port=0'):
      server.bind('127.0.0.1', port)
  with pytest.raises(ValueError, match='--port=99999'):
    server.bind('127.0.0.1', 99999)
  with pytest.raises(ValueError, match='max_viewers=0'):
    ServerConfig(GAME, max_viewers=0)
