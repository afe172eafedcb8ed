"""`launch.play` as a user starts and ends it, and one look at its page."""

import re
import signal
import subprocess
import sys
import urllib.request

from tests.train import helpers


def visit(
  flags, folder=helpers.ROOT, modules=('launch.play',)
) -> subprocess.CompletedProcess:
  """Starts it, asks for its page once, and interrupts it.

  Args:
    flags: of the script; without a port, it takes any that is free.
    folder: where it is started.
    modules: that are run, the first as a script, the others its arguments.

  Returns:
    How it ended: with code 0 if it was as an interrupt ends it.
  """
  process = subprocess.Popen(
    [sys.executable, '-m', *modules, *flags],
    cwd=folder,
    env=helpers.script_env(),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    # Who is started in the background ignores Ctrl-C.
    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
  )
  try:
    assert process.stdout.readline() == 'Compiling ...\n', process.stderr.read()
    line = process.stdout.readline()
    address = re.fullmatch(r'Open (http://127\.0\.0\.1:\d+/)\n', line)[1]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address, timeout=60) as answer:
      assert b'Step inside' in answer.read()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
  finally:
    process.kill()
  assert process.returncode == 130, errors
  assert 'Traceback' not in errors and errors.endswith('Interrupted.\n')
  return subprocess.CompletedProcess(process.args, 0, '', errors)
