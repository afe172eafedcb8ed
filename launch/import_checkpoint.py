"""Makes a run's directory of the authors' released PyTorch files.

python -m launch.import_checkpoint --tokenizer=tokenizer.pt \
  --model=JOWA_150M.pt --output=runs/jowa_150m

Sizes are read from the tensors. .npz and .safetensors files with the same
names will do as well, and need no torch.
"""

from absl import flags

from configs import jowa
from jowa_jax.checkpoint import released, released_sizes
from launch import common

_TOKENIZER = common.define_path('tokenizer', None, 'File of the tokenizer.')
_MODEL = common.define_path('model', None, 'File of the world-action model.')
_OUTPUT = common.define_path('output', None, 'Directory; must be new.')
_HEADS = flags.DEFINE_integer(
  'num_heads', None, "Of attention; published sizes' by default."
)
_DTYPE = flags.DEFINE_enum(
  'dtype', 'bfloat16', ['bfloat16', 'float32'], 'Of computation.'
)


def main() -> None:
  config = jowa.get_config().copy_and_resolve_references().to_dict()
  config = released.import_released(
    _TOKENIZER.value,
    _MODEL.value,
    _OUTPUT.value,
    released_sizes.with_dtype(config, _DTYPE.value),
    _HEADS.value,
  )
  print(f'{released_sizes.describe(config)}: {_OUTPUT.value}')


if __name__ == '__main__':
  flags.mark_flags_as_required(['tokenizer', 'model', 'output'])
  common.run(main)
