"""Writes the page about a run: python -m launch.report --workdir=..."""

import sys

from absl import app, flags

from jowa_jax.report import write_report

_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'What the run left behind.', required=True
)
_OUTPUT = flags.DEFINE_string(
  'output', None, 'The page; <workdir>/report/index.html by default.'
)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'Unexpected arguments: {argv[1:]}')
  try:
    page = write_report(_WORKDIR.value, _OUTPUT.value)
  except (FileNotFoundError, ValueError) as error:
    sys.exit(f'launch.report: {error}')
  print(page)


if __name__ == '__main__':
  app.run(main)
