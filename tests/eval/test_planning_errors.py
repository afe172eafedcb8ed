"""What sets searches apart, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax.eval import planning_errors
from jowa_jax.eval.planning_errors import Compared
from jowa_jax.plan.base import Dream, WorldModel

# Two decisions of three paths of two steps. In the first, the last path stands
# there twice; in the second, all begin alike and the first two are one.
PATHS = np.array([[[0, 1], [2, 3], [2, 3]], [[4, 5], [4, 5], [4, 6]]], np.int32)
COMPARED = Compared(
  greedy=np.array([0, 4]),
  model=np.array([0, 5]),
  emulator=np.array([2, 4]),
  paths=PATHS,
  dreamed_rewards=np.array(
    [[[1, 0], [0, 0], [0, 0]], [[1, 0], [1, 0], [1, -1]]], float
  ),
  real_rewards=np.array(
    [[[0, 0], [0, 1], [0, 1]], [[1, 0], [1, 0], [1, -1]]], float
  ),
  dreamed_values=np.array([[3.0, 2, 2], [4, 4, 8]]),
  real_values=np.array([[1.0, 2, 2], [4, 4, 3]]),
)


def test_first_times():
  assert planning_errors.first_times(PATHS).tolist() == [
    [[True, True], [True, True], [False, False]],
    [[True, True], [False, False], [False, True]],
  ]


def test_metrics_by_hand():
  metrics = planning_errors.planning_metrics(COMPARED, 0.5)
  # Values: dreamed 3, 2, 4, 8 and real 1, 2, 4, 3; within, by halves of the
  # differences 1 and -4, and -1 and 1.
  dreamed, real = [3, 2, 4, 8], [1, 2, 4, 3]
  within = [0.5, -0.5, -2, 2], [-0.5, 0.5, 0.5, -0.5]
  assert metrics == {
    'decisions': 2,
    'model_differs': 1 / 2,
    'emulator_differs': 1 / 2,
    'searches_agree': 0.0,
    'departures_agree': 0.0,
    # Dreamed 1 0, 0 0, 1 0, -1; real 0 0, 0 1, 1 0, -1.
    'reward_steps': 7,
    'real_rewards': 3,
    'reward_recall': pytest.approx(2 / 3),
    'reward_precision': pytest.approx(2 / 3),
    'value_correlation': pytest.approx(np.corrcoef(dreamed, real)[0, 1]),
    'value_rmse': pytest.approx(np.sqrt((4 + 25) / 4)),
    'value_correlation_within': pytest.approx(np.corrcoef(*within)[0, 1]),
    'value_rmse_within': pytest.approx(np.sqrt((1 + 1 + 6.25 + 6.25) / 4)),
    'real_value_spread_within': pytest.approx(0.5),
    # Real scores 0.25 and 0.5 + 0.5; 1 + 1 and 1 - 0.5 + 0.75. Dreams take the
    # first path and the last; their rewards alone the first of both, 1.25 to
    # 0.5, and their values alone the second, 1 to 0.75, and the last.
    'loss_model': pytest.approx((0.75 + 0.75) / 2),
    'loss_rewards': pytest.approx((0.75 + 0) / 2),
    'loss_values': pytest.approx((0 + 0.75) / 2),
  }


def test_nothing_compared():
  empty = Compared(*(x[:0] for x in COMPARED))
  assert planning_errors.planning_metrics(empty, 0.5) == {'decisions': 0}


def test_one_leaf_says_nothing_of_differences():
  one = Compared(
    *COMPARED[:3],
    *(x[:, :1] for x in COMPARED[3:]),
  )
  metrics = planning_errors.planning_metrics(one, 0.5)
  assert metrics['value_correlation_within'] is None
  assert metrics['value_rmse_within'] is None
  assert metrics['loss_model'] == 0


def test_returns():
  returns = planning_errors.discounted_returns(np.array([1.0, 0, -1]), 0.5)
  assert returns.tolist() == [0.75, -0.5, -1]
  # Of the second, cut off, the last 5 are unknown: 0.5 ** 5 < 0.05.
  metrics = planning_errors.return_metrics(
    [np.array([1.75, 0.5, 0.0]), np.full(6, 2.0)],
    [np.array([1.0, 0, -1]), np.zeros(6)],
    [True, False],
    0.5,
  )
  x, y = np.array([1.75, 0.5, 0, 2]), np.array([0.75, -0.5, -1, 0])
  assert metrics == {
    'q_decisions': 4,
    'q_correlation': pytest.approx(np.corrcoef(x, y)[0, 1]),
    'q_rmse': pytest.approx(np.sqrt(np.mean((x - y) ** 2))),
    'q_bias': pytest.approx(1.25),
  }
  nothing = planning_errors.return_metrics(
    [np.ones(3)], [np.ones(3)], [False], 0.99
  )
  assert nothing == dict.fromkeys(nothing) | {'q_decisions': 0}


def test_follow():
  """States are numbers, to which actions are added."""

  def dream(states, actions, key):
    after = jnp.repeat(states, len(actions) // len(states)) + actions
    q = jnp.stack([after, 10 * after], axis=-1).astype(jnp.float32)
    return Dream(
      reward=actions.astype(jnp.float32), tokens=None, q=q, memory=after, runs=0
    )

  model = WorldModel(dream=dream, take_rows=None)
  paths = jnp.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
  legal = jnp.array([[True, True], [True, False]])
  rewards, values = planning_errors.follow(
    model, jnp.array([100, 200]), paths, legal
  )
  np.testing.assert_array_equal(rewards, paths)
  np.testing.assert_array_equal(values, [[1030, 1070], [211, 215]])
