"""Reads the recorded outputs of the authors' program, sizes included."""

import json
import os
import pathlib

import jax
import numpy as np
from flax import linen as nn

from jowa_jax.checkpoint import torch_names
from jowa_jax.methods import tokenizer as tokenizer_lib
from jowa_jax.models import world_action
from jowa_jax.models.backbone import BackboneConfig
from jowa_jax.models.heads import HeadSizes
from jowa_jax.models.vqvae import VQVAEConfig
from jowa_jax.models.world_action import ReturnConfig, WorldActionConfig
from jowa_jax.types import Segment

DIRECTORY = pathlib.Path(
  os.environ.get('JOWA_PARITY_DIR')
  or pathlib.Path(__file__).parent.parent / 'data' / 'parity'
)
# Of methods with Q-values; another folder, as its file names are its own.
Q_LEARNING = pathlib.Path(
  os.environ.get('JOWA_PARITY_QL_DIR')
  or pathlib.Path(__file__).parent.parent / 'data' / 'parity_ql'
)


def meta() -> dict:
  return json.loads((DIRECTORY / 'meta.json').read_text())


def load(
  name: str, directory: pathlib.Path = DIRECTORY
) -> dict[str, np.ndarray]:
  """Reads one fixture; a missing file is an error, never a skip."""
  with np.load(directory / f'{name}.npz') as data:
    return dict(data)


def variants() -> list[str]:
  """Returns the world-action models that were recorded."""
  return sorted(
    path.stem.removeprefix('world_action_')
    for path in DIRECTORY.glob('world_action_*.npz')
  )


def under(data: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
  """Returns the entries below `prefix/`, without it."""
  found = {
    key.removeprefix(f'{prefix}/'): value
    for key, value in data.items()
    if key.startswith(f'{prefix}/')
  }
  if not found:
    raise KeyError(f'the fixture has nothing under {prefix}/')
  return found


def model_config(weights: dict[str, np.ndarray], **kwargs):
  """Reads the sizes of a world-action model from its weights."""
  info = meta()
  vocab, width = weights['embedder.embedding_tables.1.weight'].shape
  layers = {
    name.split('.')[2]
    for name in weights
    if name.startswith('transformer.blocks.')
  }
  num_q, outputs, q_width = weights['head_q.head_module.params.8'].shape
  num_actions = weights['embedder.embedding_tables.0.weight'].shape[0]
  position_rows = weights['pos_emb.weight'].shape[0]
  tokens = info['tokens_per_block'] - 1
  return WorldActionConfig(
    backbone=BackboneConfig(
      num_layers=len(layers),
      width=width,
      num_heads=info['shape']['heads'],
      vocab_size=vocab,
      tokens_per_frame=tokens,
      max_blocks=position_rows // (tokens + 1),
      num_actions=num_actions,
      dropout=0.0,
      attention_dropout=0.0,
      task_embedding='task_emb.embedding_tables.0.weight' in weights,
      **kwargs,
    ),
    heads=HeadSizes(num_heads=num_q, width=q_width, dropout=0.0),
    returns=ReturnConfig(
      num_atoms=outputs // num_actions,
      v_min=info['vmin'],
      v_max=info['vmax'],
      gamma=info['gamma'],
    ),
  )


def model_params(config: WorldActionConfig, tensors, targets: bool = True):
  """Returns our parameter tree filled with tensors of released names."""
  template = jax.eval_shape(
    lambda key: nn.meta.unbox(world_action.init(config, key)),
    jax.random.key(0),
  )
  if targets:
    template['target_q_heads'] = template['q_heads']
  else:
    tensors = {k: v for k, v in tensors.items() if 'head_q_target.' not in k}
  return torch_names.from_released(tensors, template)


def tokenizer_config(weights) -> VQVAEConfig:
  """Reads the sizes of a tokenizer from its weights."""
  vocab, embedding = weights['embedding.weight'].shape
  latent, channels = weights['encoder.conv_out.weight'].shape[:2]
  blocks = {
    name.split('.')[4]
    for name in weights
    if name.startswith('encoder.down.0.block.')
  }
  downsample = tuple(
    weights[f'encoder.down.{i}.downsample.conv.weight'].shape[-1] - 1
    for i in (0, 1)
  )
  return VQVAEConfig(
    channels=channels,
    res_blocks=len(blocks),
    downsample=downsample,
    latent_channels=latent,
    vocab_size=vocab,
    embedding_dim=embedding,
  )


def tokenizer_params(config: VQVAEConfig, tensors):
  template = jax.eval_shape(
    lambda key: nn.meta.unbox(tokenizer_lib.init(config, key)),
    jax.random.key(0),
  )
  filled = torch_names.from_released(tensors, {'tokenizer': template})
  return filled['tokenizer']


def segment(batch: dict[str, np.ndarray]) -> tuple[np.ndarray, Segment]:
  """Returns (tokens [B, T, K], the segments)."""
  count, length = batch['actions'].shape
  return batch['observations'].astype(np.int32), Segment(
    observations=np.zeros((count, length, 1, 1), np.uint8),
    actions=batch['actions'].astype(np.int32),
    rewards=batch['rewards'].astype(np.float32),
    ends=batch['ends'].astype(bool),
    mask=batch['mask_padding'].astype(bool),
    task=batch['envs'].astype(np.int32),
    imagined=np.zeros(count, bool),
  )


# What float32 rounding leaves of a gradient that is zero in exact arithmetic,
# such as that of attention keys' biases.
ROUNDING = 1e-7


def assert_close(ours, theirs, tolerance=1e-4, name=''):
  """Largest difference at most `tolerance`."""
  ours, theirs = np.asarray(ours), np.asarray(theirs)
  assert ours.shape == theirs.shape, (name, ours.shape, theirs.shape)
  difference = np.abs(ours - theirs).max()
  assert difference <= tolerance, f'{name}: differs by {difference}'


def assert_gradients_close(ours, theirs, tolerance=1e-4):
  """Every tensor's largest difference, relative to its largest entry."""

  def check(path, a, b):
    scale = np.abs(np.asarray(b)).max()
    assert_close(
      a, b, max(tolerance * scale, ROUNDING), jax.tree_util.keystr(path)
    )

  jax.tree_util.tree_map_with_path(check, ours, theirs)


def check_model_outputs(data, config: WorldActionConfig, params) -> None:
  """Compares all outputs of a world-action model with those recorded.

  Args:
    data: the fixture.
    config: of the model.
    params: with `target_q_heads`.
  """
  block = config.backbone.block_size
  ids = data['tokens'].reshape(data['tokens'].shape[0], -1, block)
  hidden = world_action.hidden_states(
    config.backbone,
    params['backbone'],
    ids[..., :-1],
    ids[..., -1],
    data['tasks'],
  )
  assert_close(hidden, data['out/hidden'])
  logits = world_action.world_logits(
    config.backbone, params['world_heads'], hidden
  )
  observations = logits.observations
  assert_close(
    observations.reshape(observations.shape[0], -1, observations.shape[-1]),
    data['out/logits_observations'],
  )
  assert_close(logits.rewards, data['out/logits_rewards'])
  assert_close(logits.ends, data['out/logits_ends'])
  read = world_action.at_last_observation(config.backbone, hidden)
  for name, key in (('q_heads', 'q'), ('target_q_heads', 'q_target')):
    q = world_action.ensemble_logits(config.q_heads, params[name], read)
    assert_close(q, data[f'out/logits_{key}'])


def _channels_last(x):
  """[B, T, D, G, G] -> [B * T, G * G, D]."""
  x = x.reshape(-1, x.shape[2], x.shape[3] * x.shape[4])
  return x.swapaxes(1, 2)


def check_tokenizer_outputs(data, config: VQVAEConfig, params) -> None:
  """Compares all outputs of a tokenizer with those recorded."""
  frames = data['observations_uint8']
  _, out = jax.jit(tokenizer_lib.tokenizer_losses, static_argnums=0)(
    config, params, frames.reshape(-1, *frames.shape[-2:])
  )
  assert_close(out['latents'], _channels_last(data['z']))
  np.testing.assert_array_equal(
    out['tokens'], data['tokens'].reshape(out['tokens'].shape)
  )
  assert_close(
    params['codebook'][np.asarray(out['tokens'])],
    _channels_last(data['z_quantized']),
  )
  raw = data['reconstruction_raw']
  assert_close(out['reconstruction'], raw.reshape(-1, *raw.shape[-2:]))
