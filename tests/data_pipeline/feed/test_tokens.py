"""Frames encoded once."""

import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from jowa_jax.data.episodes import DataError
from jowa_jax.data.feed import tokens
from jowa_jax.data.feed.dataset import SegmentDataset
from jowa_jax.data.store import stored

TOKENIZER = 'abc'


@pytest.fixture(scope='module')
def episodes(atari_data_dir):
  return stored.load_episodes(atari_data_dir, ('Assault', 'Carnival'))


def encode(frames):
  """Four numbers that differ from frame to frame."""
  return frames.reshape(len(frames), 4, -1).astype(np.int64).sum(-1) % 1000


def never(frames):
  raise AssertionError('encoded again')


def _encode(episodes, encode, directory, tokenizer=TOKENIZER, batch_size=128):
  tokens.encode_episodes(
    episodes, encode, directory, tokenizer, batch_size, progress=False
  )
  return tokens.read_tokens(episodes, directory, tokenizer)


def test_tokens_are_those_of_the_frames(episodes, tmp_path):
  shapes = []

  def counted(frames):
    shapes.append(frames.shape)
    return encode(frames)

  encoded = _encode(episodes, counted, tmp_path / 'tokens', batch_size=50)
  assert set(shapes) == {(50, 84, 84)}
  pixels, coded = (
    SegmentDataset(part, 8, 4, fields={'return_to_go'})
    for part in (episodes, encoded)
  )
  indices = np.arange(pixels.num_segments)
  a, b = pixels.batch(indices), coded.batch(indices)
  assert b.observations is None and a.tokens is None
  assert b.tokens.dtype == np.uint16
  expected = encode(a.observations.reshape(-1, 84, 84)).reshape(b.tokens.shape)
  np.testing.assert_array_equal(b.tokens, expected * a.mask[..., None])
  np.testing.assert_array_equal(a.actions, b.actions)
  np.testing.assert_array_equal(a.return_to_go, b.return_to_go)


def test_what_is_there_is_not_encoded_again(episodes, tmp_path):
  first = _encode(episodes, encode, tmp_path)
  again = _encode(episodes[::-1], never, tmp_path)
  for a, b in zip(first, again[::-1], strict=True):
    np.testing.assert_array_equal(a.tokens, b.tokens)
  sizes = [path.stat().st_size for path in tmp_path.glob('*_run_?-*.npy')]
  assert sum(sizes) < sum(map(len, episodes)) * 4 * 2 + 2000
  # On disk, not in memory.
  assert all(not episode.tokens.flags.owndata for episode in again)


def test_only_what_is_missing_is_encoded(episodes, tmp_path):
  carnival = [episode for episode in episodes if episode.game == 'Carnival']
  _encode(carnival, encode, tmp_path)
  counts = []

  def counted(frames):
    counts.append(frames.any(axis=(1, 2)).sum())
    return encode(frames)

  encoded = _encode(episodes, counted, tmp_path)
  assert sum(counts) == sum(map(len, episodes)) - sum(map(len, carnival))
  whole = _encode(episodes, encode, tmp_path / 'other')
  for a, b in zip(encoded, whole, strict=True):
    np.testing.assert_array_equal(a.tokens, b.tokens)


def test_processes_encode_shares(episodes, tmp_path):
  whole = _encode(episodes, encode, tmp_path / 'whole')
  counts = []
  for process in range(3):
    seen = []

    def counted(frames, seen=seen):
      seen.append(frames.any(axis=(1, 2)).sum())
      return encode(frames)

    if process:
      with pytest.raises(DataError, match=r'lacks tokens of .* one directory'):
        tokens.read_tokens(episodes, tmp_path / 'shared', TOKENIZER)
    # Shares do not depend on what others have finished.
    tokens.encode_episodes(
      *(episodes, counted, tmp_path / 'shared', TOKENIZER),
      progress=False,
      process=process,
      num_processes=3,
    )
    counts.append(sum(seen))
  assert sum(counts) == sum(map(len, episodes))
  assert min(counts) > 0
  shared = tokens.read_tokens(episodes, tmp_path / 'shared', TOKENIZER)
  for a, b in zip(shared, whole, strict=True):
    np.testing.assert_array_equal(a.tokens, b.tokens)


def test_nothing_was_encoded(episodes, tmp_path):
  with pytest.raises(DataError, match='no tokens: run launch.encode_tokens'):
    tokens.read_tokens(episodes, tmp_path, TOKENIZER)


def test_another_tokenizer_is_refused(episodes, tmp_path):
  _encode(episodes, encode, tmp_path)
  with pytest.raises(DataError, match='tokens of tokenizer abc, but this one'):
    _encode(episodes, never, tmp_path, tokenizer='xyz')
  assert json.loads((tmp_path / tokens.RECORD).read_text()) == {
    'tokenizer': TOKENIZER
  }


@pytest.mark.parametrize('resumed_batch_size', [16, 24])
def test_an_interruption_continues(episodes, tmp_path, resumed_batch_size):
  left = 9

  def fails(frames):
    nonlocal left
    left -= 1
    if not left:
      raise RuntimeError('stop')
    return encode(frames)

  with pytest.raises(RuntimeError, match='stop'):
    _encode(episodes, fails, tmp_path, batch_size=16)
  assert not list(tmp_path.glob(f'*{tokens._INDEX}'))
  calls = []

  def counted(frames):
    calls.append(len(frames))
    return encode(frames)

  resumed = _encode(episodes, counted, tmp_path, batch_size=resumed_batch_size)
  whole = _encode(episodes, encode, tmp_path / 'whole')
  for a, b in zip(resumed, whole, strict=True):
    np.testing.assert_array_equal(a.tokens, b.tokens)
  assert sum(calls) < sum(map(len, episodes)) - 6 * 16 + resumed_batch_size * 3
  assert not [path for path in tmp_path.iterdir() if path.name[0] == '.']


@pytest.mark.parametrize(
  'damage', ['cut', 'removed', 'other length', 'flipped', 'index']
)
def test_damaged_tokens_are_named(episodes, tmp_path, damage):
  _encode(episodes, encode, tmp_path)
  (path,) = [
    path
    for path in tmp_path.glob('Carnival*.npy')
    if not path.name.endswith(tokens._INDEX)
  ]
  if damage == 'cut':
    path.write_bytes(path.read_bytes()[:1000])
  elif damage == 'removed':
    path.unlink()
  elif damage == 'flipped':
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    path.write_bytes(data)
  elif damage == 'index':
    np.save(str(path).replace('.npy', tokens._INDEX), np.zeros(3))
  else:
    np.save(path, np.zeros((3, 4), np.uint16))
  with pytest.raises(DataError, match='remove .*made again') as raised:
    _encode(episodes, never, tmp_path)
  assert str(path) in str(raised.value)


def test_two_at_once_encode_once(episodes, tmp_path):
  """The second waits for the first and finds all that it wanted."""
  calls, begun = [], threading.Event()

  def slow(frames):
    begun.set()
    calls.append(len(frames))
    time.sleep(0.02)
    return encode(frames)

  results = [None, None]

  def run(which):
    results[which] = _encode(episodes, slow, tmp_path)

  threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
  threads[0].start()
  assert begun.wait(60)
  threads[1].start()
  for thread in threads:
    thread.join()
  whole = _encode(episodes, encode, tmp_path / 'whole')
  for found in results:
    for a, b in zip(found, whole, strict=True):
      np.testing.assert_array_equal(a.tokens, b.tokens)
  batches = sum(
    -(-sum(len(e) for e in episodes if e.game == game) // 64)
    for game in {e.game for e in episodes}
  )
  assert len(calls) <= 2 * batches  # at most one file each was begun by both
  assert not [path for path in tmp_path.iterdir() if path.name[0] == '.']


def test_what_was_changed_after_it_was_computed_is_computed_again(
  episodes, tmp_path
):
  """Checksums are of what was computed, not of what is found."""
  calls = 0

  def fails(frames):
    nonlocal calls
    calls += 1
    if calls == 9:
      raise RuntimeError('stop')
    return encode(frames)

  with pytest.raises(RuntimeError, match='stop'):
    _encode(episodes, fails, tmp_path, batch_size=16)
  (partial,) = tmp_path.glob('.*.partial')
  data = bytearray(partial.read_bytes())
  data[-5] ^= 1
  partial.write_bytes(data)
  resumed = _encode(episodes, encode, tmp_path, batch_size=16)
  whole = _encode(episodes, encode, tmp_path / 'whole')
  for a, b in zip(resumed, whole, strict=True):
    np.testing.assert_array_equal(a.tokens, b.tokens)


@pytest.mark.parametrize('bytes_kept', [0, 3, 100, 128, 129, 500, 10_000])
def test_a_file_of_any_length_is_continued(episodes, tmp_path, bytes_kept):
  """Whatever a killed process has left of it."""
  whole = _encode(episodes, encode, tmp_path / 'whole', batch_size=16)
  for path in (tmp_path / 'whole').glob('*_run_?-*.npy'):
    if not path.name.endswith(tokens._INDEX):
      left = tmp_path / f'.{path.name}.partial'
      left.write_bytes(path.read_bytes()[:bytes_kept])
  resumed = _encode(episodes, encode, tmp_path, batch_size=16)
  for a, b in zip(resumed, whole, strict=True):
    np.testing.assert_array_equal(a.tokens, b.tokens)


def test_a_kill_before_the_index_is_written(episodes, tmp_path, monkeypatch):
  def killed(*arguments):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(tokens._Partial, 'index', killed)
    for _ in range(2):
      with pytest.raises(KeyboardInterrupt):
        _encode(episodes, encode, tmp_path)
  resumed = _encode(episodes, encode, tmp_path)
  whole = _encode(episodes, encode, tmp_path / 'whole')
  for a, b in zip(resumed, whole, strict=True):
    np.testing.assert_array_equal(a.tokens, b.tokens)


def test_full_disk(episodes, tmp_path):
  """A file system with room for half of the tokens, then for all."""
  mount = ['mount', '-t', 'tmpfs', '-o', 'size=12k', 'tmpfs', str(tmp_path)]
  if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
    pytest.skip('mounting needs root')

  def wide(frames):
    return np.repeat(encode(frames), 9, axis=1)

  try:
    with pytest.raises(OSError, match='No space left'):
      _encode(episodes, wide, tmp_path, batch_size=16)
    larger = ['mount', '-o', 'remount,size=9m', str(tmp_path)]
    subprocess.run(larger, check=True)
    full = _encode(episodes, wide, tmp_path, batch_size=16)
    assert [len(e.tokens) for e in full] == list(map(len, episodes))
    assert all((e.tokens[:, 0] == e.tokens[:, 8]).all() for e in full)
    del full
  finally:
    subprocess.run(['umount', '-l', str(tmp_path)], check=True)


def test_a_record_that_says_nothing(episodes, tmp_path):
  (tmp_path / tokens.RECORD).write_text('{}')
  with pytest.raises(DataError, match='does not name a tokenizer'):
    _encode(episodes, never, tmp_path)


_READ = """
import dataclasses, pathlib, re, sys
import numpy as np
from jowa_jax.data.feed import pipeline
from jowa_jax.data.store import mapped
from jowa_jax.data.feed.dataset import SegmentDataset
from jowa_jax.data.episodes import Episode
from jowa_jax.data.feed.sampler import Sampler

def resident():
  status = pathlib.Path('/proc/self/status').read_text()
  return int(re.search(r'VmRSS:\\s+(\\d+) kB', status)[1]) / 1024

tokens = mapped.open_array(pathlib.Path(sys.argv[1]))
columns = np.zeros(len(tokens), np.int8)
actions = columns.view(np.uint8)
episode = Episode(
  'Pong', 0, 1, 0, 0, (), actions, columns, 0.0, False, b'', tokens
)
data = SegmentDataset([episode])
sampler = Sampler([data.num_segments], 4, 0)
before, most, seen = resident(), 0, 0
for step, batch in pipeline.batches(data, sampler, 0, 2000):
  seen += int(batch.tokens.sum())
  if step % 60 == 59:
    most = max(most, resident() - before)
assert seen > 1990 * 4 * 8 * 36
print(most)
"""


@pytest.mark.slow
def test_what_was_read_does_not_stay_in_memory(tmp_path):
  """8,000 segments from all over 64 MB of tokens.

  The system maps up to some megabytes around each, so batches are small.
  """
  path = tmp_path / 'tokens.npy'
  np.save(path, np.ones((64 * 2**20 // 72, 36), np.uint16))
  done = subprocess.run(
    [sys.executable, '-c', _READ, str(path)], capture_output=True, text=True
  )
  assert not done.returncode, done.stderr
  assert float(done.stdout) < 30
