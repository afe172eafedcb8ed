"""Packs a checkpoint into one small file that acts and can be fine-tuned.

python -m launch.pack --checkpoint=runs/jowa --output=agent.safetensors

Weights become float16. Every --checkpoint of the other scripts takes the file.
"""

from absl import flags

from jowa_jax.agent import pack
from launch import common

_CHECKPOINT = common.define_path('checkpoint', None, 'Run directory.')
_STEP = flags.DEFINE_integer('step', None, 'Which checkpoint; default latest.')
_OUTPUT = common.define_path('output', None, 'A .safetensors file.')


def main() -> None:
  size = pack(_CHECKPOINT.value, _OUTPUT.value, _STEP.value)
  print(f'{_OUTPUT.value}: {size / 1e6:.2f} MB')


if __name__ == '__main__':
  flags.mark_flags_as_required(['checkpoint', 'output'])
  common.run(main)
