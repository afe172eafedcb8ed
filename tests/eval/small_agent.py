"""A small JOWA agent of random parameters."""

import jax

from configs import jowa
from jowa_jax.agent import Agent
from jowa_jax.checkpoint.shapes import variable_shapes
from jowa_jax.methods.base import Variables
from jowa_jax.methods.factory import make_method
from tests.models import random_params

CONFIG = jowa.get_config('smoke').to_dict()


def make_agent(seed: int = 1) -> Agent:
  method = make_method(CONFIG)
  shapes = variable_shapes(method)
  params = random_params.fill(shapes.params, seed)
  variables = Variables(
    params=params, targets={'q_heads': params['q_heads']}, extras={}
  )
  # Placed, as those of a checkpoint are.
  return Agent(CONFIG, method, jax.device_put(variables, jax.devices()[0]), 0)
