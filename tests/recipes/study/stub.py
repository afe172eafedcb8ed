"""Stands for the scripts of `launch/`: writes what it is told to.

Flags: --output, a file that gets a line; --fail, what it says as it fails;
--again, a file without which it makes it and asks to be run again; --die, one
without which it makes it and is killed.
"""

import os
import pathlib
import signal
import sys

flags = dict(flag[2:].split('=', 1) for flag in sys.argv[2:])
print(sys.argv[1], 'begins\r 10 %\r 20 %')
for name, end in (('again', lambda: sys.exit(75)), ('die', None)):
  if name in flags and not os.path.exists(flags[name]):
    pathlib.Path(flags[name]).touch()
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL) if name == 'die' else end()
if 'fail' in flags:
  sys.exit(f'{sys.argv[1]}: error: {flags["fail"]}')
if 'output' in flags:
  path = pathlib.Path(flags['output'])
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open('a') as file:
    file.write(flags.get('text', 'played') + '\n')
