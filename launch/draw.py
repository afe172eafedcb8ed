"""Draws the architecture of a config, as an SVG for light and dark pages.

python -m launch.draw --config=configs/jowa.py:40m --output=architecture.svg
"""

from absl import flags

from jowa_jax import files
from jowa_jax.methods.jowa_picture import architecture
from launch import common

_CONFIG = common.define_config(
  None, 'Training config of JOWA, such as configs/jowa.py:40m.'
)
_OUTPUT = common.define_path('output', None, 'An .svg file.')


def main() -> None:
  files.write_text(_OUTPUT.value, architecture(_CONFIG.value.to_dict()))
  print(_OUTPUT.value)


if __name__ == '__main__':
  flags.mark_flags_as_required(['config', 'output'])
  common.run(main)
