"""How every launch script starts and fails."""

import atexit
import contextlib
import functools
import os
import pathlib
import re
import runpy
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import Any

from absl import app, flags, logging

from jowa_jax import files
from launch import end_at_once
from launch import help as help_lib

ROOT = pathlib.Path(__file__).parent.parent


# What ml_collections raises on an override that it cannot apply.
_OVERRIDE_ERRORS = (AttributeError, KeyError, TypeError, ValueError, OSError)
_PRINT = 'print_config'
# Flags that are defined through functions of this module belong to the script.
flags.disclaim_key_flags()


class _Path(flags.ArgumentParser):
  """Of what `files.typed_path` makes a path."""

  syntactic_help = 'a path'

  def parse(self, argument):
    return files.typed_path(argument)


class _Paths(flags.ListParser):
  """Of paths that are separated by commas."""

  def parse(self, argument):
    return [files.typed_path(path) for path in super().parse(argument)]


def define_config(default: str | None, text: str) -> flags.FlagHolder:
  """Defines --config, whose fields are flags too: --config.seed=3.

  Args:
    default: a file of `configs/` and its variant, such as
      'configs/evaluate.py:paper'; None if it must be given.
    text: what it is for.
  """
  # Benchmarks have no config, and run where this is not installed.
  from ml_collections import config_flags

  flags.DEFINE_bool(
    _PRINT, False, 'Print the fields of the config, with what they mean.'
  )

  path = default and str(ROOT / default)
  try:
    return config_flags.DEFINE_config_file('config', path, text)
  except _OVERRIDE_ERRORS as error:
    # A default is read here, and what is to be changed in it.
    _fail(_override_message(error, sys.argv))


def read_config(name: str) -> Any:
  """The config of a file of `configs/` and its variant, as --config takes it.

  Raises:
    ValueError: there is no such variant.
    FileNotFoundError: there is no such file.
  """
  path, colon, variant = files.typed_path(name).partition(':')
  if not os.path.exists(path):
    path = str(ROOT / path)
  make = runpy.run_path(path)['get_config']
  return make(variant) if colon else make()


def define_path(name: str, default: str | None, text: str) -> flags.FlagHolder:
  """Defines a flag for a path as people type it, `~` included."""
  return flags.DEFINE(
    _Path(), name, default, text, serializer=flags.ArgumentSerializer()
  )


def define_paths(name: str, text: str) -> flags.FlagHolder:
  """Defines a flag for paths that are separated by commas, none by default."""
  return flags.DEFINE(
    _Paths(), name, [], text, serializer=flags.CsvListSerializer(',')
  )


def run(
  main: Callable[..., None],
  pass_unknown_flags: bool = False,
  argument: str = '',
) -> None:
  """Parses flags and runs `main`; what the user can mend ends in one line.

  Errors of usage, config, data, checkpoints and numerics exit with code 2 and
  a message that says what is wrong; a run that was asked to stop, or that lost
  one of its processes, exits with code 75 (`preemption.EXIT_CODE`: run it
  again); Ctrl-C with code 130 and a line; everything else keeps its traceback
  and exits with code 1.

  Args:
    main: called without arguments, or with the one word that is no flag, or
      with the list of unknown flags.
    pass_unknown_flags: whether flags that are not defined are errors, or for
      `main` to understand.
    argument: what that word is, such as 'one game'; there is none if empty.
  """
  # TensorFlow reads data here and nothing else: its start-up notes are noise.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')

  spare_local_connections(os.environ)

  def guarded(argv: Sequence[str]) -> None:
    unknown = [arg for arg in argv[1:] if arg.startswith('--')]
    others = [arg for arg in argv[1:] if arg not in unknown]
    if argument and len(others) != 1:
      _fail(f'name {argument}; there are {len(others)} arguments: {others}')
    if (others and not argument) or (unknown and not pass_unknown_flags):
      _fail(f'unexpected arguments {argv[1:]}; flags look like --name=x')
    logging.set_verbosity(logging.INFO)
    # Orbax and its kin log every file at this level.
    logging.get_absl_handler().addFilter(_ours)
    interrupts = _watch_interrupts()
    try:
      if _prints_config():
        _print_config()
      else:
        given = others if argument else []
        main(*given, *([unknown] if pass_unknown_flags else []))
      sys.stdout.flush()
    except KeyboardInterrupt:
      _leave_interrupted()
    except Exception as error:
      if isinstance(error, BrokenPipeError) and not _has_reader():
        # Python prints what is left at its end, and would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
      if interrupts:
        # What was being imported made another error of it.
        _leave_interrupted()
      if _others_wait():
        _leave_if_lost(error)
      if isinstance(error, ValueError | FloatingPointError | OSError):
        if logging.level_debug():
          raise
        _fail(str(error))
      if not _others_wait():
        raise
      traceback.print_exc()
      _exit(1)

  if {'--help', '-help', '-h'} & {*sys.argv[1:]}:
    print(help_lib.describe('__main__', sys.modules['__main__'].__doc__))
    return
  app.run(
    guarded,
    flags_parser=functools.partial(_parse_flags, known_only=pass_unknown_flags),
  )


def _has_reader() -> bool:
  """Whether what is printed is still read: `head` leaves when it has enough."""
  poll = select.poll()
  poll.register(sys.stdout, 0)
  return not any(event & select.POLLERR for _, event in poll.poll(0))


def _watch_interrupts() -> list[int]:
  """Lets Ctrl-C raise KeyboardInterrupt; gives a list that it fills."""
  found: list[int] = []
  tell = sys.unraisablehook

  def interrupt(number, frame):
    found.append(number)
    raise KeyboardInterrupt

  def lost(unraisable):
    # Python prints and drops what is raised in a finaliser or in a callback of
    # its garbage collection, JAX's among them; so it comes again, afterwards.
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
      return tell(unraisable)
    main = threading.main_thread().ident
    again = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT))
    again.daemon = True
    again.start()

  sys.unraisablehook = lost
  # Started in the background, a script ignores it.
  if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    signal.signal(signal.SIGINT, interrupt)
  return found


@contextlib.contextmanager
def importing() -> Iterator[None]:
  """For what `main` imports: Ctrl-C ends it as it ends imports of a file."""
  before = signal.getsignal(signal.SIGINT)
  if before is not signal.SIG_IGN:
    signal.signal(signal.SIGINT, end_at_once)
  try:
    yield
  finally:
    signal.signal(signal.SIGINT, before)


def _leave_interrupted() -> None:
  print('\nInterrupted.', file=sys.stderr)
  # What was broken off in a library may crash the interpreter's own end; and
  # exit handlers would wait for other processes, which wait for this one.
  if not _others_wait():
    atexit._run_exitfuncs()
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(130)


def spare_local_connections(environment: MutableMapping[str, str]) -> None:
  """Keeps connections within the machine from going through a proxy.

  Apache Beam and JAX talk to their own processes through gRPC, which takes a
  proxy of the environment for them too.
  """
  for name in ('no_proxy', 'NO_PROXY'):
    spared = environment.get(name, '').split(',')
    wanted = ('localhost', '127.0.0.1', '::1', socket.gethostname())
    more = [host for host in wanted if host not in spared]
    environment[name] = ','.join([*filter(None, spared), *more])


def _ours(record) -> bool:
  ours = any(
    pathlib.Path(record.pathname).is_relative_to(ROOT / package)
    for package in ('jowa_jax', 'launch')
  )
  return ours or record.levelno >= logging.converter.STANDARD_WARNING


def _parse_flags(argv: Sequence[str], known_only: bool) -> list[str]:
  """Parses flags; a config field that is unknown or mistyped is one line."""
  argv = _with_config(argv)
  try:
    return flags.FLAGS(argv, known_only=known_only)
  except flags.Error as error:
    if flags.FLAGS.is_parsed() and _prints_config():
      # What is required to run is not, to print.
      return argv[:1]
    # A config file that fails brings its traceback; the last line says why.
    message = str(error).strip()
    _fail(message.splitlines()[-1] if 'Traceback' in message else message)
  except _OVERRIDE_ERRORS as error:
    _fail(_override_message(error, argv))


def _prints_config() -> bool:
  return _PRINT in flags.FLAGS and flags.FLAGS[_PRINT].value


def _print_config() -> None:
  """Prints the fields of --config, changes on the command line included.

  Raises:
    ValueError: no config is given.
  """
  flag = flags.FLAGS['config']
  if flag.value is None:
    raise ValueError(f'--{_PRINT} needs --config')
  path = flag.config_filename.partition(':')[0]
  print(help_lib.config_table(flag.value.to_dict(), path))


def _override_message(error: Exception, argv: Sequence[str]) -> str:
  """What to say of a field of a config that cannot be set."""
  message = ' '.join(str(error).replace('\\n', ' ').split())
  message = message.replace('\\', '').strip('"\'')
  named = [
    flag
    for flag in argv
    if any(
      name and re.search(rf"\b{re.escape(name)}('|$)", message)
      for name in flag.partition('=')[0].split('.')[1:]
    )
  ]
  unknown = isinstance(error, AttributeError | KeyError)
  reason = f'no such field: {message}' if unknown else message
  return f'{" ".join(named) or "config"}: {reason}'


def _with_config(argv: Sequence[str]) -> list[str]:
  """The arguments, with --config=configs/... found from any directory."""
  argv = list(argv)
  for place, argument in enumerate(argv):
    name, given, value = argument.partition('=')
    if name.lstrip('-') != 'config' or not argument.startswith('-'):
      continue
    if not given and place + 1 < len(argv):
      place, name, given, value = place + 1, '', '', argv[place + 1]
    path, colon, variant = files.typed_path(value).partition(':')
    if not os.path.exists(path) and (ROOT / path).is_file():
      path = str(ROOT / path)
    argv[place] = name + given + path + colon + variant
  return argv


def _fail(message: str) -> None:
  print(f'{os.path.basename(sys.argv[0])}: error: {message}', file=sys.stderr)
  _exit(2)


def _leave_if_lost(error: Exception) -> None:
  """Exits with code 75 if the error is that another process was lost."""
  from jowa_jax.train.preemption import EXIT_CODE, lost_another

  if lost_another(error):
    traceback.print_exception(error)
    print(
      '\nAnother process of the run was lost. Start all of them again: the run '
      'goes on from its last checkpoint.',
      file=sys.stderr,
    )
    _exit(EXIT_CODE)


def _others_wait() -> bool:
  """Whether other processes of the run wait for this one."""
  jax = sys.modules.get('jax')
  return bool(
    jax and jax.distributed.is_initialized() and jax.process_count() > 1
  )


def _exit(code: int) -> None:
  if _others_wait():
    # An orderly exit would wait for the others, which wait for this process.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
  sys.exit(code)
