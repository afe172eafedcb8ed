"""Lock files: one owner, who is named, and none that stays after a crash."""

import os
import pathlib
import signal
import subprocess
import sys
import threading

import pytest

from jowa_jax import ownership

_HOLD = """
import sys, time
from jowa_jax import ownership
with ownership.owned(sys.argv[1]):
  print('held', flush=True)
  time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
  """Another process, which holds `lock`."""
  path = tmp_path / 'run' / '.owner'
  process = subprocess.Popen(
    [sys.executable, '-c', _HOLD, str(path)], stdout=subprocess.PIPE
  )
  assert process.stdout.readline() == b'held\n'
  yield process, path
  process.kill()
  process.wait()
  process.stdout.close()


def test_the_owner_is_named(holder):
  process, path = holder
  with (
    pytest.raises(ownership.InUseError, match=f'process {process.pid} on .*20'),
    ownership.owned(path),
  ):
    raise AssertionError('held twice')
  # A command that failed took nothing away from the owner.
  assert path.read_text().startswith(f'process {process.pid} on')


@pytest.mark.parametrize('end', [signal.SIGKILL, signal.SIGTERM])
def test_a_crash_leaves_nothing_to_clear_away(holder, end):
  process, path = holder
  process.send_signal(end)
  process.wait()
  with ownership.owned(path):
    assert path.read_text().startswith(f'process {os.getpid()} on')
  assert not path.exists()


def test_one_who_waits_goes_on_when_the_owner_ends(holder):
  process, path = holder
  timer = threading.Timer(0.5, process.kill)
  timer.start()
  with ownership.owned(path, wait=True):
    assert process.wait() == -signal.SIGKILL
  timer.join()


def test_many_take_turns(tmp_path):
  inside, seen = [], []

  def work(number):
    for _ in range(20):
      with ownership.owned(tmp_path / 'made' / '.owner', wait=True):
        inside.append(number)
        seen.append(len(inside))
        inside.remove(number)

  threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert seen == [1] * 80


def test_a_folder_that_comes_and_goes(tmp_path, monkeypatch):
  make, calls = pathlib.Path.mkdir, []

  def gone_again(path, *args, **kwargs):
    calls.append(path)
    if len(calls) == 1:
      raise FileExistsError(17, 'File exists', str(path))
    make(path, *args, **kwargs)

  monkeypatch.setattr(pathlib.Path, 'mkdir', gone_again)
  with ownership.owned(tmp_path / 'made' / '.owner'):
    assert len(calls) == 2


def test_a_folder_that_goes_once_it_is_seen(tmp_path, monkeypatch):
  folder, seen = tmp_path / 'made', []
  make, look = pathlib.Path.mkdir, pathlib.Path.stat

  def made_by_another(path, *args, **kwargs):
    make(path, *args, **kwargs)
    if not seen:
      raise FileExistsError(17, 'File exists', str(path))

  def removed_by_another(path, **kwargs):
    found = look(path, **kwargs)
    if path == folder and not seen:
      seen.append(found)
      path.rmdir()
    return found

  monkeypatch.setattr(pathlib.Path, 'mkdir', made_by_another)
  monkeypatch.setattr(pathlib.Path, 'stat', removed_by_another)
  with ownership.owned(folder / '.owner'):
    assert len(seen) == 1


def test_a_folder_made_for_the_lock_stays_if_it_is_used(tmp_path):
  with ownership.owned(tmp_path / 'made' / '.owner'):
    pass
  assert not (tmp_path / 'made').exists()
  with ownership.owned(tmp_path / 'made' / '.owner'):
    (tmp_path / 'made' / 'result').touch()
  assert os.listdir(tmp_path / 'made') == ['result']
