"""The released files' names and shapes, written down by hand, and states.

Linear layers are (out, in), convolutions (out, in, height, width).
"""

import numpy as np

PREFIXES = ('module.', '_orig_mod.', '_orig_mod.module.')
# Arguments of `model_shapes`, and what the models have in all.
PUBLISHED = {
  '40m': dict(layers=4, width=512, num_q=1, q_width=768),
  '70m': dict(layers=6, width=768, num_q=1, q_width=1024),
  '150m': dict(layers=12, width=768, num_q=3, q_width=1792),
}
PARAMETERS = {'40m': 17_416_091, '70m': 50_567_579, '150m': 109_045_447}
Q_PARAMETERS = {'40m': 1_693_590, '70m': 2_782_102, '150m': 18_732_738}
TOKENIZER_PARAMETERS = 4_047_489

SMALL_TOKENIZER = dict(channels=8, res_blocks=1, latent=12, vocab=32, dim=8)
SMALL_MODEL = dict(layers=2, width=16, num_q=3, q_width=24, vocab=32)
SMALL_HEADS = 2


def _linear(name, outputs, inputs):
  return {f'{name}.weight': (outputs, inputs), f'{name}.bias': (outputs,)}


def _conv(name, outputs, inputs, side):
  shape = (outputs, inputs, side, side)
  return {f'{name}.weight': shape, f'{name}.bias': (outputs,)}


def _norm(name, width):
  return {f'{name}.weight': (width,), f'{name}.bias': (width,)}


def model_shapes(
  layers, width, num_q, q_width, vocab=2048, outputs=918, tasks=True
):
  """Returns the shapes of the world-action model's tensors."""
  shapes = {
    'pos_emb.weight': (296, width),
    'embedder.embedding_tables.0.weight': (18, width),
    'embedder.embedding_tables.1.weight': (vocab, width),
    **_norm('transformer.ln_f', width),
  }
  if tasks:
    shapes['task_emb.embedding_tables.0.weight'] = (60, width)
    shapes['task_emb.embedding_tables.1.weight'] = (60, width)
  for i in range(layers):
    block = f'transformer.blocks.{i}'
    shapes |= _norm(f'{block}.ln1', width) | _norm(f'{block}.ln2', width)
    for name in ('key', 'query', 'value', 'proj'):
      shapes |= _linear(f'{block}.attn.{name}', width, width)
    shapes |= _linear(f'{block}.mlp.0', 4 * width, width)
    shapes |= _linear(f'{block}.mlp.2', width, 4 * width)
  for name, count in (('observations', vocab), ('rewards', 3), ('ends', 2)):
    shapes |= _linear(f'head_{name}.head_module.0', width, width)
    shapes |= _linear(f'head_{name}.head_module.2', count, width)
  for name in ('head_q', 'head_q_target'):
    hidden = [(num_q, q_width)] * 3
    kinds = [
      *((num_q, q_width, width), *hidden),
      *((num_q, q_width, q_width), *hidden),
      *((num_q, outputs, q_width), (num_q, outputs)),
    ]
    for i, shape in enumerate(kinds):
      shapes[f'{name}.head_module.params.{i}'] = shape
  return shapes


def _res_block(name, width):
  return {
    **_norm(f'{name}.norm1', width),
    **_conv(f'{name}.conv1', width, width, 3),
    **_norm(f'{name}.norm2', width),
    **_conv(f'{name}.conv2', width, width, 3),
  }


def _attention(name, width):
  shapes = _norm(f'{name}.norm', width)
  for layer in ('q', 'k', 'v', 'proj_out'):
    shapes |= _conv(f'{name}.{layer}', width, width, 1)
  return shapes


def tokenizer_shapes(
  channels=64, res_blocks=2, latent=512, vocab=2048, dim=512
):
  """Returns the shapes of the tokenizer's tensors."""
  shapes = {
    **_conv('encoder.conv_in', channels, 1, 3),
    **_conv('encoder.down.0.downsample.conv', channels, channels, 8),
    **_conv('encoder.down.1.downsample.conv', channels, channels, 3),
    **_conv('encoder.conv_out', latent, channels, 3),
    **_conv('pre_quant_conv', dim, latent, 1),
    'embedding.weight': (vocab, dim),
    **_conv('post_quant_conv', latent, dim, 1),
    **_conv('decoder.conv_in', channels, latent, 3),
    **_conv('decoder.up.1.upsample.conv', channels, channels, 3),
    **_conv('decoder.up.2.upsample.conv', channels, channels, 3),
    **_conv('decoder.conv_out', 1, channels, 3),
  }
  for side in ('encoder', 'decoder'):
    shapes |= _norm(f'{side}.norm_out', channels)
    shapes |= _res_block(f'{side}.mid.block_1', channels)
    shapes |= _attention(f'{side}.mid.attn_1', channels)
    shapes |= _res_block(f'{side}.mid.block_2', channels)
  for level in range(3):
    for i in range(res_blocks):
      shapes |= _res_block(f'encoder.down.{level}.block.{i}', channels)
      if level:
        shapes |= _attention(f'encoder.down.{level}.attn.{i}', channels)
    for i in range(res_blocks + 1):
      shapes |= _res_block(f'decoder.up.{level}.block.{i}', channels)
  return shapes


def random_state(shapes, seed=0):
  """Returns float32 arrays of these shapes."""
  rng = np.random.default_rng(seed)
  return {
    name: np.float32(0.05) * rng.standard_normal(shape, np.float32)
    for name, shape in shapes.items()
  }


def small_states():
  """Returns a tokenizer and a model that make an agent of a few parameters."""
  return (
    random_state(tokenizer_shapes(**SMALL_TOKENIZER), 1),
    random_state(model_shapes(**SMALL_MODEL), 2),
  )


def wrapped(state, prefix):
  """Returns a state as wrappers name it, with buffers that may be ignored."""
  state = {
    **state,
    'transformer.blocks.0.attn.mask': np.ones((296, 296), np.float32),
    'embedder.slicers.0.indices': np.arange(8),
  }
  return {f'{prefix}{name}': value for name, value in state.items()}
