"""What JOWA can be told, and actions drawn by their values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.methods.acting import Acting
from jowa_jax.methods.history_policy import DECISION
from jowa_jax.methods.jowa import make_jowa
from jowa_jax.methods.jowa_policy import JowaActing, choose
from jowa_jax.methods.mtbc import MtbcActing
from jowa_jax.types import TimeStep
from tests.methods import small

TASKS = np.array([small.PONG, small.FREEWAY], np.int32)
LEGAL = games.legal_mask()[TASKS]


@pytest.mark.slow
def test_draws_have_the_softmax_of_values_over_temperature():
  """Of values 0, log 2 and log 5, at temperature 1/2: 1, 4 and 25 of 30."""
  q = jnp.log(jnp.array([1.0, 2.0, 5.0, 9.0]))
  legal = jnp.array([True, True, True, False])
  keys = jax.random.split(jax.random.key(0), 3000)
  many = jnp.broadcast_to(q, (3000, 4)), jnp.broadcast_to(legal, (3000, 4))
  drawn = np.bincount(choose(*many, keys, 0.5), minlength=4) / 3000
  np.testing.assert_allclose(
    drawn, [1 / 30, 4 / 30, 25 / 30, 0], atol=0.03, rtol=0
  )
  assert (choose(*many, keys, 0.0) == 2).all()
  # Each draws with its own key.
  one = choose(q[None], legal[None], keys[7:8], 0.5)
  assert one[0] == choose(*many, keys, 0.5)[7]
  broken = many[0].at[1, 0].set(jnp.nan)
  for temperature in (0.0, 0.5):
    found = choose(broken, many[1], keys, temperature)
    assert found[1] == -1 and (found[2:] >= 0).all()


@pytest.fixture(scope='module')
def method():
  return make_jowa(small.JOWA)


@pytest.fixture(scope='module')
def variables(method):
  return small.variables(method)


def _act(policy, variables, seed=0):
  frames = np.zeros((2, small.SIDE, small.SIDE), np.uint8)
  step = TimeStep(frames=jnp.asarray(frames), first=jnp.ones(2, bool))
  keys = jax.random.split(jax.random.key(seed), 2)
  actions, _, info = policy.act(variables, policy.init(TASKS), step, keys)
  return np.asarray(actions), np.asarray(info['q']), keys


@pytest.mark.slow
def test_a_policy_draws_with_each_environments_key(method, variables):
  policy = method.policy(temperature=2.0, epsilon=0.0)
  seen = set()
  for seed in range(20):
    actions, q, keys = _act(policy, variables, seed)
    for env in range(2):
      key = jax.random.fold_in(keys[env], DECISION)
      logits = jnp.where(LEGAL[env], q[env] / 2.0, -jnp.inf)
      assert actions[env] == jax.random.categorical(key, logits)
    seen.add(tuple(actions))
  assert len(seen) > 3
  cold, q, _ = _act(method.policy(temperature=0.0, epsilon=0.0), variables)
  best = np.where(LEGAL, q, -np.inf).argmax(-1)
  np.testing.assert_array_equal(cold, best)
  # Random actions are drawn on top.
  random = method.policy(temperature=1e-6, epsilon=1.0)
  assert any(
    (_act(random, variables, seed)[0] != best).any() for seed in range(5)
  )


def test_what_is_left_open_is_the_planners():
  assert JowaActing().settings == {'temperature': 0.0}
  beam = JowaActing(planner='beam', horizon=3)
  assert beam.settings['horizon'] == 3 and beam.settings['width'] == 2
  assert JowaActing(planner='mcts').settings['temperature'] == 1.0


@pytest.mark.parametrize(
  ('options', 'words'),
  [
    ({}, ('greedy',)),
    ({'temperature': 0.5}, ('drawn at temperature 0.5',)),
    (
      {'planner': 'beam', 'horizon': 1},
      ('beam search', 'width 2', 'horizon 1'),
    ),
    (
      {'planner': 'mcts', 'num_simulations': 5},
      ('tree search', 'simulations 5', 'horizon 2'),
    ),
  ],
)
def test_words_of_a_film(options, words):
  assert JowaActing.of(options).words == words
  assert Acting().words == MtbcActing().words == ()


def test_which_options_a_game_can_have():
  assert MtbcActing.names() == {'context_length'}
  assert MtbcActing.read_beside({}) == {'context_length'}
  assert {'width', 'temperature', 'context_length'} < JowaActing.names()
  assert 'epsilon' not in JowaActing.names()
  assert JowaActing.read_beside({}) == {'context_length'}
  beam = JowaActing.read_beside({'planner': 'beam'})
  assert {'width', 'context_length'} < beam and 'num_simulations' not in beam


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'temperature': -1.0}, 'temperature=-1.0 must be at least 0'),
    (
      {'planner': 'beam', 'temperature': 1.0},
      'temperature=1.0 needs planner=none or mcts, not beam',
    ),
  ],
)
def test_temperatures_that_cannot_be(options, message):
  with pytest.raises(ValueError, match=message):
    JowaActing.of(options)
