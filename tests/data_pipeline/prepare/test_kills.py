"""A preparation that is killed or interrupted goes on where it was."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from jowa_jax.data.store import formats
from tests.data_pipeline.prepare.carnival import command_flags, digests


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGINT])
def test_killed_at_any_moment_it_continues(sources, launch, tmp_path, number):
  output = tmp_path / 'out'
  killed = 0
  for seconds in (4, 6):
    process = subprocess.Popen(
      [
        sys.executable,
        '-m',
        'launch.prepare_data',
        *command_flags(sources, output),
      ],
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
      start_new_session=True,
      # As in a terminal; who is started in the background ignores Ctrl-C.
      preexec_fn=lambda: signal.signal(
        signal.SIGINT, signal.default_int_handler
      ),
    )
    time.sleep(seconds)
    runs = process.poll() is None
    if runs:
      killed += 1
      assert not (output / formats.MANIFEST).exists()
    # It may have ended since.
    with contextlib.suppress(ProcessLookupError):
      os.killpg(process.pid, number)
    # To the end of what all workers may write: none is left over.
    _, errors = process.communicate(timeout=60)
    if runs and number == signal.SIGINT:
      assert process.returncode == 130, errors
      assert 'Traceback' not in errors and errors.count('Interrupted.') == 1
  assert killed
  done = launch('prepare_data', *command_flags(sources, output))
  assert not done.returncode, done.stderr
  assert 'Carnival: ' in done.stdout
  assert digests(output) == digests(sources['ale'])
