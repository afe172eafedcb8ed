"""Makes a run's directory of the authors' released files.

python -m launch.import_checkpoint --tokenizer=tokenizer.pt \
  --model=JOWA_150M.pt --output=runs/jowa_150m
python -m launch.import_checkpoint --method=mgdt \
  --model=checkpoint_38274228.pkl --output=runs/mgdt_200m

Sizes are read from the tensors. JOWA's may also be .npz and .safetensors files
with the same names, which need no torch; MGDT's is a pickle of arrays, of which
nothing is run.
"""

from absl import flags

from configs import jowa, mgdt
from jowa_jax.checkpoint import released, released_mgdt, released_sizes
from launch import common

_METHOD = flags.DEFINE_enum('method', 'jowa', ['jowa', 'mgdt'], 'Whose files.')
_TOKENIZER = common.define_path('tokenizer', None, 'File of the tokenizer.')
_MODEL = common.define_path('model', None, 'File of the model.')
_OUTPUT = common.define_path('output', None, 'Directory; must be new.')
_HEADS = flags.DEFINE_integer(
  'num_heads', None, "Of attention; published sizes' by default."
)
_DTYPE = flags.DEFINE_enum(
  'dtype', 'bfloat16', ['bfloat16', 'float32'], 'Of computation.'
)


def main() -> None:
  if (_METHOD.value == 'jowa') != (_TOKENIZER.value is not None):
    raise ValueError(
      '--tokenizer goes with --method=jowa, and with it alone: MGDT has none'
    )
  # Each with the paper's values of what no tensor tells.
  config = {'jowa': jowa, 'mgdt': mgdt}[_METHOD.value].get_config()
  config = config.copy_and_resolve_references().to_dict()
  if _METHOD.value == 'mgdt':
    config = released_mgdt.import_mgdt(
      _MODEL.value,
      _OUTPUT.value,
      released_mgdt.with_dtype(config, _DTYPE.value),
      _HEADS.value,
    )
    words = released_mgdt.describe(config)
  else:
    config = released.import_released(
      _TOKENIZER.value,
      _MODEL.value,
      _OUTPUT.value,
      released_sizes.with_dtype(config, _DTYPE.value),
      _HEADS.value,
    )
    words = released_sizes.describe(config)
  print(f'{words}: {_OUTPUT.value}')


if __name__ == '__main__':
  flags.mark_flags_as_required(['model', 'output'])
  common.run(main)
