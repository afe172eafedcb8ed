"""A small JOWA agent of random parameters.

As a script it runs another, which loads this agent from any checkpoint:

  python -m tests.eval.small_agent launch.diagnose --checkpoint=small ...
"""

import copy
import runpy
import sys

import jax

import jowa_jax
from configs import jowa
from jowa_jax.agent import Agent
from jowa_jax.checkpoint.shapes import variable_shapes
from jowa_jax.methods.base import Variables
from jowa_jax.methods.factory import make_method
from tests.models import random_params
from tests.train import helpers

CONFIG = jowa.get_config('smoke').to_dict()
# Four tokens a frame: what is unrolled or looped over is short.
helpers.change(
  CONFIG, tokenizer__downsample=(7, 6), backbone__tokens_per_frame=4
)


def make_agent(seed: int = 1, **changes) -> Agent:
  """The agent, with some other fields of its config."""
  config = copy.deepcopy(CONFIG)
  helpers.change(config, **changes)
  method = make_method(config)
  shapes = variable_shapes(method)
  params = random_params.fill(shapes.params, seed)
  variables = Variables(
    params=params, targets={'q_heads': params['q_heads']}, extras={}
  )
  # Placed, as those of a checkpoint are.
  return Agent(config, method, jax.device_put(variables, jax.devices()[0]), 0)


if __name__ == '__main__':
  jowa_jax.load = lambda path, step=None: make_agent()
  sys.argv = sys.argv[1:]
  runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)
