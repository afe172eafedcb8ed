"""Layers that follow each other have the same gradients on any mesh.

Slow: a process with eight virtual devices.
"""

import json
import subprocess
import sys

import pytest

from tests.train import helpers

CODE = """
import json
import jax, numpy as np
from flax import linen as nn
from jax.sharding import NamedSharding, PartitionSpec
from jowa_jax.mesh_rules import RULES
from jowa_jax.models import ficc, ficc_blocks, heads, q_network
from jowa_jax.train import sharding


class QNetwork(nn.Module):

  @nn.compact
  def __call__(self, x):
    config = q_network.QNetworkConfig(mlp_width=16)
    x = q_network.Mlp(config, 'float32')(x)
    games = np.zeros(len(x), np.int32)
    return q_network.Heads(config, 2, 'float32')(x, games)


network = ficc.FiccNetwork(channels=8, head_width=16)
states = np.random.default_rng(0).normal(size=(2, 2, 8, 6, 6, 8))
before, after = states.astype(np.float32)
rows = after.reshape(2, 8, -1)[..., :16]
modules = {
  'inverse': (ficc.Inverse(network), (before, after, True)),
  'head': (ficc.QHead(network, 918), (before,)),
  'perceptron': (
    ficc_blocks.Perceptron(network.layers, (16, 16, 16), True, True),
    (rows, True),
  ),
  'q_network': (QNetwork(), (rows[0],)),
  'ensemble': (
    heads.EnsembleHeads(heads.HeadSizes(num_heads=2, width=16), 18),
    (rows,),
  ),
}
found = {}
for name, (module, given) in modules.items():
  boxed = module.init(jax.random.key(0), *given)
  variables = nn.meta.unbox(boxed)
  weights = np.random.default_rng(1).normal(
    size=module.apply(variables, *given).shape
  )
  arrays = [each for each in given if each is not True]

  def loss(variables, *arrays):
    more = given[len(arrays):]
    return (module.apply(variables, *arrays, *more) * weights).sum()

  by_mesh = []
  for axes in ((1, 1, 1), (2, 2, 2)):
    sizes = dict(zip(('data', 'fsdp', 'tensor'), axes))
    mesh = sharding.make_mesh(sizes, jax.devices()[:np.prod(axes)])
    places = sharding.tree_shardings(boxed, mesh, RULES)
    batch = [
      NamedSharding(mesh, PartitionSpec(*before, sharding.BATCH_AXES))
      for before in [(None,) * (x.ndim > 2) for x in arrays]
    ]
    gradients = jax.jit(
      jax.grad(loss, range(1 + len(arrays))), in_shardings=(places, *batch)
    )(jax.device_put(variables, places), *arrays)
    by_mesh.append([np.asarray(x) for x in jax.tree.leaves(gradients)])
  found[name] = max(
    float(np.abs(x - y).max() / max(np.abs(x).max(), 0.1))
    for x, y in zip(*by_mesh)
  )
print(json.dumps(found))
"""


@pytest.mark.slow
def test_gradients_are_those_of_one_device():
  """A sum over copies would make them several times as large, or others."""
  done = subprocess.run(
    [sys.executable, '-c', CODE],
    env=helpers.script_env(devices=8),
    cwd=helpers.ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  found = json.loads(done.stdout.splitlines()[-1])
  assert len(found) == 5 and max(found.values()) < 1e-3, found
