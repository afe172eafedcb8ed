import base64
import dataclasses
import html.parser
import io
import json
import re
import types
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from jowa_jax.eval import records
from jowa_jax.report import html as html_lib
from jowa_jax.report import numerals, write_report

REPS = 20  # resamples
SECTIONS = (
  'over-games scores quality frames dreams training time settings'
).split()
SVG_TEXT = '{http://www.w3.org/2000/svg}text'
VOID = {'meta', 'img', 'br', 'wbr', 'link', 'input', 'hr'}


class _Page(html.parser.HTMLParser):
  """Notes text, images and ids; fails on tags that are closed wrongly."""

  def __init__(self, text):
    super().__init__()
    self.text, self.images, self.ids, self.links = [], [], [], []
    self._open = []
    self.feed(text)
    assert not self._open

  def handle_starttag(self, tag, attrs):
    attrs = dict(attrs)
    if tag not in VOID:
      self._open.append(tag)
    if tag == 'img':
      self.images.append(attrs['src'])
    if tag == 'a':
      self.links.append(attrs['href'])
    if 'id' in attrs and tag == 'section':
      self.ids.append(attrs['id'])

  def handle_startendtag(self, tag, attrs):
    del tag, attrs

  def handle_endtag(self, tag):
    assert self._open.pop() == tag

  def handle_data(self, data):
    self.text.append(data)

  @property
  def words(self):
    return ' '.join(' '.join(self.text).split())


def test_a_complete_page(workdir):
  path = write_report(workdir, reps=REPS)
  assert path == workdir / 'report' / 'index.html'
  text = path.read_text()
  page = _Page(text)
  assert page.ids == SECTIONS
  assert page.links == [f'#{name}' for name in SECTIONS]
  for words in (
    'JOWA and MTBC on Assault and Carnival',
    '3 episodes per game and agent · 11 min 30 s in all',
    'JOWA, beam search',
    'Codebook perplexity',
    'Odd measure',
    'TD loss',
    'Of the day',
    'Mood',
    'world to step 100, joint to step 300 (shaded)',
    'model.width 64',
    # It falls with every step.
    'mood/of_the_day: best 0.1 after step 10, last 0.005 after step 200.',
    'games Assault, Carnival',
    'jax 0.10.2',
  ):
    assert words in page.words
  assert 'Not found' not in page.words
  # The first screen's dream, of 6 columns by 3 rows; of two games 10 -> 8
  # columns by 4 rows, and 3 dreams.
  assert len(page.images) == 6 * 3 + 2 * (8 * 4 + 3 * 6 * 3)
  bars = ElementTree.parse(path.with_name('bars.svg')).getroot()
  shown = [''.join(each.itertext()).strip() for each in bars.iter(SVG_TEXT)]
  assert {'JOWA, greedy', 'Random play'} <= set(shown)


def test_scores_of_checkpoints_are_drawn_in_a_file(workdir, tmp_path):
  path = workdir / 'eval' / 'jowa.jsonl'
  last = [
    dataclasses.replace(
      r, setup={'run': 'a', 'checkpoint_step': 20, 'weights': 'more'}
    )
    for r in records.read_rollouts(path)
  ]
  first = [
    dataclasses.replace(
      r, setup={'run': 'a', 'checkpoint_step': 10, 'weights': 'less'}
    )
    for r in last
  ]
  steps = tmp_path / 'steps.jsonl'
  records.write_rollouts(steps, [*first, *last])
  page = write_report(None, tmp_path / 'page.html', results=[steps], reps=REPS)
  figure = page.with_name('learning.svg')
  drawn = ElementTree.parse(figure).getroot()
  shown = [''.join(each.itertext()).strip() for each in drawn.iter(SVG_TEXT)]
  assert {'training steps', 'JOWA, greedy'} <= set(shown)
  records.write_rollouts(steps, last)
  write_report(None, page, results=[steps], reps=REPS)
  assert not figure.exists()


def test_the_page_needs_nothing_from_outside(workdir):
  text = write_report(workdir, reps=REPS).read_text()
  assert not re.search(r'(?:src|href)="(?!data:|#)', text)
  assert 'url(' not in text.replace('url(#', '')
  assert '<script src' not in text and '@import' not in text


@pytest.mark.slow
def test_images_are_the_frames(workdir):
  page = _Page(write_report(workdir, reps=REPS).read_text())
  with np.load(workdir / 'eval' / 'reconstructions.npz') as archive:
    frames = archive['Assault/frames']
  # After the first screen's dream, of 6 columns by 3 rows.
  encoded = page.images[18].removeprefix('data:image/png;base64,')
  image = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))
  np.testing.assert_array_equal(image, frames[0])


@pytest.mark.slow
def test_plots_take_their_colours_from_the_page(workdir):
  text = write_report(workdir, reps=REPS).read_text()
  svgs = re.findall(r'<svg[^>]*viewBox.*?</svg>', text, re.S)
  # Profiles; tokens and rewards of dreams; loss, next tokens, TD loss;
  # accuracy, mood.
  assert len(svgs) == 8
  for svg in svgs[:3]:
    assert 'var(--agent-3)' in svg or 'var(--agent-0)' in svg
    assert 'var(--series)' not in svg
  svgs = svgs[3:]
  for svg in svgs:
    assert 'var(--series)' in svg and '<style' not in svg
    assert not re.search('#[0-9a-f]{6}', svg)
  assert [('stroke-dasharray' in svg) for svg in svgs].count(True) == 1
  # Only the run with two stages has a shaded one.
  assert [('var(--shade)' in svg) for svg in svgs].count(True) == 3
  defined = set(re.findall(r'(--[\w-]+):', text))
  assert set(re.findall(r'var\((--[\w-]+)\)', text)) <= defined


def test_scores_file_agrees_with_the_rollouts(workdir, played):
  write_report(workdir, reps=REPS)
  figures = json.loads((workdir / 'scores.json').read_text())
  expected = [r.score for r in played[0] if r.game == 'Carnival']
  assert figures['Carnival']['jowa']['rollouts'] == expected
  assert figures['Carnival']['jowa']['mean'] == pytest.approx(np.mean(expected))
  assert set(figures['aggregates']) == set(figures['Assault'])


def test_what_is_absent_is_left_out_and_said(workdir):
  for name in ('eval/dreams.npz', 'timings.json', 'mtbc/metrics.jsonl'):
    (workdir / name).unlink()
  page = _Page(write_report(workdir, reps=REPS).read_text())
  assert page.ids == [name for name in SECTIONS if name != 'time']
  assert (
    'Not found, so left out: mtbc/metrics.jsonl, eval/dreams.npz, timings.json.'
  ) in page.words
  assert 'in all' not in page.words


def test_an_empty_directory_gives_a_page_too(tmp_path):
  page = _Page(write_report(tmp_path, reps=REPS).read_text())
  assert page.ids == [] and 'Nothing to show' in page.words
  assert not (tmp_path / 'scores.json').exists()


@pytest.mark.parametrize(
  ('configs', 'setups', 'games', 'title'),
  [
    # Whoever trained, and whoever played; nobody's method is JOWA.
    (['mtbc'], [], ['Pong'], 'MTBC on Pong'),
    ([], ['toy', None], ['Pong', 'Qbert'], 'toy on Pong and Qbert'),
    (['toy'], ['jowa'], [], 'JOWA and toy'),
    ([], ['random', None], ['Pong'], 'Play on Pong'),
    (list('abcde'), [], list('uvwxyz'), '5 methods on 6 games'),
  ],
)
def test_the_title_names_who_is_on_the_page(configs, setups, games, title):
  played = [
    types.SimpleNamespace(setup={'method': name} if name else {})
    for name in setups
  ]
  inputs = types.SimpleNamespace(
    configs={f'run_{i}': {'method': name} for i, name in enumerate(configs)},
    rollouts={'somebody': played},
  )
  assert html_lib._title(inputs, games) == title


def test_names_are_escaped(workdir):
  (workdir / 'versions.json').write_text('{"<script>": "&"}')
  text = write_report(workdir, reps=REPS).read_text()
  # One is the page's own.
  assert text.count('<script>') == 1 and '&lt;script&gt;' in text


@pytest.mark.slow
def test_a_broken_file_leaves_the_old_page(workdir):
  path = write_report(workdir, reps=REPS)
  before = path.read_text()
  (workdir / 'timings.json').write_text('{')
  with pytest.raises(ValueError, match='timings.json'):
    write_report(workdir, reps=REPS)
  assert path.read_text() == before
  kinds = ('csv', 'md', 'tex')
  assert sorted(p.name for p in path.parent.iterdir()) == sorted(
    [
      'index.html',
      'bars.svg',
      *(f'{n}.{kind}' for n in ('scores', 'aggregates') for kind in kinds),
    ]
  )


def test_one_agent_with_equal_scores_and_one_logged_step(workdir):
  """The smallest ranges: nothing divides by their width."""
  for path in (workdir / 'eval').glob('*.jsonl'):
    path.unlink()
  record = dict(agent='jowa', game='Pong', rollout=0, seed=0, score=0.0)
  record |= dict(clipped_score=0.0, decisions=1, frames=4, seconds=0.1)
  (workdir / 'eval' / 'jowa.jsonl').write_text(
    json.dumps(record | dict(terminated=False)) + '\n'
  )
  (workdir / 'jowa' / 'metrics.jsonl').write_text(
    '{"step": 1, "stage": "world", "loss": 1.0}\n'
  )
  words = _Page(write_report(workdir, reps=REPS).read_text()).words
  assert '1 episode per game and agent' in words and '0.0 ± –' in words
  assert '1, 1 cut off' in words


@pytest.mark.slow
def test_command_line(workdir, launch):
  flag = f'--workdir={workdir}'
  output = workdir / 'elsewhere' / 'page.html'
  done = launch('report', flag, f'--output={output}', '--reps=20')
  assert done.returncode == 0, done.stderr
  assert done.stdout.strip() == str(output) and output.exists()
  (workdir / 'versions.json').write_text('[')
  failed = launch('report', flag)
  assert failed.returncode == 2
  assert failed.stderr.strip().endswith('column 2 (char 1)')
  assert (
    'report.py: error: ' in failed.stderr and 'Traceback' not in failed.stderr
  )


@pytest.mark.parametrize(
  ('value', 'text'),
  [
    (7.25, '7.2 s'),
    (59.99, '1 min 0 s'),
    (125, '2 min 5 s'),
    (4000, '1 h 6 min'),
  ],
)
def test_duration(value, text):
  assert numerals.duration(value) == text


def test_numbers():
  assert numerals.number(-20.66, 1) == '−20.7'
  assert numerals.number(12345.6, 1) == '12,346'
  assert numerals.significant(0.012345) == '0.0123'
  assert numerals.significant(0.0) == '0'
  assert numerals.significant(1234.5) == '1,234'


def test_flatten():
  config = {'a': {'b': 1}, 'c': [1, 2], 'd': [{'e': None}], 'f': {}}
  assert html_lib.flatten(config) == {
    'a.b': '1',
    'c': '1, 2',
    'd.0.e': 'None',
  }
