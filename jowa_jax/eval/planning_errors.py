"""Where a search in the model errs: its rewards, its leaves, or the values.

The same paths are followed in dreams and in the emulator. What both lead to is
valued by the same agent, so that they differ by the model's faults alone; the
agent's values themselves are held against what was earned.
"""

from typing import NamedTuple

import chex
import jax.numpy as jnp
import numpy as np

from jowa_jax.eval.findings import Figures
from jowa_jax.plan.base import WorldModel

# A return is known once what is left of it is discounted to this share.
_NEGLIGIBLE = 0.05


class Compared(NamedTuple):
  """Decisions of N states of play, and P paths of H actions from each."""

  greedy: np.ndarray  # [N] int32, the action of the highest Q
  model: np.ndarray  # [N] int32, of the search in the model
  emulator: np.ndarray  # [N] int32, of the search in the emulator
  paths: np.ndarray  # [N, P, H] int32, the leaves that both searches kept
  dreamed_rewards: np.ndarray  # [N, P, H] float32 in {-1, 0, 1}
  real_rewards: np.ndarray  # [N, P, H] float32 in {-1, 0, 1}
  dreamed_values: np.ndarray  # [N, P] float32, highest legal Q at the leaf
  real_values: np.ndarray  # [N, P] float32


def follow(
  model: WorldModel, memory, paths: chex.Array, legal: chex.Array
) -> tuple[chex.Array, chex.Array]:
  """Plays given actions in a world model.

  Args:
    model: the dreamed or the real world.
    memory: what E sequences have seen.
    paths: [E, P, H] int32, H at least 1.
    legal: [E, A] bool.

  Returns:
    Rewards [E, P, H], and the highest legal Q where they lead to, [E, P].
  """
  num_envs, num_paths, horizon = paths.shape
  rewards = []
  for level in range(horizon):
    step = model.dream(memory, paths[:, :, level].reshape(-1), None)
    memory = step.memory
    rewards.append(step.reward.reshape(num_envs, num_paths))
  q = step.q.reshape(num_envs, num_paths, -1)
  values = jnp.max(jnp.where(legal[:, None], q, -jnp.inf), axis=-1)
  return jnp.stack(rewards, axis=-1), values


def first_times(paths: np.ndarray) -> np.ndarray:
  """Which steps no path before goes through, [N, P, H] bool."""
  same = np.cumprod(paths[:, :, None] == paths[:, None], axis=-1, dtype=bool)
  before = np.tri(paths.shape[1], k=-1, dtype=bool)
  return ~(same & before[:, :, None]).any(axis=2)


def planning_metrics(compared: Compared, gamma: float) -> Figures:
  """What sets both searches apart.

  - `decisions`; `model_differs` and `emulator_differs`, shares of them where
    that search does not choose as greedy does; `searches_agree`, where they
    choose alike; `departures_agree`, of the model's departures from greedy.
  - Over steps of the paths: `reward_steps`, `real_rewards` (how many are not
    0), their `reward_recall` and the `reward_precision` of dreamed ones.
  - Over leaves: `value_correlation` and `value_rmse` of dreamed against real;
    `value_correlation_within` and `value_rmse_within` after the mean of each
    decision's leaves is taken away, which no choice depends on, beside
    `real_value_spread_within`, by how much the real ones differ.
  - `loss_model`: by how much the best score of these leaves, by real rewards
    and the values of real leaves, is above that of the leaf which the dreamed
    ones choose; `loss_rewards` if the rewards alone are dreamed, `loss_values`
    if the leaves alone are.

  Args:
    compared: decisions and paths, H at least 1.
    gamma: discount.
  """
  if not len(compared.greedy):
    return {'decisions': 0}
  steps = first_times(compared.paths)
  metrics = _agreement(compared) | _reward_metrics(
    compared.dreamed_rewards[steps], compared.real_rewards[steps]
  )
  leaves = steps[:, :, -1]
  dreamed, real = compared.dreamed_values, compared.real_values
  metrics |= {
    'value_correlation': correlation(dreamed[leaves], real[leaves]),
    'value_rmse': _rms(dreamed[leaves] - real[leaves]),
  }
  # A single leaf says nothing of differences.
  several = leaves.sum(axis=1) > 1
  some = leaves[several]
  dreamed_within = _centred(dreamed[several], some)[some]
  real_within = _centred(real[several], some)[some]
  metrics |= {
    'value_correlation_within': correlation(dreamed_within, real_within),
    'value_rmse_within': _rms(dreamed_within - real_within),
    'real_value_spread_within': _rms(real_within),
  }
  return metrics | _losses(compared, gamma)


def _agreement(compared: Compared) -> Figures:
  greedy, model, emulator = compared[:3]
  departs = model != greedy
  return {
    'decisions': len(greedy),
    'model_differs': float(departs.mean()),
    'emulator_differs': float((emulator != greedy).mean()),
    'searches_agree': float((model == emulator).mean()),
    'departures_agree': _mean((model == emulator)[departs]),
  }


def _reward_metrics(dreamed: np.ndarray, real: np.ndarray) -> Figures:
  right = dreamed == real
  return {
    'reward_steps': real.size,
    'real_rewards': int((real != 0).sum()),
    'reward_recall': _mean(right[real != 0]),
    'reward_precision': _mean(right[dreamed != 0]),
  }


def _losses(compared: Compared, gamma: float) -> Figures:
  horizon = compared.paths.shape[-1]
  discounts = gamma ** np.arange(horizon)

  def scores(rewards, values):
    return rewards @ discounts + gamma**horizon * values

  real = scores(compared.real_rewards, compared.real_values)

  def loss(rewards, values) -> float:
    chosen = np.argmax(scores(rewards, values), axis=1)
    taken = np.take_along_axis(real, chosen[:, None], axis=1)[:, 0]
    return float(np.mean(real.max(axis=1) - taken))

  dreamed = compared.dreamed_rewards, compared.dreamed_values
  return {
    'loss_model': loss(*dreamed),
    'loss_rewards': loss(dreamed[0], compared.real_values),
    'loss_values': loss(compared.real_rewards, dreamed[1]),
  }


def discounted_returns(rewards: np.ndarray, gamma: float) -> np.ndarray:
  """What follows from every step on, [T], of rewards [T]."""
  returns = np.zeros(len(rewards) + 1)
  for t in reversed(range(len(rewards))):
    returns[t] = rewards[t] + gamma * returns[t + 1]
  return returns[:-1]


def return_metrics(
  values: list[np.ndarray],
  rewards: list[np.ndarray],
  terminated: list[bool],
  gamma: float,
) -> Figures:
  """Holds the highest Q of every decision against the return that followed.

  `q_decisions` counts those whose return is known; `q_correlation`, `q_rmse`
  and `q_bias` (above 0: too high) are over them.

  Args:
    values: highest Q before each decision of each episode, [T].
    rewards: signs of each episode's rewards, [T].
    terminated: whether each episode ended in game over; of others, the last
      steps' returns are cut off, and left out.
    gamma: discount.
  """
  pairs = [np.zeros((2, 0))]
  for q, reward, over in zip(values, rewards, terminated, strict=True):
    known = len(q)
    if not over and gamma:
      unknown = int(np.ceil(np.log(_NEGLIGIBLE) / np.log(gamma)))
      known = max(0, known - unknown)
    pairs.append(np.stack([q, discounted_returns(reward, gamma)])[:, :known])
  q, earned = np.concatenate(pairs, axis=1)
  return {
    'q_decisions': len(q),
    'q_correlation': correlation(q, earned),
    'q_rmse': _rms(q - earned),
    'q_bias': _mean(q - earned),
  }


def correlation(x: np.ndarray, y: np.ndarray) -> float | None:
  """Pearson's; None if one of them does not vary."""
  if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
    return None
  return float(np.corrcoef(x, y)[0, 1])


def _centred(x: np.ndarray, mask: np.ndarray) -> np.ndarray:
  """Takes away the means of rows of x [N, P], over the masked ones."""
  count = mask.sum(axis=1, keepdims=True)
  return x - np.sum(x * mask, axis=1, keepdims=True) / count


def _rms(x: np.ndarray) -> float | None:
  return float(np.sqrt(np.mean(np.square(x)))) if x.size else None


def _mean(x: np.ndarray) -> float | None:
  return float(np.mean(x)) if x.size else None
