"""Tree search with a real, small, random model, and on hand-made values."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.methods.jowa_dreams import imagine, remember, world_model
from jowa_jax.plan.base import Dream, Trails
from jowa_jax.plan.mcts import tree_search
from tests.methods.test_jowa_dreams import CONFIG, TASKS, contexts, params
from tests.plan import test_beam

__all__ = ['params']
LEGAL = games.legal_mask()[TASKS]
GAMMA = CONFIG.returns.gamma


@functools.partial(
  jax.jit, static_argnames=('num_simulations', 'depth_limit', 'choose_by')
)
def search(
  params,
  context,
  legal,
  key,
  q_bias=0.0,
  num_simulations=30,
  depth_limit=2,
  choose_by='value',
):
  memory, q = remember(CONFIG, params, context)
  model = world_model(CONFIG, params, context.tasks, decoder='parallel')
  found = tree_search(
    model,
    q + q_bias,
    memory,
    legal,
    key,
    num_simulations=num_simulations,
    depth_limit=depth_limit,
    gamma=GAMMA,
    choose_by=choose_by,
  )
  return found, q


@functools.partial(jax.jit, static_argnums=2)
def replay(params, context, horizon, actions):
  return imagine(
    CONFIG, params, context, lambda t, q, key: actions[:, t], horizon
  )


@pytest.mark.slow
def test_visits_are_of_legal_actions_and_add_up(params):
  found, _ = search(params, contexts(0), LEGAL, jax.random.key(0))
  assert found.visits.shape == LEGAL.shape
  assert (found.visits.sum(axis=1) == 30).all()
  assert not np.asarray(found.visits)[~LEGAL].any()
  for env in range(len(TASKS)):
    visited = np.asarray(found.visits[env]) > 0
    best = np.where(visited, found.values[env], -np.inf).argmax()
    assert found.action[env] == best


@pytest.mark.slow
def test_chosen_by_visits(params):
  found, _ = search(
    params, contexts(0), LEGAL, jax.random.key(0), choose_by='visits'
  )
  np.testing.assert_array_equal(found.action, found.visits.argmax(axis=1))


@pytest.mark.slow
def test_values_of_one_step_are_those_of_the_dream(params):
  """At depth 1 a child is worth its reward and its best legal action."""
  context = contexts(1)
  found, _ = search(
    params, context, LEGAL, jax.random.key(0), 0.0, 40, depth_limit=1
  )
  checked = 0
  for action in range(18):
    dreamed = replay(params, context, 1, np.full((4, 1), action))
    value = np.where(LEGAL, dreamed.q[:, 1], -np.inf).max(axis=1)
    expected = dreamed.rewards[:, 0] + GAMMA * value
    visited = np.asarray(found.visits[:, action]) > 0
    np.testing.assert_allclose(
      found.values[visited, action], expected[visited], atol=1e-4
    )
    checked += visited.sum()
  assert checked > 10


@pytest.mark.parametrize('depth', [2, pytest.param(3, marks=pytest.mark.slow)])
def test_values_along_a_single_path(params, depth):
  """With one legal action every simulation goes a step further, to the limit.

  What the deepest reads lies in what is kept of the steps before.
  """
  context = contexts(2)
  context = context.replace(
    seen=context.seen[:, -3:],
    actions=context.actions[:, -3:],
    count=np.minimum(context.count, 3),
  )
  chosen = np.array([0, 5, 2, 2])
  legal = np.arange(18) == chosen[:, None]
  found, _ = search(
    params, context, legal, jax.random.key(0), 0.0, 5, depth_limit=depth
  )
  dreamed = replay(params, context, depth, np.tile(chosen[:, None], (1, depth)))
  rows, sums = np.arange(4), []
  for steps in range(1, depth + 1):
    total = sum(GAMMA**t * dreamed.rewards[:, t] for t in range(steps))
    sums.append(total + GAMMA**steps * dreamed.q[rows, steps, chosen])
  sums += [sums[-1]] * (5 - depth)
  assert np.std(sums, axis=0).max() > 0.01
  np.testing.assert_allclose(
    found.values[rows, chosen], np.mean(sums, axis=0), atol=1e-4
  )
  np.testing.assert_array_equal(found.action, chosen)


@pytest.mark.slow
def test_environments_do_not_mix(params):
  context = contexts(3)
  together, _ = search(params, context, LEGAL, jax.random.key(0))
  for env in range(len(TASKS)):
    one = slice(env, env + 1)
    alone, _ = search(
      params,
      jax.tree.map(lambda x: x[one], context),  # noqa: B023
      LEGAL[one],
      jax.random.key(0),
    )
    np.testing.assert_array_equal(together.visits[one], alone.visits)
    np.testing.assert_allclose(together.values[one], alone.values, atol=1e-4)


@pytest.mark.slow
def test_a_rare_prior_never_makes_an_illegal_action(params):
  """Below the root priors so peaked that all but one of them are zero.

  Then an illegal action that was never tried scores as a legal one does.
  """
  context = contexts(0)
  memory, q = remember(CONFIG, params, context)
  model = world_model(CONFIG, params, TASKS)
  taken = []

  def peaked(memory, actions, key):
    jax.debug.callback(lambda x: taken.append(np.asarray(x)), actions)
    step: Dream = model.dream(memory, actions, key)
    return step.replace(q=step.q.at[:, 0].add(1e4))

  found = jax.jit(
    lambda key: tree_search(
      model._replace(dream=peaked), q, memory, LEGAL, key, num_simulations=60
    )
  )(jax.random.key(1))
  jax.block_until_ready(found)
  jax.effects_barrier()
  assert len(taken) == 60
  for env in range(len(TASKS)):
    assert LEGAL[env, [actions[env] for actions in taken]].all()


@pytest.mark.slow
def test_values_that_are_not_finite_give_no_action(params):
  bias = np.zeros((4, 18), np.float32)
  bias[1, 3] = np.nan
  legal = LEGAL.copy()
  legal[2] = False
  found, _ = search(params, contexts(0), legal, jax.random.key(0), bias)
  assert np.flatnonzero(found.action == -1).tolist() == [1, 2]
  good, _ = search(params, contexts(0), LEGAL, jax.random.key(0))
  np.testing.assert_array_equal(found.action[::3], good.action[::3])
  assert np.isfinite(found.values).all()


@pytest.mark.slow
def test_a_dream_that_is_not_finite_gives_no_action(params):
  context = contexts(0)
  memory, q = remember(CONFIG, params, context)
  model = world_model(CONFIG, params, TASKS)

  def broken(memory, actions, key):
    step: Dream = model.dream(memory, actions, key)
    return step.replace(q=step.q.at[2, 0].set(jnp.inf))

  found = jax.jit(
    lambda key: tree_search(
      model._replace(dream=broken), q, memory, LEGAL, key, num_simulations=4
    )
  )(jax.random.key(0))
  assert (np.asarray(found.action) == -1).tolist() == [
    False,
    False,
    True,
    False,
  ]


@pytest.mark.slow
def test_a_world_that_keeps_states_alone():
  """Nodes are kept as the model says: in a table they are what it remembers."""
  table = test_beam.make_table(0)
  trails = Trails(
    begin=lambda states, steps: states,
    recall=lambda states, trail: trail,
    extend=lambda trail, states: states,
  )
  model, states = test_beam.world(table), np.arange(5, dtype=np.int32)
  legal = np.array([[True] * 4] * 4 + [[True, False, True, False]])

  @functools.partial(jax.jit, static_argnums=0)
  def search(trails, key):
    return tree_search(
      model._replace(trails=trails),
      table.q[states],
      states,
      legal,
      key,
      num_simulations=20,
      depth_limit=1,
      gamma=GAMMA,
    )

  found = search(trails, jax.random.key(0))
  after = np.where(legal[:, None], table.q[table.next_state[states]], -np.inf)
  expected = table.reward[states] + GAMMA * after.max(axis=-1)
  visited = np.asarray(found.visits) > 0
  assert visited.sum() > 5 and not visited[~legal].any()
  np.testing.assert_allclose(
    found.values[visited], expected[visited], rtol=1e-5
  )
  with pytest.raises(ValueError, match='with trails'):
    search(None, jax.random.key(0))


def test_traces_once(params):
  search(params, contexts(0), LEGAL, jax.random.key(0))
  traces = search._cache_size()
  search(params, contexts(4), LEGAL, jax.random.key(5))
  assert search._cache_size() == traces


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'num_simulations': 0}, 'num_simulations=0'),
    ({'depth_limit': 0}, 'horizon=0'),
    ({'temperature': 0.0}, 'temperature=0.0'),
    ({'choose_by': 'luck'}, "choose_by='luck'"),
  ],
)
def test_bad_options_are_errors(params, options, message):
  with pytest.raises(ValueError, match=message):
    tree_search(
      None, jnp.zeros((1, 18)), None, LEGAL[:1], jax.random.key(0), **options
    )
