"""Run by test_sharding in a process with eight virtual devices.

Usage: eight_devices.py <data directory> <compilation cache> [all]

Prints one line of JSON. `all` also trains the tokenizer, and with the model's
axis sharded.
"""

import json
import logging
import sys

import jax
import numpy as np

from jowa_jax.configuration import build
from jowa_jax.data.training import DataConfig, TrainingData
from jowa_jax.models import vqvae
from jowa_jax.train import encoding, sharding, step
from jowa_jax.train.run import Run
from jowa_jax.types import TimeStep
from tests.train import helpers

RULES = {'mlp': 'model', 'atoms': 'model', 'classes': 'model'}


def config_of(data_dir, tokenizer):
  """All parts in one stage: one compilation covers the steps."""
  config = helpers.comparable_config(
    data_dir, run__batch_size=8, tokenizer_training__frames_per_step=64
  )
  if tokenizer:
    stage = config['stages']['stage2']
    stage['tokenizer'] = config['stages']['stage1']['tokenizer']
    stage['parts'] = ('tokenizer', 'world_action')
  return config


def train(config, batches, mesh, rules):
  """Takes a step per batch; returns the steps' metrics and the parameters."""
  method, stage, state, places, mesh = helpers.begin(
    config, 'stage2', mesh, rules
  )
  take = step.compile_step(method, stage, 0, 0, mesh, places)
  place, losses = sharding.batch_sharding(mesh), []
  for batch in batches:
    state, metrics = take(state, jax.device_put(batch, place))
    losses.append({name: float(value) for name, value in metrics.items()})
  return losses, helpers.flat(state.variables.params)


def largest_difference(ours, theirs):
  """Over all arrays, relative to each array's largest entry."""
  return max(
    float(np.abs(ours[k] - theirs[k]).max() / np.abs(theirs[k]).max())
    for k in theirs
  )


def specs(tree):
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {
    jax.tree_util.keystr(path): list(leaf.sharding.spec)
    for path, leaf in leaves
  }


def error(fn):
  try:
    fn()
  except ValueError as raised:
    return [type(raised).__name__, str(raised)]
  return None


def compare(config, batches, mesh, rules, losses, params):
  others, values = train(config, batches, mesh, rules)
  return {
    'params': largest_difference(values, params),
    'metrics': max(
      abs(other[k] - one[k]) / max(abs(one[k]), 1e-3)
      for other, one in zip(others, losses, strict=True)
      for k in one
    ),
  }


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
  alone = jax.jit(method.encoder.encode)(variables, frames)
  return {
    'batch_size': size,
    'tokenizer': tokenizer,
    'distinct': len(np.unique(alone)),
    'same': bool((np.concatenate(tokens) == np.asarray(alone)).all()),
  }


def plan(config, mesh):
  """Decides for eight environments, on one device and on all of them."""
  method, _, state, _, _ = helpers.begin(config, 'stage2', mesh, {})
  policy = method.policy(planner='beam', horizon=1, epsilon=0.0)
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
        variables, context, jax.device_put(shown, place), jax.random.key(0)
      )
    found.append((actions, context, info))
  one, all_devices = found
  return {
    'spec': list(all_devices[1].tokens.sharding.spec),
    'devices': len(all_devices[0].sharding.device_set),
    'same_actions': bool((one[0] == np.asarray(all_devices[0])).all()),
    'scores': float(
      np.abs(one[2]['plan'].scores - np.asarray(all_devices[2]['plan'].scores))
      .max()
      .item()
    ),
  }


def main(data_dir, cache, also=None):
  config = config_of(data_dir, tokenizer=also == 'all')
  data = TrainingData(DataConfig(data_dir, helpers.GAMES), 2, 8, seed=0)
  batches = list(data.batches(0, 3, put=lambda batch: batch))
  with helpers.quick_compilation(cache):
    one = sharding.make_mesh({'data': 1}, jax.devices()[:1])
    losses, params = train(config, batches, one, {})
    found = {'devices': len(jax.devices()), 'steps': len(losses)}
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)
    for name, axes, rules in (
      ('data', {'data': -1}, {}),
      ('model', {'data': -1, 'model': 2}, RULES),
    ):
      mesh = sharding.make_mesh(axes)
      state = helpers.begin(config, 'stage2', mesh, rules)[2]
      found[name] = {
        'mesh': dict(mesh.shape),
        'specs': specs(state.variables.params),
        'moments': specs(state.opt_state),
      }
      if name == 'data' or also == 'all':
        found[name] |= compare(config, batches, mesh, rules, losses, params)
    frames = np.concatenate([batch.observations for batch in batches])
    frames = np.tile(frames.reshape(-1, 84, 84), (50, 1, 1))[:2048]
    found['encoding'] = encode(config, frames, mesh)
    found['plan'] = plan(config, mesh)
  found['log'] = messages
  found['batch_error'] = error(
    lambda: Run({**config, 'run': {**config['run'], 'batch_size': 4}}, 'none')
  )
  print(json.dumps(found))


if __name__ == '__main__':
  main(*sys.argv[1:])
