"""Scripts, of flags and a call each; `common.run` is how they start and fail.

Importing what they need takes seconds. Who interrupts that gets a line, not the
traceback of whatever was being imported.
"""

import os
import signal
import sys


def end_at_once(number, frame) -> None:
  """What Ctrl-C does while libraries are imported."""
  # At once: what is half imported may turn an exception into any other, and
  # nothing has begun that would have to be ended in order.
  os.write(sys.__stderr__.fileno(), b'\nInterrupted.\n')
  os._exit(130)


# So it is while `python -m launch.SCRIPT` looks for the script: whoever else
# imports this package keeps what Ctrl-C means to him.
if sys.argv[:1] == ['-m']:
  if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, end_at_once)
