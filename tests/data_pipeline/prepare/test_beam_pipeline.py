"""Functions called on many elements, on this machine."""

import os
import pathlib
import signal

import pytest
from etils import epath

from jowa_jax.data.episodes import DataError
from jowa_jax.data.prepare import beam_pipeline
from jowa_jax.processes import LostWorkerError


def _touch(path):
  pathlib.Path(path).write_text(str(os.getpid()))


def _die_once(path):
  path = pathlib.Path(path)
  if path.name == 'dies' and not path.with_name('died').exists():
    path.with_name('died').touch()
    os.kill(os.getpid(), signal.SIGKILL)
  _touch(path)


def _fail(path):
  if 'bad' in path:
    raise DataError(f'{path} is damaged')
  _touch(path)


@pytest.mark.slow
def test_processes_share_the_work(tmp_path, monkeypatch):
  monkeypatch.setattr(beam_pipeline.processes, 'num_cores', lambda: 2)
  paths = [str(tmp_path / str(i)) for i in range(4)]
  work = epath.Path(tmp_path / 'work')
  beam_pipeline.call_on_all(paths, _touch, work, None)
  owners = {pathlib.Path(path).read_text() for path in paths}
  assert str(os.getpid()) not in owners


@pytest.mark.slow
def test_a_killed_worker_ends_the_work_and_the_next_goes_on(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(beam_pipeline.processes, 'num_cores', lambda: 2)
  paths = [str(tmp_path / name) for name in ('dies', 'lives')]
  work = epath.Path(tmp_path / 'work')
  with pytest.raises(LostWorkerError, match='exit code -9.*again'):
    beam_pipeline.call_on_all(paths, _die_once, work, None)
  beam_pipeline.call_on_all(paths, _die_once, work, None)
  assert all(pathlib.Path(path).is_file() for path in paths)


@pytest.mark.slow
def test_damage_does_not_keep_others_from_going_on(tmp_path, monkeypatch):
  monkeypatch.setattr(beam_pipeline.processes, 'num_cores', lambda: 2)
  paths = [str(tmp_path / name) for name in ('bad1', 'bad2', 'good')]
  work = epath.Path(tmp_path / 'lr=[1e-4]')
  with pytest.raises(DataError, match=r'bad. is damaged \(and 1 more\)'):
    beam_pipeline.call_on_all(paths, _fail, work, None)
  assert (tmp_path / 'good').is_file()
