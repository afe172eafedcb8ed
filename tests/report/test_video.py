"""Videos are decoded again and looked at."""

import dataclasses

import av
import numpy as np
import pytest
from PIL import ImageColor

from jowa_jax import games
from jowa_jax.eval.recording import Branches, Recording
from jowa_jax.report import video

DECISIONS, STEPS = 12, 2


def noise(rng, *shape):
  """Frames of grey squares, which survive compression."""
  squares = rng.integers(0, 256, (*shape, 6, 6)).astype(np.uint8)
  return squares.repeat(14, axis=-2).repeat(14, axis=-1)


def make_recording(game='Carnival', horizon=STEPS, ended=True, seed=0):
  rng = np.random.default_rng(seed)
  legal = games.LEGAL_ACTIONS[game]
  rewards = rng.integers(0, 2, DECISIONS).astype(np.float32) * 20
  return Recording(
    game=game,
    agent='JOWA, beam search, width 2, horizon 2',
    seed=0,
    rollout=0,
    frames=noise(rng, DECISIONS),
    actions=rng.choice(legal, DECISIONS).astype(np.int32),
    values=rng.uniform(1, 2, (DECISIONS, 18)).astype(np.float32),
    value_name='Q value',
    rewards=rewards,
    scores=np.cumsum([0, *rewards[:-1]], dtype=np.float64),
    ended=ended,
    dreams=Branches(
      frames=noise(rng, DECISIONS, horizon),
      actions=rng.choice(legal, (DECISIONS, horizon)).astype(np.int32),
      rewards=np.ones((DECISIONS, horizon), np.float32),
      scores=rng.normal(size=DECISIONS).astype(np.float32),
    ),
  )


@pytest.fixture(scope='module')
def recording():
  return make_recording()


@pytest.fixture(scope='module')
def written(recording, tmp_path_factory):
  path = tmp_path_factory.mktemp('video') / 'deep' / 'play.mp4'
  assert video.write_video(path, recording) == DECISIONS
  return path


@pytest.fixture(scope='module')
def pictures(written):
  return decode(written)


def decode(path):
  with av.open(str(path)) as container:
    return np.stack(
      [f.to_ndarray(format='rgb24') for f in container.decode(video=0)]
    )


def large(frame, scale):
  return frame.repeat(scale, axis=0).repeat(scale, axis=1)[..., None]


def cut(picture, left, top, scale):
  side = 84 * scale
  return picture[top : top + side, left : left + side].astype(int)


def painted(picture, box, color):
  """Returns the share of a box that is of about one colour."""
  left, top, right, bottom = box
  inside = picture[top + 1 : bottom, left:right].astype(int)
  near = np.abs(inside - ImageColor.getrgb(color)).max(axis=-1) < 40
  return near.mean()


def test_browsers_play_it(written, recording):
  with av.open(str(written)) as container:
    stream = container.streams.video[0]
    assert stream.codec_context.name == 'h264'
    assert stream.codec_context.pix_fmt == 'yuv420p'
    assert stream.frames == DECISIONS and stream.average_rate == 15
    assert len(container.streams) == 1
    height = video.Painter(recording).height
    assert (stream.width, stream.height) == (video.WIDTH, height)
    assert video.WIDTH % 2 == height % 2 == 0
  # The index stands before the pictures, so that playing begins at once.
  content = written.read_bytes()
  assert content.index(b'moov') < content.index(b'mdat')


def test_the_game_is_shown_at_its_place(pictures, recording):
  assert len(pictures) == DECISIONS
  for picture, frame in zip(pictures, recording.frames, strict=True):
    shown = cut(picture, video.GAME_LEFT, video.GAME_TOP, video.GAME_SCALE)
    error = np.abs(shown - large(frame, video.GAME_SCALE))
    assert error.mean() < 4 and np.percentile(error, 99) < 30


def test_dreams_are_shown_beside_what_followed(pictures, recording):
  painter = video.Painter(recording)
  for t in (0, DECISIONS - 3):
    for step in range(STEPS):
      dreamed, real = painter.dream_places(step)
      for place, frame in (
        (dreamed, recording.dreams.frames[t, step]),
        (real, recording.frames[t + step + 1]),
      ):
        error = np.abs(cut(pictures[t], *place, 2) - large(frame, 2))
        assert error.mean() < 6, (t, step)
  # Nothing followed the last decision.
  _, real = painter.dream_places(0)
  assert cut(pictures[-1], *real, 2).mean() < 40


def test_the_chosen_bar_alone_is_highlighted(pictures, recording):
  painter = video.Painter(recording)
  for picture, chosen in zip(pictures, recording.actions, strict=True):
    for action in games.LEGAL_ACTIONS['Carnival']:
      share = painted(picture, painter.bar_box(action), video.CHOSEN)
      assert (share > 0.03) == (action == chosen), (action, chosen, share)


def test_longer_bars_are_higher_values(recording):
  legal = list(games.LEGAL_ACTIONS['Carnival'])
  values = recording.values.copy()
  values[:, legal] = np.linspace(-1, 2, len(legal))
  recording = dataclasses.replace(recording, values=values)
  painter = video.Painter(recording)
  lengths = []
  for t, action in [(0, a) for a in legal if a != recording.actions[0]]:
    lengths.append(painted(painter.draw(t), painter.bar_box(action), video.BAR))
  values = values[0, [a for a in legal if a != recording.actions[0]]]
  np.testing.assert_allclose(
    lengths, np.abs(values) * max(lengths) / np.abs(values).max(), atol=0.02
  )


@pytest.mark.parametrize(
  'game, horizon', [('Freeway', 1), ('Alien', 4), ('Alien', 5), ('Pong', 12)]
)
def test_every_size_fits_into_the_picture(game, horizon):
  recording = make_recording(game, horizon, ended=False)
  painter = video.Painter(recording)
  picture = painter.draw(0)
  assert picture.shape == (painter.height, video.WIDTH, 3)
  boxes = [painter.bar_box(a) for a in games.LEGAL_ACTIONS[game]]
  assert all(a[3] < b[1] for a, b in zip(boxes, boxes[1:], strict=False))
  assert boxes[-1][3] < video.GAME_TOP + 84 * video.GAME_SCALE
  scale = 2 if horizon <= 4 else 1
  for step in range(min(horizon, 9)):
    dreamed, _ = painter.dream_places(step)
    shown = cut(picture, *dreamed, scale)
    expected = large(recording.dreams.frames[0, step], scale)
    np.testing.assert_array_equal(shown, np.broadcast_to(expected, shown.shape))
  # What is drawn last does not reach the edge.
  assert (picture[-8:] == picture[0, 0]).all()
  assert (picture[:, -8:] == picture[0, 0]).all()


def test_without_dreams_it_is_lower(recording, tmp_path):
  plain = dataclasses.replace(recording, dreams=None)
  assert video.Painter(plain).height < video.Painter(recording).height
  path = tmp_path / 'plain.mp4'
  shown = video.write_video(path, plain, max_seconds=0.5, frames_per_second=10)
  assert shown == len(decode(path)) == 5


@pytest.mark.parametrize(
  'name, options, message',
  [
    ('x.gif', {}, '.mp4'),
    ('x.mp4', dict(max_seconds=0), 'max_seconds=0'),
    ('x.mp4', dict(max_seconds=float('nan')), 'max_seconds=nan'),
    ('x.mp4', dict(frames_per_second=-1), 'frames_per_second=-1'),
  ],
)
def test_errors(recording, tmp_path, name, options, message):
  with pytest.raises(ValueError, match=message):
    video.write_video(tmp_path / name, recording, **options)
  assert not list(tmp_path.iterdir())


def test_values_that_are_not_finite_are_an_error(recording, tmp_path):
  values = recording.values.copy()
  values[:, 2] = np.nan  # UP, not an action of Carnival.
  assert video.Painter(dataclasses.replace(recording, values=values))
  values[3, 0] = np.inf
  bad = dataclasses.replace(recording, values=values)
  with pytest.raises(ValueError, match='finite'):
    video.write_video(tmp_path / 'x.mp4', bad)
  assert not list(tmp_path.iterdir())


def test_a_failure_leaves_what_was_there(recording, tmp_path, monkeypatch):
  path = tmp_path / 'x.mp4'
  path.write_text('before')
  draw = video.Painter.draw

  def fail(self, t):
    if t == 5:
      raise RuntimeError('no more paint')
    return draw(self, t)

  monkeypatch.setattr(video.Painter, 'draw', fail)
  with pytest.raises(RuntimeError, match='no more paint'):
    video.write_video(path, recording)
  assert [p.name for p in tmp_path.iterdir()] == ['x.mp4']
  assert path.read_text() == 'before'
