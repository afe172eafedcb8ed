"""A process that has imported what launch scripts import, and forks for each.

Importing takes nine tenths of the time of a command that is refused. `Server`
is what tests hold; run as a script, this is the process. It reads a list of
arguments, an environment and a folder, JSON, from every line of its input, runs
the script in a fork of itself, and answers with a line of JSON: exit status,
output and errors.
"""

import contextlib
import json
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile
import traceback

ROOT = pathlib.Path(__file__).parents[2]


class Server:
  """Starts the process with the first script, and ends it with the context."""

  def __init__(self):
    self._process = None

  def __enter__(self):
    return self

  def __exit__(self, *error):
    if self._process:
      self._process.stdin.close()
      self._process.wait()

  def launch(
    self, script, *flags, devices=1, cwd=ROOT
  ) -> subprocess.CompletedProcess:
    """The script as `python -m launch.SCRIPT FLAGS` runs it, in a folder.

    It sees so many CPU devices, and compiles with little optimisation. A name
    with a dot is that of any other module.
    """
    # Imports JAX, which the process itself does when it is asked to.
    from tests.train import helpers

    if self._process is None:
      self._process = subprocess.Popen(
        [sys.executable, '-m', 'tests.launch.server'],
        cwd=ROOT,
        env=helpers.script_env(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
      )
    module = script if '.' in script else f'launch.{script}'
    argv = [module, *map(str, flags)]
    environment = {'XLA_FLAGS': helpers.script_env(devices)['XLA_FLAGS']}
    self._process.stdin.write(json.dumps([argv, environment, str(cwd)]) + '\n')
    self._process.stdin.flush()
    code, output, errors = json.loads(self._process.stdout.readline())
    return subprocess.CompletedProcess(argv, code, output, errors)


def _import():
  """What the scripts import, but not the scripts: these define flags."""
  import flax  # noqa: F401
  import jax  # noqa: F401
  import optax  # noqa: F401
  import orbax.checkpoint  # noqa: F401
  import tensorflow_datasets  # noqa: F401

  import jowa_jax.collect.collect
  import jowa_jax.data.prepare.prepare
  import jowa_jax.eval.evaluation
  import jowa_jax.recipes.quickstart.plan
  import jowa_jax.report.html
  import jowa_jax.train.run  # noqa: F401


def _child(argv: list[str], output: int, errors: int) -> int:
  """Runs a script as `python -m` does; returns its exit status."""
  os.dup2(output, 1)
  os.dup2(errors, 2)
  sys.argv = argv
  printed = open(1, 'w', closefd=False)
  try:
    with contextlib.redirect_stdout(printed):
      runpy.run_module(argv[0], run_name='__main__', alter_sys=True)
  except SystemExit as error:
    if isinstance(error.code, str):
      print(error.code, file=sys.stderr)
      return 1
    return error.code or 0
  except BaseException:
    traceback.print_exc()
    return 1
  finally:
    # Nothing else does: the process ends without clearing up.
    printed.flush()
    sys.stderr.flush()
  return 0


def main():
  _import()
  answers = os.fdopen(os.dup(1), 'w')
  for line in sys.stdin:
    argv, environment, folder = json.loads(line)
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
      child = os.fork()
      if not child:
        os.environ.update(environment)
        os.chdir(folder)
        os._exit(_child(argv, output.fileno(), errors.fileno()))
      _, status = os.waitpid(child, 0)
      texts = []
      for file in (output, errors):
        file.seek(0)
        texts.append(file.read().decode())
    code = os.waitstatus_to_exitcode(status)
    print(json.dumps([code, *texts]), file=answers, flush=True)


if __name__ == '__main__':
  main()
