"""Writes a checkpoint as its authors' program names and lays out weights.

python -m launch.export_checkpoint --checkpoint=runs/jowa \
  --output_tokenizer=tokenizer.pt --output_model=JOWA.pt
python -m launch.export_checkpoint --checkpoint=runs/mgdt \
  --output_model=mgdt.pkl

Of JOWA, files end in .pt (which needs torch), .safetensors or .npz; of MGDT, a
file that ends in .pkl is written. They must be new.
"""

import pathlib

from absl import flags

import jowa_jax
from jowa_jax.checkpoint import released, released_mgdt
from launch import common

_CHECKPOINT = common.define_path(
  'checkpoint', None, "Run directory, packed agent, or 'pretrained'."
)
_STEP = flags.DEFINE_integer('step', None, 'Which checkpoint; default latest.')
_TOKENIZER = common.define_path(
  'output_tokenizer', None, "File of JOWA's tokenizer."
)
_MODEL = common.define_path('output_model', None, 'File of the model.')


def main() -> None:
  pickled = pathlib.Path(_MODEL.value).suffix == '.pkl'
  if pickled == (_TOKENIZER.value is not None):
    raise ValueError(
      'Give --output_tokenizer and --output_model of JOWA, or --output_model='
      'FILE.pkl alone of MGDT'
    )
  agent = jowa_jax.load(_CHECKPOINT.value, _STEP.value)
  if pickled:
    released_mgdt.export_mgdt(agent.variables, agent.config, _MODEL.value)
  else:
    released.export_released(
      agent.variables, agent.config, _TOKENIZER.value, _MODEL.value
    )
  written = [name for name in (_MODEL.value, _TOKENIZER.value) if name]
  print(f'Step {agent.step}: {", ".join(written)}')


if __name__ == '__main__':
  flags.mark_flags_as_required(['checkpoint', 'output_model'])
  common.run(main)
