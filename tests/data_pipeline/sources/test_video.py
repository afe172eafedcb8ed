"""Videos become decisions at a game's own pace, cut where scenes change."""

import fractions
import subprocess
import sys

import av
import cv2
import numpy as np
import pytest

from jowa_jax.data.episodes import DataError
from jowa_jax.data.source import Split, VideoOptions, open_source, parse_crop
from jowa_jax.data.sources import video
from jowa_jax.eval.recording import Recording
from jowa_jax.report.video import (
  GAME_LEFT,
  GAME_SCALE,
  GAME_TOP,
  write_video,
)

GAME = 'Freeway'
SPLIT = Split(GAME, 1, 0)
SIDE = 84 * GAME_SCALE
OF_FILM = (SIDE, SIDE, GAME_LEFT, GAME_TOP)


def pictures(count, scene=0, side=(84, 84)):
  """A bright square that moves by 4 pixels, on a ground of the scene's own."""
  height, width = side
  found = np.full((count, height, width), 40 + 90 * scene, np.uint8)
  for t in range(count):
    left = 4 * t % (width - 12)
    found[t, 20:32, left : left + 12] = 255
  return found


def write(path, frames, times=None, rate=15, codec='ffv1', rotation=None):
  """Writes grey frames, lossless by default, at times in milliseconds."""
  with av.open(str(path), 'w') as container:
    stream = container.add_stream(codec, rate=fractions.Fraction(rate))
    stream.height, stream.width = frames.shape[1:]
    stream.pix_fmt = 'gray' if codec == 'ffv1' else 'yuv420p'
    if times is not None:
      stream.time_base = stream.codec_context.time_base = fractions.Fraction(
        1, 1000
      )
    for t, pixels in enumerate(frames):
      frame = av.VideoFrame.from_ndarray(pixels, format='gray')
      if times is not None:
        frame.pts, frame.time_base = times[t], fractions.Fraction(1, 1000)
      container.mux(stream.encode(frame))
    container.mux(stream.encode())


def read(path, **options):
  """The frames of every episode of a video, [T, 84, 84] each."""
  source = open_source('video', str(path), VideoOptions(**options), (GAME,))
  lengths = source.lengths(SPLIT)
  episodes = list(source.episodes(SPLIT, range(len(lengths))))
  assert [len(episode.actions) for episode in episodes] == lengths
  assert not any(episode.terminated for episode in episodes)
  return [
    np.stack(
      [
        cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
        for png in episode.frames
      ]
    )
    for episode in episodes
  ]


def test_four_frames_of_60_are_a_decision_that_shows_the_last_two(tmp_path):
  frames = pictures(41)
  write(tmp_path / 'a.mkv', frames, rate=60)
  (found,) = read(tmp_path / 'a.mkv')
  expected = [np.maximum(frames[i + 2], frames[i + 3]) for i in range(0, 40, 4)]
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('rate', [25, 30])
def test_slower_videos_show_what_is_on_the_screen_then(tmp_path, rate):
  frames = pictures(2 * rate)
  write(tmp_path / 'a.mkv', frames, rate=rate)
  (found,) = read(tmp_path / 'a.mkv')
  assert len(found) == 30
  appears = np.round(np.arange(2 * rate) * 60 / rate)
  for decision, frame in enumerate(found):
    ticks = (4 * decision + 2, 4 * decision + 3)
    shown = [frames[np.searchsorted(appears, t, 'right') - 1] for t in ticks]
    np.testing.assert_array_equal(frame, np.maximum(*shown))


def test_variable_rates_hold_a_picture_until_the_next(tmp_path):
  frames = pictures(4)
  # A picture of 1/15 s, one of 4/15, one of 2/15, one of the usual length.
  times = [0, 67, 333, 467]
  write(tmp_path / 'a.mkv', frames, times)
  (found,) = read(tmp_path / 'a.mkv')
  np.testing.assert_array_equal(found, frames[[0, 1, 1, 1, 1, 2, 2, 3]])
  # Times in the file are left aside if a rate is given.
  (found,) = read(tmp_path / 'a.mkv', frames_per_second=15.0)
  np.testing.assert_array_equal(found, frames)


def test_a_pause_ends_an_episode(tmp_path):
  frames = pictures(6)
  times = [*range(0, 201, 67)][:3] + [60_000, 60_067, 60_133]
  write(tmp_path / 'a.mkv', frames, times)
  found = read(tmp_path / 'a.mkv')
  assert [len(each) for each in found] == [3, 3]
  np.testing.assert_array_equal(np.concatenate(found), frames)


def test_portrait_is_shrunk_by_area_like_everything(tmp_path):
  frames = pictures(6, side=(210, 160))
  write(tmp_path / 'a.mkv', frames)
  (found,) = read(tmp_path / 'a.mkv')
  expected = [
    cv2.resize(frame, (84, 84), interpolation=cv2.INTER_AREA)
    for frame in frames
  ]
  np.testing.assert_array_equal(found, expected)


def test_borders_are_cropped(tmp_path):
  inside = pictures(5)
  frames = np.full((5, 120, 200), 7, np.uint8)
  frames[:, 20:104, 50:134] = inside
  write(tmp_path / 'a.mkv', frames)
  (found,) = read(tmp_path / 'a.mkv', crop=parse_crop('84:84:50:20'))
  np.testing.assert_array_equal(found, inside)
  with pytest.raises(DataError, match=r'a\.mkv has pictures of 200x120 pixels'):
    read(tmp_path / 'a.mkv', crop=(84, 84, 50, 40))
  for text in ('84:84:50', 'a:b:c:d', '-1:84:0:0'):
    with pytest.raises(ValueError, match='width:height:left:top'):
      parse_crop(text)
  with pytest.raises(ValueError, match='keeps nothing'):
    VideoOptions(crop=(0, 84, 0, 0))
  with pytest.raises(ValueError, match='decisions_per_second=0'):
    VideoOptions(decisions_per_second=0)


def test_a_cut_begins_an_episode_and_a_flash_does_not(tmp_path):
  first, second = pictures(20), pictures(12, scene=1)
  first[7] = 255
  write(tmp_path / 'a.mkv', np.concatenate([first, second]))
  found = read(tmp_path / 'a.mkv')
  np.testing.assert_array_equal(found[0], first)
  np.testing.assert_array_equal(found[1], second)
  assert len(found) == 2


def test_a_long_scene_is_several_episodes(tmp_path, monkeypatch):
  monkeypatch.setattr(video, 'LONGEST', 8)
  frames = pictures(20)
  write(tmp_path / 'a.mkv', frames)
  found = read(tmp_path / 'a.mkv')
  assert [len(each) for each in found] == [8, 8, 4]
  np.testing.assert_array_equal(np.concatenate(found), frames)


@pytest.mark.parametrize(
  ('suffix', 'codec'), [('mp4', 'libx264'), ('webm', 'libvpx-vp9')]
)
def test_formats_with_losses(tmp_path, suffix, codec):
  frames = pictures(15)
  write(tmp_path / f'a.{suffix}', frames, codec=codec)
  (found,) = read(tmp_path / f'a.{suffix}')
  assert len(found) == 15
  assert np.abs(found.astype(int) - frames).mean() < 4


def test_our_own_films_are_read_back(tmp_path):
  frames, count = pictures(45), 45
  actions = np.arange(count, dtype=np.int32) % 2
  recording = Recording(
    GAME, 'test', 0, 0, frames, actions, np.zeros((count, 18), np.float32),
    'Q value', np.zeros(count, np.float32), np.zeros(count), False, None,
  )  # fmt: skip
  assert write_video(tmp_path / 'film.mp4', recording) == count
  (found,) = read(tmp_path / 'film.mp4', crop=OF_FILM)
  assert len(found) == count
  assert np.abs(found.astype(int) - frames).mean() < 4
  assert np.abs(found.astype(int) - frames).max(axis=(1, 2)).mean() < 80


def test_folders_of_images_in_the_order_of_numbers(tmp_path):
  folder = tmp_path / GAME / 'first'
  folder.mkdir(parents=True)
  frames = pictures(12)
  for t, frame in enumerate(frames):
    cv2.imwrite(str(folder / f'frame_{t}.png'), frame)
  source = open_source('video', str(tmp_path), None, (GAME, 'Qbert'))
  assert source.splits(GAME) == [SPLIT]
  assert source.lengths(SPLIT) == [12]
  (found,) = read(folder)  # by itself
  np.testing.assert_array_equal(found, frames)
  (found,) = read(folder, frames_per_second=30.0)
  np.testing.assert_array_equal(found, frames[1::2])
  with pytest.raises(DataError, match='has no folder Qbert'):
    source.splits('Qbert')
  (folder / 'frame_3.png').write_bytes(b'')
  with pytest.raises(DataError, match=r'frame_3\.png is damaged'):
    read(folder)


def test_videos_are_splits_in_the_order_of_names(tmp_path):
  for number in (10, 9):
    write(tmp_path / f'part{number}.mkv', pictures(number))
  (tmp_path / 'notes.txt').write_text('seen')
  source = open_source('video', str(tmp_path), None, (GAME,))
  splits = source.splits(GAME)
  assert [split.checkpoint for split in splits] == [0, 1]
  assert [source.lengths(split) for split in splits] == [[9], [10]]
  (path,) = source.files(splits[1])
  assert path.endswith('part10.mkv')


def test_what_is_no_video_is_one_clear_line(tmp_path):
  with pytest.raises(DataError, match='is not there'):
    read(tmp_path / 'none.mp4')
  (tmp_path / 'empty').mkdir()
  with pytest.raises(DataError, match='has no video of Freeway'):
    read(tmp_path / 'empty')
  (tmp_path / 'a.mp4').write_bytes(b'not a video at all')
  with pytest.raises(DataError, match=r'a\.mp4 is damaged, incomplete or no'):
    read(tmp_path / 'a.mp4')
  (tmp_path / 'a.avi').write_bytes(b'')
  with pytest.raises(DataError, match='neither .mp4'):
    read(tmp_path / 'a.avi')
  with av.open(str(tmp_path / 'sound.mkv'), 'w') as container:
    stream = container.add_stream('pcm_s16le', rate=8000)
    sound = av.AudioFrame.from_ndarray(
      np.zeros((1, 8000), np.int16), layout='mono'
    )
    sound.rate = 8000
    container.mux(stream.encode(sound))
    container.mux(stream.encode())
  with pytest.raises(
    DataError, match=r'has no video among its streams \(audio'
  ):
    read(tmp_path / 'sound.mkv')
  write(tmp_path / 'short.mkv', pictures(2), rate=60)
  with pytest.raises(DataError, match='shorter than one decision, 0.067 s'):
    read(tmp_path / 'short.mkv')


@pytest.mark.slow
@pytest.mark.parametrize(
  ('suffix', 'codec'),
  [('mkv', 'ffv1'), ('mp4', 'libx264'), ('webm', 'libvpx-vp9')],
)
def test_a_truncated_file_is_told(tmp_path, suffix, codec):
  rng = np.random.default_rng(0)
  frames = rng.integers(0, 256, (90, 84, 84), np.uint8)
  path = tmp_path / f'a.{suffix}'
  write(path, frames, codec=codec)
  data = path.read_bytes()
  path.write_bytes(data[: len(data) // 2])
  with pytest.raises(DataError, match=rf'a\.{suffix} (ends after|is damaged)'):
    read(path)


@pytest.mark.slow
def test_a_long_video_takes_no_more_memory(tmp_path):
  """Two hours, beside two minutes."""
  peaks = []
  for minutes in (2, 120):
    path = tmp_path / f'{minutes}.mkv'
    write_long(path, minutes * 60 * 15)
    code = f"""
import resource
from jowa_jax.data.source import Split, open_source
source = open_source('video', {str(path)!r}, None, ({GAME!r},))
lengths = source.lengths(Split({GAME!r}, 1, 0))
count = 0
for episode in source.episodes(Split({GAME!r}, 1, 0), range(len(lengths))):
  count += len(episode.frames)
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    done = subprocess.run(
      [sys.executable, '-c', code], capture_output=True, text=True, check=True
    )
    count, peak = map(int, done.stdout.split())
    assert count == minutes * 60 * 15
    peaks.append(peak)
  # Kilobytes. An episode of its longest is 4,096 frames of half a kilobyte.
  assert peaks[1] - peaks[0] < 30_000, peaks


def write_long(path, count):
  """Tiny frames, a square that goes round."""
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('mpeg4', rate=15)
    stream.width = stream.height = 32
    stream.pix_fmt = 'yuv420p'
    for t in range(count):
      pixels = np.full((32, 32), 60, np.uint8)
      pixels[8:12, t % 28 : t % 28 + 4] = 200
      frame = av.VideoFrame.from_ndarray(pixels, format='gray')
      container.mux(stream.encode(frame))
    container.mux(stream.encode())
