"""The page in a real browser, where one is installed."""

import pathlib
import shutil
import time

import av
import pytest

from jowa_jax.collect import recordings
from jowa_jax.play import session as session_lib
from jowa_jax.play.server import ServerConfig
from tests.play.server import Running, wait_for

playwright = pytest.importorskip('playwright.sync_api')
BROWSER = shutil.which('chromium') or shutil.which('google-chrome')
pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(BROWSER is None, reason='no Chromium is here'),
]
GAME = 'Carnival'
SIZES = {'desk': (1100, 900), 'phone': (390, 844)}


@pytest.fixture(scope='module')
def running(programs):
  with pytest.MonkeyPatch.context() as patch:
    # Random parameters expect an end at every step.
    patch.setattr(session_lib, 'ENDS', 1.0)
    with Running(programs, ServerConfig(GAME)) as running:
      yield running


@pytest.fixture(scope='module')
def browser():
  with playwright.sync_playwright() as started:
    browser = started.chromium.launch(
      executable_path=BROWSER,
      args=['--no-sandbox', '--disable-gpu', '--disable-quic'],
    )
    yield browser
    browser.close()


class Tab:
  """The page in a tab, and what its console said."""

  def __init__(self, browser, running, size='desk', scheme='light'):
    width, height = SIZES[size]
    self.context = browser.new_context(
      viewport={'width': width, 'height': height},
      color_scheme=scheme,
      has_touch=size == 'phone',
      accept_downloads=True,
    )
    self.page = self.context.new_page()
    self.faults = []
    self.page.on(
      'console',
      lambda message: (
        self.faults.append(message.text)
        if message.type in ('error', 'warning')
        else None
      ),
    )
    self.page.on('pageerror', lambda error: self.faults.append(str(error)))
    self.page.goto(f'http://{running.address}/')
    self.page.wait_for_selector('[data-state=on]')
    self.page.wait_for_selector('#bars li')

  def viewer(self, running):
    name = self.page.evaluate("sessionStorage.getItem('session')")
    return running.server.viewers[name]

  def pixels(self, canvas):
    return self.page.evaluate(
      f"document.getElementById('{canvas}').toDataURL()"
    )


@pytest.fixture
def tab(browser, running):
  tab = Tab(browser, running)
  yield tab
  tab.context.close()


def waited(page, true, seconds=60):
  """Waits until something is true, while the page goes on."""
  end = time.monotonic() + seconds
  while not true():
    assert time.monotonic() < end, 'It does not come true'
    page.wait_for_timeout(50)


def test_a_person_plays(tab, running):
  page, session = tab.page, tab.viewer(running).session
  before = tab.pixels('real'), tab.pixels('dream')
  page.keyboard.down('ArrowLeft')
  waited(page, lambda: session.state.taken >= 6)
  assert session._actions[-1] == 4
  waited(page, lambda: tab.pixels('real') != before[0])
  waited(page, lambda: tab.pixels('dream') != before[1])
  page.keyboard.up('ArrowLeft')
  page.keyboard.press('Space')
  waited(page, lambda: 1 in session._actions)
  # The agent takes over, and plans.
  page.click('[data-player=planning]')
  page.wait_for_selector('.strip canvas')
  assert page.locator('.strip').count() == 2
  page.keyboard.press('b')
  waited(page, lambda: session.state.branch >= 1)
  page.click('#dream-on')
  page.wait_for_selector('body[data-alone]')
  assert page.inner_text('#real-said') == 'waits'
  page.click('#dream-on')
  waited(page, lambda: not session.dream_on)
  page.click('[data-player=you]')
  page.wait_for_selector('#branches', state='hidden')
  page.click('#toggle')
  page.wait_for_selector('#start')
  stands = session.state.number
  page.click('[data-do=rewind]')
  waited(page, lambda: session.state.number < stands)
  assert not tab.faults


def test_what_was_played_is_saved(tab, running, tmp_path):
  page, session = tab.page, tab.viewer(running).session
  page.click('[data-save="film.mp4"]')
  page.wait_for_selector('#note')
  page.wait_for_timeout(100)
  assert 'Nothing was played yet' in page.inner_text('#note')
  assert ['409' in fault for fault in tab.faults] == [True]
  page.click('[data-player=greedy]')
  page.click('#start')
  waited(page, lambda: session.state.taken >= 20)
  page.click('#toggle')
  page.wait_for_selector('#start')
  for name in ('film.mp4', 'episode.npz'):
    with page.expect_download() as got:
      page.click(f'[data-save="{name}"]')
    path = tmp_path / got.value.suggested_filename
    got.value.save_as(path)
    assert path.name.startswith(GAME)
    if path.suffix == '.mp4':
      with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) >= 20
    else:
      (recorded,) = recordings.load(path).checkpoints
      assert recorded.lengths.sum() >= 20
  assert plays(page, next(tmp_path.glob('*.mp4')))


def plays(page, path: pathlib.Path) -> bool:
  """Whether the browser itself plays a film."""
  page.goto('about:blank')
  page.set_content('<input type=file><video muted></video>')
  page.set_input_files('input', path)
  return page.evaluate("""async () => {
    const video = document.querySelector('video');
    video.src = URL.createObjectURL(document.querySelector('input').files[0]);
    await video.play();
    await new Promise(done => setTimeout(done, 700));
    return video.currentTime > 0.2 && video.videoWidth > 600;
  }""")


def test_a_lost_connection_comes_back(tab, running):
  page, viewer = tab.page, tab.viewer(running)
  page.click('#start')
  waited(page, lambda: viewer.session.state.taken >= 3)
  page.evaluate('page.socket.close()')
  page.wait_for_selector('[data-state=lost]')
  page.wait_for_selector('[data-state=on]')
  number = viewer.session.state.number
  waited(page, lambda: viewer.session.state.number > number + 3)
  assert tab.viewer(running) is viewer and not tab.faults
  # A page that is loaded again is the same, and one that is gone rests.
  page.reload()
  page.wait_for_selector('[data-state=on]')
  assert tab.viewer(running) is viewer
  page.close()
  wait_for(lambda: viewer.left_at is not None)
  number = viewer.session.state.number
  time.sleep(0.5)
  assert viewer.session.state.number <= number + 1


def test_a_second_viewer_plays_by_itself(tab, browser, running):
  other = Tab(browser, running)
  other.page.click('#start')
  session = other.viewer(running).session
  waited(other.page, lambda: session.state.taken >= 3)
  assert session is not tab.viewer(running).session
  assert tab.viewer(running).session.state.taken == 0
  other.context.close()


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('size', SIZES)
def test_it_fits(browser, running, size, scheme):
  tab = Tab(browser, running, size, scheme)
  page = tab.page
  page.click('[data-player=planning]')
  page.click('#start')
  page.wait_for_selector('.strip canvas')
  wide = page.evaluate('document.documentElement.scrollWidth')
  assert wide <= SIZES[size][0]
  outside = page.evaluate("""() =>
    [...document.querySelectorAll('button, canvas, select, input')].filter(
      one => one.offsetParent && (one.getBoundingClientRect().right >
        innerWidth + 1)).map(one => one.outerHTML.slice(0, 80))""")
  assert outside == []
  colors = page.evaluate('getComputedStyle(document.body).backgroundColor')
  assert (
    colors == {'light': 'rgb(251, 251, 249)', 'dark': 'rgb(19, 21, 25)'}[scheme]
  )
  assert page.locator('#pad').is_visible() == (size == 'phone')
  if size == 'phone':
    page.click('[data-player=you]')
    session = tab.viewer(running).session
    box = page.locator('#cross').bounding_box()
    page.mouse.move(box['x'] + box['width'] * 0.9, box['y'] + 75)
    page.mouse.down()
    waited(page, lambda: session._actions and session._actions[-1] == 3)
    page.mouse.up()
    waited(page, lambda: session._actions[-1] == 0)
    page.locator('#fire').tap()
    waited(page, lambda: 1 in session._actions[-20:])
  assert not tab.faults
  tab.context.close()
