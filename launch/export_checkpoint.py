"""Writes a JOWA checkpoint as the authors' program names and lays out weights.

python -m launch.export_checkpoint --checkpoint=runs/jowa \
  --output_tokenizer=tokenizer.pt --output_model=JOWA.pt

Files end in .pt (which needs torch), .safetensors or .npz, and must be new.
"""

from absl import flags

import jowa_jax
from jowa_jax.checkpoint import released
from launch import common

_CHECKPOINT = common.define_path(
  'checkpoint', None, "Run directory, packed agent, or 'pretrained'."
)
_STEP = flags.DEFINE_integer('step', None, 'Which checkpoint; default latest.')
_TOKENIZER = common.define_path('output_tokenizer', None, 'Its file.')
_MODEL = common.define_path('output_model', None, "The world-action model's.")


def main() -> None:
  agent = jowa_jax.load(_CHECKPOINT.value, _STEP.value)
  released.export_released(
    agent.variables, agent.config, _TOKENIZER.value, _MODEL.value
  )
  print(f'Step {agent.step}: {_MODEL.value}, {_TOKENIZER.value}')


if __name__ == '__main__':
  flags.mark_flags_as_required(
    ['checkpoint', 'output_tokenizer', 'output_model']
  )
  common.run(main)
