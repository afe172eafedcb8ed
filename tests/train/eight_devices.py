"""Run by test_eight_devices in a process with eight virtual devices.

Usage: eight_devices.py <data> <compilation cache> <directory> [all]

Prints one line of JSON, and leaves a checkpoint in the directory. `all` trains
every stage of every method on every mesh, for longer.
"""

import json
import logging
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np

from jowa_jax.checkpoint.manager import Checkpoints
from jowa_jax.configuration import build
from jowa_jax.data.feed.training import DataConfig, TrainingData
from jowa_jax.methods.base import BatchSpec
from jowa_jax.models import vqvae
from jowa_jax.train import encoding, sharding, step
from jowa_jax.train.run import Run
from jowa_jax.types import TimeStep
from tests.train import helpers

MESHES = ((8, 1, 1), (2, 2, 2), (1, 8, 1), (2, 1, 4))
STAGES = (('jowa', 'stage2'), ('jowa', 'stage1'), ('mtbc', 'stage2'))


def config_of(data_dir, method):
  return helpers.comparable_config(
    data_dir,
    method,
    run__batch_size=8,
    tokenizer_training__frames_per_step=64,
  )


def train(config, stage_name, batches, mesh):
  """Takes a step per batch.

  Returns:
    The steps' metrics, the parameters, and the bytes that a device holds of
    all variables and moments over those of all of them.
  """
  method, stage, state, places, mesh = helpers.begin(
    config, stage_name, mesh, config['mesh']['rules']
  )
  held = helpers.bytes_per_device((state.variables, state.opt_state))
  take = step.compile_step(method, stage, 0, 0, mesh, places)
  place, losses = sharding.batch_sharding(mesh), []
  for batch in batches:
    state, metrics = take(state, jax.device_put(batch, place))
    losses.append({name: float(value) for name, value in metrics.items()})
  return losses, helpers.flat(state.variables.params), held


def largest_difference(ours, theirs):
  """Over all arrays, relative to each array's largest entry."""
  return max(
    float(np.abs(ours[k] - theirs[k]).max() / np.abs(theirs[k]).max())
    for k in theirs
  )


def specs(tree):
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {
    jax.tree_util.keystr(path): str(tuple(leaf.sharding.spec))
    for path, leaf in leaves
  }


def error(fn):
  try:
    fn()
  except ValueError as raised:
    return [type(raised).__name__, str(raised)]
  return None


def compare(config, stage, batches, meshes):
  """Returns how far training on each mesh is from training on one device."""
  one = sharding.make_mesh(
    {'data': 1, 'fsdp': 1, 'tensor': 1}, jax.devices()[:1]
  )
  losses, params, _ = train(config, stage, batches, one)
  found = {'losses': [losses[0], losses[-1]]}
  for axes in meshes:
    mesh = make_mesh(axes)
    others, values, held = train(config, stage, batches, mesh)
    found[str(axes)] = {
      'bytes': held,
      'params': largest_difference(values, params),
      'metrics': {
        name: max(
          abs(other[name] - one[name]) / max(abs(one[name]), 1e-3)
          for other, one in zip(others, losses, strict=True)
        )
        for name in losses[0]
      },
    }
  return found


def make_mesh(axes):
  devices = jax.devices()[: math.prod(axes)]
  return sharding.make_mesh(
    dict(zip(('data', 'fsdp', 'tensor'), axes, strict=True)), devices
  )


def restore_elsewhere(config, directory):
  """Saves in eighths; returns on which meshes the same comes back."""

  def begin(axes):
    return helpers.begin(
      config, 'stage2', make_mesh(axes), config['mesh']['rules']
    )[2:4]

  checkpoints = Checkpoints(directory)
  saved, _ = begin((1, 4, 2))
  checkpoints.save(
    1, saved.variables, saved.opt_state, {'step': 1, 'config': config}
  )
  checkpoints.wait()
  found = {}
  for axes in ((1, 1, 1), (4, 1, 1), (2, 2, 2)):
    blank, places = begin(axes)
    blank = jax.tree.map(jnp.zeros_like, blank)
    variables = checkpoints.restore_variables(blank.variables, places.variables)
    opt_state = checkpoints.restore_opt_state(blank.opt_state, places.opt_state)
    pairs = zip(
      jax.tree.leaves((variables, opt_state)),
      jax.tree.leaves((saved.variables, saved.opt_state)),
      jax.tree.leaves((places.variables, places.opt_state)),
      strict=True,
    )
    found[str(axes)] = all(
      bool((np.asarray(ours) == np.asarray(theirs)).all())
      and ours.sharding == place
      for ours, theirs, place in pairs
    )
  checkpoints.close()
  return found


def encode(config, frames, mesh):
  """Returns the tokens, and how many frames are encoded at a time."""
  method, _, state, _, _ = helpers.begin(config, 'stage2', mesh, {})
  variables = state.variables
  params = variables.params['tokenizer']
  # Codes among what there is to encode, so that frames differ in tokens.
  model = vqvae.VQVAE(build(vqvae.VQVAEConfig, config['tokenizer'], ''))
  latents = jax.jit(lambda p, x: model.apply(p, x, method='latents'))(
    {'params': params}, frames[:: len(frames) // 64]
  )
  codes = latents.reshape(-1, latents.shape[-1])[: len(params['codebook'])]
  codebook = params['codebook'].at[: len(codes)].set(codes)
  params = {**params, 'codebook': codebook}
  variables = variables.replace(
    params={**variables.params, 'tokenizer': params}
  )
  run, tokenizer, size = encoding.frozen_encoder(method, variables)
  tokens = [run(frames[i : i + size]) for i in range(0, len(frames), size)]
  alone = jax.jit(method.tokenizer.encode)(variables, frames)
  return {
    'batch_size': size,
    'tokenizer': tokenizer,
    'distinct': len(np.unique(alone)),
    'same': bool((np.concatenate(tokens) == np.asarray(alone)).all()),
  }


def plan(config, mesh):
  """Decides for eight environments, on one device and on all of them."""
  method, _, state, _, _ = helpers.begin(config, 'stage2', mesh, {})
  policy = method.policy(
    planner='beam', horizon=1, epsilon=0.0, decoder='parallel'
  )
  tasks = np.arange(8, dtype=np.int32)
  found = []
  for devices in (mesh.devices.reshape(-1)[:1], mesh.devices.reshape(-1)):
    small = sharding.make_mesh({'data': -1}, list(devices))
    place = sharding.batch_sharding(small)
    variables = jax.device_put(state.variables, sharding.replicated(small))
    context = jax.device_put(policy.init(tasks), place)
    rng = np.random.default_rng(0)
    for time in range(2):
      frames = rng.integers(0, 256, (8, 84, 84)).astype(np.uint8)
      shown = TimeStep(frames=frames, first=np.full(8, time == 0))
      actions, context, info = policy.act(
        variables,
        context,
        jax.device_put(shown, place),
        jax.random.split(jax.random.key(0), 8),
      )
    found.append((actions, context, info))
  one, all_devices = found
  return {
    'spec': list(all_devices[1].seen.sharding.spec),
    'devices': len(all_devices[0].sharding.device_set),
    'same_actions': bool((one[0] == np.asarray(all_devices[0])).all()),
    'scores': float(
      np.abs(one[2]['plan'].scores - np.asarray(all_devices[2]['plan'].scores))
      .max()
      .item()
    ),
  }


def main(data_dir, cache, directory, also=None):
  config = config_of(data_dir, 'jowa')
  data = TrainingData(
    DataConfig(data_dir, helpers.GAMES), BatchSpec(2), 8, seed=0
  )
  steps = 20 if also == 'all' else 3
  batches = list(data.batches(0, steps, put=lambda batch: batch))
  found = {'devices': len(jax.devices()), 'steps': steps}
  with helpers.quick_compilation(cache):
    if also == 'all':
      for method, stage in STAGES:
        found[f'{method} {stage}'] = compare(
          config_of(data_dir, method), stage, batches, MESHES
        )
    else:
      found['jowa stage2'] = compare(config, 'stage2', batches, MESHES[1:2])
      found |= layouts(config, batches, directory)
  found['batch_error'] = error(
    lambda: Run({**config, 'run': {**config['run'], 'batch_size': 4}}, 'none')
  )
  print(json.dumps(found))


def layouts(config, batches, directory):
  """Where parameters and moments live, and what acts on all devices."""
  messages = []
  handler = logging.Handler()
  handler.emit = lambda record: messages.append(record.getMessage())
  logging.getLogger().addHandler(handler)
  logging.getLogger().setLevel(logging.INFO)
  state = helpers.begin(
    config, 'stage2', make_mesh((1, 2, 4)), config['mesh']['rules']
  )[2]
  mesh = sharding.make_mesh({'data': -1})
  frames = np.concatenate([batch.observations for batch in batches])
  frames = np.tile(frames.reshape(-1, 84, 84), (25, 1, 1))[:1024]
  return {
    'params': specs(state.variables.params),
    'targets': specs(state.variables.targets),
    'moments': specs(state.opt_state),
    'encoding': encode(config, frames, mesh),
    'plan': plan(config, mesh),
    'restored': restore_elsewhere(config, directory),
    'log': messages,
  }


if __name__ == '__main__':
  main(*sys.argv[1:])
