"""The smallest method, as the README's "Add a method" builds it.

Stacks of frames -> a linear policy and value, no tokenizer and no backbone. As
a script it runs another with the method registered:

  python -m tests.methods.toy launch.train --config=tests/methods/toy.py ...
"""

import dataclasses
import runpy
import sys
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from configs import common
from jowa_jax import games
from jowa_jax.losses.masked import masked_mean
from jowa_jax.losses.q_learning import n_step, steps_later
from jowa_jax.methods import factory
from jowa_jax.methods.acting import Acting, option
from jowa_jax.methods.base import Aux, BatchSpec, Method, Objective, Variables
from jowa_jax.methods.history_policy import history_policy
from jowa_jax.models.frame_stack import stack_frames
from jowa_jax.types import FRAME_SHAPE


@dataclasses.dataclass(frozen=True)
class Linear:
  """The section `linear` of its configs."""

  length: int = 4  # steps of a segment with a loss
  stack: int = 3  # frames
  side: int = 12  # of what a frame is shrunk to
  n: int = 2  # steps of a return
  gamma: float = 0.9


@dataclasses.dataclass(frozen=True)
class ToyConfig:
  MODEL: ClassVar = ('linear',)
  linear: Linear = Linear()


@dataclasses.dataclass(frozen=True)
class ToyActing(Acting):
  noise: float = option(0.0, 'Scale of what is added to preferences.')


def make_toy(config: ToyConfig) -> Method:
  c = config.linear

  def features(frames, mask):  # [B, C, 84, 84] -> [B, C - stack + 1, D]
    x = stack_frames(frames, mask, c.stack - 1)
    edge = FRAME_SHAPE[0] // c.side
    x = x.reshape(*x.shape[:2], c.side, edge, c.side, edge, c.stack)
    return x.mean((3, 5)).reshape(*x.shape[:2], -1) / 255

  def outputs(variables, frames, mask, tasks):
    p, x = variables.params['linear'], features(frames, mask)
    y = x @ p['kernel']
    values = y[..., -1] * variables.extras['scale'][tasks, None]
    return y[..., :-1] + p['prior'][tasks, None], values

  def init(key, statistics):
    counts = jnp.asarray(statistics['action_counts'], jnp.float32) + 1
    prior = jnp.log(counts / counts.sum(-1, keepdims=True))
    largest = jnp.abs(statistics['return_percentiles']).max(-1)
    inputs = c.side**2 * c.stack
    kernel = 1e-3 * jax.random.normal(key, (inputs, games.NUM_ACTIONS + 1))
    # With the first axis named, a new game's row can start from another's.
    prior = nn.LogicallyPartitioned(prior, ('tasks', None))
    return Variables(
      params={'linear': {'kernel': kernel, 'prior': prior}},
      targets={},
      extras={'scale': 1 + largest},
    )

  def augment(variables, segments, key, step):
    shift = jax.random.randint(key, (), -2, 3)
    moved = jnp.roll(segments.observations, shift, axis=-1)
    return segments.replace(observations=moved), {'toy/shift': shift * 1.0}

  def metrics(variables, segments):
    logits, values = outputs(
      variables, segments.observations, segments.mask, segments.task
    )
    segments = jax.tree.map(
      lambda x: x[:, c.stack - 1 :] if x.ndim > 1 else x, segments
    )
    nll = optax.softmax_cross_entropy_with_integer_labels(
      logits, segments.actions
    )
    returns, discounts, has_target = jax.vmap(n_step, (0, 0, 0, None))(
      segments.rewards, c.gamma * (1 - segments.ends), segments.mask, c.n
    )
    later = jax.vmap(steps_later, (0, None))(values, c.n)
    target = jax.lax.stop_gradient(returns + discounts * later)
    trained = segments.train
    return {
      'toy/cloning': masked_mean(nll, trained),
      'toy/value': masked_mean((values - target) ** 2, trained & has_target),
    }

  def loss(variables, segments, key, step):
    values = metrics(variables, segments)
    return sum(values.values()), Aux(values, {})

  def policy(**options):
    acting = ToyActing.of(options)

    def decide(variables, history, legal, keys):
      mask = jnp.arange(c.stack) >= c.stack - history.count[:, None]
      logits, values = outputs(variables, history.seen, mask, history.tasks)
      noise = jax.vmap(lambda key: jax.random.gumbel(key, legal.shape[1:]))(
        keys
      )
      score = jnp.where(legal, logits[:, -1] + acting.noise * noise, -jnp.inf)
      return score.argmax(-1), {'value': values[:, -1]}

    frame = jax.ShapeDtypeStruct(FRAME_SHAPE, jnp.uint8)
    return history_policy(
      lambda variables, frames: frames, decide, frame, c.stack, acting.epsilon
    )

  flops = 2.0 * c.length * c.side**2 * c.stack * (games.NUM_ACTIONS + 1)
  return Method(
    spec=BatchSpec(
      length=c.length,
      history=c.stack - 1,
      lookahead=c.n,
      statistics=('action_counts', 'return_percentiles'),
    ),
    tokens=c.length,
    dtype='float32',
    init=init,
    objectives={
      'linear': Objective(('linear',), loss, {'linear': flops}, augment)
    },
    after_update=lambda variables, carry, step: variables,
    tokenizer=None,
    evaluate=metrics,
    policy=policy,
  )


ENTRY = factory.Entry(ToyConfig, make_toy, ToyActing)


def get_config():
  config = common.trainer('toy', smoke=True)
  config.linear = dataclasses.asdict(Linear())
  rate = common.optimizer(3e-2, 0.0)
  config.stages = common.stages(all=common.stage(24, linear=rate))
  return config


if __name__ == '__main__':
  factory.METHODS['toy'] = ENTRY
  sys.argv = sys.argv[1:]
  runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)
