"""Beam search on a table of states, against plain Python searches.

The world is a deterministic table, its memory the state itself: what the best
path is can be found by trying all of them.
"""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax.plan.base import Dream, WorldModel
from jowa_jax.plan.beam import beam_search
from tests import compilations

NUM_STATES, NUM_ACTIONS, GAMMA = 40, 4, 0.9


class Table(NamedTuple):
  """Next states and rewards [S, A], and Q values [S, A]."""

  next_state: np.ndarray
  reward: np.ndarray
  q: np.ndarray


def make_table(seed: int) -> Table:
  rng = np.random.default_rng(seed)
  shape = (NUM_STATES, NUM_ACTIONS)
  return Table(
    rng.integers(0, NUM_STATES, shape).astype(np.int32),
    rng.integers(-1, 2, shape).astype(np.float32),
    rng.normal(0, 2, shape).astype(np.float32),
  )


def world(table: Table) -> WorldModel:
  next_state, reward, q = (jnp.asarray(x) for x in table)

  def dream(states, actions, key):
    assert key is None
    states = jnp.repeat(states, len(actions) // len(states))
    after = next_state[states, actions]
    return Dream(
      reward=reward[states, actions],
      tokens=jnp.stack([after, actions], axis=-1),
      q=q[after],
      memory=after,
      runs=jnp.ones((len(after), 1), jnp.int32),
    )

  return WorldModel(dream=dream, take_rows=lambda states, rows: states[rows])


@functools.partial(jax.jit, static_argnames=('width', 'horizon', 'path_score'))
def search(table, states, legal, width, horizon, path_score='leaf'):
  return beam_search(
    world(table),
    table.q[states],
    states,
    legal,
    width=width,
    horizon=horizon,
    gamma=GAMMA,
    path_score=path_score,
  )


class Leaf(NamedTuple):
  score: float
  reward_sum: float
  path: tuple
  rewards: tuple
  states: tuple


def follow(table, state, path, legal, path_score='leaf') -> Leaf:
  """Plays a path: section 4.2's score, summed in plain Python."""
  total, rewards, states, estimates = 0.0, [], [], []
  for level, action in enumerate(path):
    estimates.append(total + GAMMA**level * table.q[state, action])
    rewards.append(float(table.reward[state, action]))
    total += GAMMA**level * rewards[-1]
    state = int(table.next_state[state, action])
    states.append(state)
  value = max(table.q[state, a] for a in legal)
  score = total + GAMMA ** len(path) * value
  if path_score == 'mean':
    score = np.mean([*estimates, score])
  return Leaf(score, total, tuple(path), tuple(rewards), tuple(states))


def brute_force(table, state, legal, horizon) -> list[Leaf]:
  """All leaves, best first."""
  paths = itertools.product(legal, repeat=horizon)
  leaves = [follow(table, state, path, legal) for path in paths]
  return sorted(leaves, reverse=True)


def plain_beam(
  table, state, legal, width, horizon, path_score='leaf'
) -> list[Leaf]:
  """The search as a loop over one environment's beams."""
  beams = [follow(table, state, (), legal, path_score)]
  for _ in range(horizon):
    children = []
    for beam in beams:
      here = beam.states[-1] if beam.states else state
      best = sorted(legal, key=lambda a: -table.q[here, a])[:width]  # noqa: B023
      children += [
        follow(table, state, (*beam.path, a), legal, path_score) for a in best
      ]
    beams = sorted(children, reverse=True)[:width]
  return beams


def check(plan, env, leaves):
  """The kept leaves of one environment are exactly these, in this order."""
  kept = np.isfinite(plan.scores[env])
  assert kept.sum() == len(leaves)
  assert kept[: len(leaves)].all(), 'leaves come first'
  assert plan.action[env] == leaves[0].path[0]
  for i, leaf in enumerate(leaves):
    np.testing.assert_allclose(plan.scores[env, i], leaf.score, atol=1e-5)
    np.testing.assert_allclose(
      plan.reward_sums[env, i], leaf.reward_sum, atol=1e-6
    )
    assert tuple(plan.paths[env, i].tolist()) == leaf.path
    assert tuple(plan.rewards[env, i].tolist()) == leaf.rewards
    tokens = list(zip(leaf.states, leaf.path, strict=True))
    np.testing.assert_array_equal(plan.tokens[env, i], tokens)


STATES = np.array([0, 5, 17, 31], np.int32)
# Per environment: all actions, two, one, three.
LEGAL = np.array([[1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 1, 0], [1, 1, 1, 0]], bool)


@pytest.mark.parametrize('horizon', [1, 2, 3])
@pytest.mark.parametrize('seed', [0, 1])
def test_with_room_for_all_leaves_it_is_exhaustive(seed, horizon):
  table = make_table(seed)
  plan = search(table, STATES, LEGAL, NUM_ACTIONS**horizon, horizon)
  for env, state in enumerate(STATES):
    legal = np.flatnonzero(LEGAL[env]).tolist()
    check(plan, env, brute_force(table, state, legal, horizon))


@pytest.mark.parametrize(
  ('width', 'horizon'), [(1, 3), (2, 1), (2, 2), (2, 4), (3, 3), (6, 3)]
)
@pytest.mark.parametrize('path_score', ['leaf', 'mean'])
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_pruning_equals_a_plain_loop(seed, width, horizon, path_score):
  table = make_table(seed)
  plan = search(table, STATES, LEGAL, width, horizon, path_score)
  for env, state in enumerate(STATES):
    legal = np.flatnonzero(LEGAL[env]).tolist()
    leaves = plain_beam(table, state, legal, width, horizon, path_score)
    check(plan, env, leaves)


def test_the_mean_heeds_what_the_root_says():
  """Dreams whose values differ by their errors alone decide nothing."""
  table = make_table(0)
  table.reward[:] = 0
  table.q[:] = 0
  table.q[0] = [0.3, 0.2, 0, 0]
  # Its leaf is thought to be worth a little more.
  table.q[table.next_state[0, 1]] = 0.05
  first = np.zeros(1, np.int32), LEGAL[:1], 2, 1
  assert search(table, *first).action[0] == 1
  assert search(table, *first, 'mean').action[0] == 0


def test_pruning_loses_some_best_leaves():
  """The two searches above are not the same test."""
  table, legal = make_table(0), list(range(NUM_ACTIONS))
  pairs = [
    (
      plain_beam(table, state, legal, 2, 3)[0].score,
      brute_force(table, state, legal, 3)[0].score,
    )
    for state in range(NUM_STATES)
  ]
  assert all(found <= best for found, best in pairs)
  assert any(found < best for found, best in pairs)


def greedy(table):
  q = np.where(LEGAL, table.q[STATES], -np.inf)
  return q.argmax(axis=-1)


@pytest.mark.parametrize('width', [1, 3])
def test_horizon_zero_is_greedy(width):
  table = make_table(3)
  plan = search(table, STATES, LEGAL, width, 0)
  np.testing.assert_array_equal(plan.action, greedy(table))
  assert plan.action.dtype == jnp.int32
  assert plan.paths.shape == plan.rewards.shape == (4, 1, 0)
  best = np.where(LEGAL, table.q[STATES], -np.inf).max(-1)
  np.testing.assert_array_equal(plan.scores[:, 0], best)
  np.testing.assert_array_equal(plan.reward_sums, np.zeros((4, 1)))


def test_width_one_plays_the_roots_argmax():
  table = make_table(3)
  plan = search(table, STATES, LEGAL, 1, 2)
  np.testing.assert_array_equal(plan.action, greedy(table))
  assert plan.scores.shape == (4, 1)


def test_only_legal_actions_are_ever_on_a_kept_path():
  table = make_table(4)
  # An illegal action that everything would prefer.
  table = table._replace(q=table.q.copy())
  table.q[:, 0] = 100.0
  plan = search(table, STATES, LEGAL, 4, 3)
  for env in range(len(STATES)):
    kept = np.isfinite(plan.scores[env])
    assert LEGAL[env][np.asarray(plan.paths[env])[kept]].all()
  # The environment with one legal action has one leaf.
  assert np.isfinite(plan.scores[2]).sum() == 1


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_give_no_action(bad):
  table = make_table(4)
  table = table._replace(q=table.q.copy())
  # One environment at the root; what another dreams; what none may do.
  table.q[STATES[1], 3] = bad
  best = greedy(table)[3]
  table.q[table.next_state[STATES[3], best], 0] = bad
  table.q[STATES[2], 0] = bad
  plan = search(table, STATES, LEGAL, 3, 2)
  assert (np.asarray(plan.action) == -1).tolist() == [False, True, False, True]
  assert search(table, STATES, LEGAL, 1, 0).action[1] == -1


def test_no_legal_action_gives_none():
  legal = LEGAL.copy()
  legal[2] = False
  for horizon in (0, 2):
    action = search(make_table(0), STATES, legal, 2, horizon).action
    assert (np.asarray(action) == -1).tolist() == [False, False, True, False]


def test_a_long_way_round_is_found():
  """A reward two steps behind a poor Q value, which greedy play misses."""
  table = Table(
    np.array([[1, 2], [1, 1], [3, 3], [3, 3]], np.int32),
    np.array([[0, -1], [0, 0], [1, 1], [1, 1]], np.float32),
    np.array([[1, 0], [0, 0], [5, 5], [5, 5]], np.float32),
  )
  legal = np.ones((1, 2), bool)
  states = np.array([0], np.int32)
  assert search(table, states, legal, 2, 0).action == 0
  plan = search(table, states, legal, 2, 2)
  assert plan.action == 1
  # -1 + 0.9 * 1 + 0.81 * 5
  np.testing.assert_allclose(plan.scores[0, 0], 3.95, rtol=1e-6)


@pytest.mark.parametrize(('width', 'horizon'), [(0, 2), (-1, 2), (2, -1)])
def test_bad_settings_are_errors(width, horizon):
  with pytest.raises(ValueError, match=f'width={width}, horizon={horizon}'):
    search(make_table(0), STATES, LEGAL, width, horizon)


def test_an_unknown_score_is_an_error():
  with pytest.raises(ValueError, match='luck'):
    search(make_table(0), STATES, LEGAL, 2, 1, 'luck')


def test_compiles_once():
  table = jax.tree.map(jnp.asarray, make_table(0))

  @jax.jit
  def plan(table, states, legal):
    return beam_search(
      world(table), table.q[states], states, legal, width=2, horizon=2, gamma=1
    )

  with compilations.counted() as compiled:
    for shift in range(4):
      plan(table, (STATES + shift) % NUM_STATES, np.roll(LEGAL, shift, axis=0))
  assert compiled['plan'] == 1
