"""Counts the programs that JAX compiles.

Traces say less: a program is compiled anew, from the same trace, for arguments
that live elsewhere, or that are no longer free to be moved.
"""

import collections
import contextlib

import jax

_COMPILED = '/jax/core/compile/backend_compile_duration'


@contextlib.contextmanager
def counted():
  """Yields a counter of what is compiled meanwhile, by the function's name.

  What the persistent cache has is counted too.
  """
  found = collections.Counter()

  def listen(event, duration, fun_name='', **labels):
    del duration, labels
    if event == _COMPILED:
      found[fun_name.removeprefix('jit(').removesuffix(')')] += 1

  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    yield found
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
