"""The page in a real browser, where one is installed."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from jowa_jax.eval.recording import Recording
from jowa_jax.report import write_report
from jowa_jax.report.video import write_video
from tests.cases import quick

BROWSER = shutil.which('chromium') or shutil.which('google-chrome')
pytestmark = pytest.mark.skipif(BROWSER is None, reason='no Chromium is here')

# Notes what goes wrong, sorts a table twice and plays a video.
PROBE = """<script>
const errors = [];
addEventListener('error', event => errors.push(String(event.message)));
addEventListener('load', async () => {
  const table = document.querySelector('#scores table.sortable');
  const column = () => [...table.tBodies[0].rows].map(
    row => row.cells[2].dataset.value ?? row.className);
  const found = {before: column()};
  const head = table.tHead.rows[0].cells[2];
  head.click();
  found.down = column();
  head.click();
  found.up = column();
  const video = document.querySelector('video');
  await video.play().catch(error => errors.push(String(error)));
  await new Promise(done => setTimeout(done, 1500));
  Object.assign(found, {
    errors, seconds: video.duration, at: video.currentTime,
    wide: document.documentElement.scrollWidth <= innerWidth,
  });
  const note = document.createElement('pre');
  note.id = 'found';
  note.textContent = JSON.stringify(found);
  document.body.append(note);
});
</script></head>"""


@pytest.mark.parametrize('width', quick((1100, 390), 1100))
def test_tables_sort_and_videos_play(workdir, tmp_path, width):
  recording = Recording(
    game='Pong',
    agent='jowa',
    seed=0,
    rollout=0,
    frames=np.zeros((30, 84, 84), np.uint8),
    actions=np.zeros(30, np.int32),
    values=np.zeros((30, 18), np.float32),
    value_name='Q',
    rewards=np.zeros(30, np.float32),
    scores=np.zeros(30, np.float64),
    ended=False,
    dreams=None,
  )
  write_video(workdir / 'eval' / 'videos' / 'jowa-Pong.mp4', recording)
  page = write_report(workdir, tmp_path / 'index.html', reps=20)
  page.write_text(page.read_text().replace('</head>', PROBE, 1))
  done = subprocess.run(
    [
      BROWSER,
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--autoplay-policy=no-user-gesture-required',
      f'--user-data-dir={tmp_path / "profile"}',
      f'--window-size={width},900',
      '--virtual-time-budget=8000',
      '--dump-dom',
      page.as_uri(),
    ],
    capture_output=True,
    text=True,
    timeout=120,
    check=True,
  )
  text = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.S)[1]
  found = json.loads(html.unescape(text))
  assert found['errors'] == []
  *values, axis = found['before']
  assert axis == 'axis'
  ordered = sorted(values, key=float)
  assert found['up'] == [*ordered, 'axis']
  assert found['down'] == [*reversed(ordered), 'axis']
  assert found['seconds'] == pytest.approx(2.0, abs=0.1) and found['at'] > 0.2
  assert found['wide']
