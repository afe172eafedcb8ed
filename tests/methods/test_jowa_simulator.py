"""What others may ask of JOWA's tokenizer and world model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax.agent import Agent
from jowa_jax.methods.adaptation import AdaptationConfig, adapt, merge
from jowa_jax.methods.jowa import make_jowa
from jowa_jax.methods.mtbc import make_mtbc
from jowa_jax.plan.base import Plan, WorldModel
from jowa_jax.types import History, TimeStep
from tests.methods import small

TASKS = np.array([small.PONG, small.FREEWAY], np.int32)


@pytest.fixture(scope='module')
def method():
  return make_jowa(small.JOWA)


@pytest.fixture(scope='module')
def variables(method):
  return small.variables(method)


def context():
  return History(
    seen=jnp.asarray(small.tokens()[:, :2]),
    actions=jnp.array([[2, 0], [5, 0]]),
    count=jnp.array([2, 2]),
    tasks=jnp.asarray(TASKS),
  )


def test_what_is_foreseen_is_what_is_dreamed(method, variables):
  """In a dream, every frame is the likeliest; so are rewards and ends."""
  simulator = method.simulator
  actions = jnp.array([2, 5])

  @jax.jit
  def both(variables):
    known = context()
    memory, _ = simulator.remember(variables, known)
    dreamed = simulator.world(variables, known.tasks).dream(
      memory, actions, None
    )
    tokens = jnp.concatenate([known.seen, dreamed.tokens[:, None]], axis=1)
    taken = known.actions.at[:, -1].set(actions)
    taken = jnp.concatenate([taken, taken[:, :1]], axis=1)
    return dreamed, simulator.foresee(variables, tokens, taken, known.tasks)

  dreamed, foreseen = both(variables)
  assert foreseen.tokens.shape == (2, 2, small.TOKENS)
  np.testing.assert_array_equal(foreseen.tokens[:, 1], dreamed.tokens)
  np.testing.assert_array_equal(
    foreseen.rewards[:, 1].argmax(-1) - 1, dreamed.reward
  )
  np.testing.assert_allclose(foreseen.ends[:, 1], dreamed.end, atol=1e-5)
  np.testing.assert_allclose(foreseen.rewards.sum(-1), 1, atol=1e-5)


@pytest.mark.slow
def test_it_searches_in_what_it_imagines(method, variables):
  simulator = method.simulator
  assert simulator.max_steps == small.LENGTH and simulator.gamma == 0.9
  policy = method.policy(context_length=2, **simulator.search(3, 1))
  frames = np.zeros((2, small.SIDE, small.SIDE), np.uint8)
  _, _, info = policy.act(
    variables,
    policy.init(TASKS),
    TimeStep(frames=jnp.asarray(frames), first=jnp.ones(2, bool)),
    jax.random.split(jax.random.key(0), 2),
  )
  assert isinstance(info['plan'], Plan)
  assert info['plan'].paths.shape == (2, 3, 1)


def compiled(method):
  """The method, its simulator compiled: what merges weights stays outside."""
  simulator = method.simulator

  @jax.jit
  def dream(variables, tasks, memory, actions):
    world = simulator.world(variables, tasks)
    return world.dream(memory, actions, None)

  def world(variables, tasks):
    return WorldModel(
      dream=lambda memory, actions, key: dream(
        variables, tasks, memory, actions
      ),
      take_rows=None,
    )

  return method._replace(
    simulator=simulator._replace(
      remember=jax.jit(simulator.remember),
      world=world,
      foresee=jax.jit(simulator.foresee),
    )
  )


@pytest.mark.slow
def test_adapters_are_merged_for_whoever_asks():
  config = AdaptationConfig(mode='lora', rank=2)
  plain = compiled(make_jowa(small.JOWA))
  adapted = adapt(plain, config, small.BACKBONE)
  variables = small.variables(adapted)
  merged = merge(config, variables)
  arguments = jnp.asarray(small.tokens()), jnp.zeros((2, 4), jnp.int32), TASKS

  def q_and_ends(method, variables):
    _, q = method.simulator.remember(variables, context())
    world = method.simulator.world(variables, TASKS)
    memory, _ = plain.simulator.remember(merged, context())
    end = world.dream(memory, jnp.array([2, 5]), None).end
    return q, end, method.simulator.foresee(variables, *arguments).ends

  found = q_and_ends(adapted, variables)
  for ours, theirs in zip(found, q_and_ends(plain, merged), strict=True):
    np.testing.assert_array_equal(ours, theirs)


def test_the_tokenizer_says_what_it_is(method, variables):
  tokenizer = method.tokenizer
  assert tokenizer.params == ('tokenizer',)
  assert tokenizer.vocab_size == small.VOCAB
  frames = small.segment().observations
  tokens = jax.jit(tokenizer.encode)(variables, frames)
  assert tokens.shape == (2, small.LENGTH, small.TOKENS)
  decoded = jax.jit(tokenizer.decode)(variables, tokens)
  assert decoded.shape == frames.shape and decoded.dtype == np.uint8
  training = dataclasses.replace(
    small.JOWA.tokenizer_training, motion_threshold=0.5
  )
  other = small.jowa(tokenizer_training=training)
  assert other.tokenizer.motion_threshold == 0.5


def test_who_cannot_says_so():
  cloner = Agent({'method': 'mtbc'}, make_mtbc(small.MTBC), None, 0)
  assert cloner.tokenizer.vocab_size == small.VOCAB
  with pytest.raises(ValueError, match='mtbc has no simulator'):
    _ = cloner.simulator
  blind = cloner.method._replace(tokenizer=None)
  with pytest.raises(ValueError, match='mtbc has no tokenizer'):
    _ = Agent({'method': 'mtbc'}, blind, None, 0).tokenizer
