"""Ctrl-C at any moment of a script's start: a line, and the exit code 130."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPTS = {
  'train': (
    *('--config=configs/jowa.py:smoke', '--workdir={tmp}/run'),
    *('--config.data.directory={data}', '--config.data.games=Assault,Carnival'),
  ),
  'evaluate': ('--games=Pong', '--output={tmp}/x.jsonl'),
  'prepare_data': (
    *('--source=ale', '--input={tmp}', '--output={tmp}/out', '--games=Pong'),
  ),
  'quickstart': ('--workdir={tmp}/q',),
}


def _interrupted(script, flags, seconds, cwd):
  """Starts a script as a terminal does, and interrupts its whole group.

  It is left alone if it has ended, or has said before what is wrong with its
  flags, and is on its way out.
  """
  with tempfile.NamedTemporaryFile() as file:
    process = subprocess.Popen(
      [sys.executable, '-m', f'launch.{script}', *flags],
      cwd=cwd,
      env={**os.environ, 'PYTHONPATH': str(ROOT)},
      stdout=subprocess.DEVNULL,
      stderr=file,
      start_new_session=True,
      # Who is started in the background ignores Ctrl-C.
      preexec_fn=lambda: signal.signal(
        signal.SIGINT, signal.default_int_handler
      ),
    )
    errors = pathlib.Path(file.name)
    try:
      time.sleep(seconds)
      failed = f'{script}.py: error: ' in errors.read_text()
      ended = process.poll() is not None or failed
      begin = time.monotonic()
      if not ended:
        os.killpg(process.pid, signal.SIGINT)
      process.wait(timeout=60)
    finally:
      process.kill()
    took = time.monotonic() - begin
    return ended, process.returncode, errors.read_text(), took


@pytest.mark.slow
@pytest.mark.parametrize('script', SCRIPTS)
def test_importing_is_interrupted_in_a_line(script, atari_data_dir, tmp_path):
  flags = [
    flag.format(tmp=tmp_path, data=atari_data_dir) for flag in SCRIPTS[script]
  ]
  interrupted = 0
  # The interpreter itself takes some tenths to reach the script.
  for seconds in (0.7, 1.2, 1.8, 2.5, 3.5):
    ended, code, errors, took = _interrupted(script, flags, seconds, tmp_path)
    if ended:
      break
    assert code == 130, errors
    assert 'Traceback' not in errors
    assert errors.strip().splitlines()[-1] == 'Interrupted.'
    assert errors.count('Interrupted.') == 1
    # A library that is being loaded is loaded first.
    assert took < 5
    interrupted += 1
  assert interrupted
  # Who begins to play has begun what it writes, and nothing beside it.
  begun = dict(train='run', evaluate='x.jsonl', quickstart='q').get(script)
  assert {path.name for path in tmp_path.iterdir()} <= {begun}


def test_an_interrupt_in_a_finaliser_is_not_lost():
  code = (
    'import os, signal, time\n'
    'from launch import common\n'
    'class Interrupted:\n'
    '  def __del__(self):\n'
    '    os.kill(os.getpid(), signal.SIGINT)\n'
    '    time.sleep(0.1)\n'
    'def main():\n'
    '  Interrupted()\n'
    '  time.sleep(60)\n'
    'common.run(main)\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', code],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=30,
    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
  )
  assert (done.returncode, done.stderr) == (130, '\nInterrupted.\n')


def test_others_keep_their_own_way():
  """Whoever imports the package, or starts a script otherwise."""
  code = (
    'import signal\n'
    'before = signal.getsignal(signal.SIGINT)\n'
    'from launch import common\n'
    'assert signal.getsignal(signal.SIGINT) is before\n'
  )
  subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True)
