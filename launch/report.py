"""Writes the page about a run: python -m launch.report --workdir=..."""

from absl import flags

from jowa_jax.report import write_report
from launch import common

_WORKDIR = flags.DEFINE_string('workdir', None, 'What the run left behind.')
_OUTPUT = flags.DEFINE_string(
  'output', None, 'The page; <workdir>/report/index.html by default.'
)


def main() -> None:
  print(write_report(_WORKDIR.value, _OUTPUT.value))


if __name__ == '__main__':
  flags.mark_flag_as_required('workdir')
  common.run(main)
