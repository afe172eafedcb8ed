"""What the world model foresees of every next step of held-out play.

Real frames and actions stand before each step, so that nothing drifts; a
token is predicted given the tokens of its frame before it. Beside it, how
much of what is to be foreseen is the tokenizer's own doing: a token that
changes where no pixel does cannot be foreseen from what is seen there.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import chex
import jax
import numpy as np

from jowa_jax.agent import Agent
from jowa_jax.data.episodes import Episode, by_game
from jowa_jax.data.feed.dataset import SegmentDataset
from jowa_jax.eval.detection import detection_metrics
from jowa_jax.methods.base import Variables
from jowa_jax.types import Segment


class Foreseen(NamedTuple):
  """Of B segments of T steps; K tokens, and as many patches, in a frame."""

  same_patches: chex.Array  # [B, T - 1, K] bool, no pixel of it changes
  same_tokens: chex.Array  # [B, T - 1, K] bool
  right_tokens: chex.Array  # [B, T - 1, K] bool, of the later frame
  rewards: chex.Array  # [B, T, 3] float32, probabilities of -1, 0 and 1
  ends: chex.Array  # [B, T] float32, probability


def one_step(
  agent: Agent,
  episodes: Sequence[Episode],
  num_steps: int = 100_000,
  batch_size: int = 16,
) -> dict[str, dict[str, float]]:
  """How well each next step is foreseen, by game.

  - `patch_change_share` and `token_change_share` of places from one frame to
    the next, and `token_flicker_share`: of the places whose pixels all stay,
    those whose token changes.
  - `one_step_token_accuracy` beside `one_step_copy_token_accuracy` of the last
    frame, and `one_step_changed_token_accuracy` of the tokens that change.
  - `one_step_reward_*` and `one_step_end_*`, see `detection_metrics`; rewards
    are events if they are not 0, and right if their sign is.

  Every step but an episode's first ones has half a segment of real steps
  before it, or more.

  Args:
    agent: one with a tokenizer and a simulator.
    episodes: play that the agent was not trained on.
    num_steps: of each game, all if it has no more; else spread evenly.
    batch_size: segments per call.

  Raises:
    ValueError: the agent has none.
  """
  run = foresight(agent)
  results = {}
  for game, group in by_game(episodes).items():
    tokens, steps = np.zeros(6), []
    for batch, counted in _batches(agent, group, num_steps, batch_size):
      seen = jax.device_get(run(agent.variables, batch))
      tokens += _count_tokens(seen, counted[:, 1:])
      steps.append(
        (
          seen.rewards[counted],
          np.sign(batch.rewards[counted]).astype(int),
          seen.ends[counted],
          batch.ends[counted],
        )
      )
    results[game] = _metrics(
      tokens, *(np.concatenate(x) for x in zip(*steps, strict=True))
    )
  return results


def foresight(agent: Agent) -> Callable[[Variables, Segment], Foreseen]:
  """The jitted function of segments with frames."""
  tokenizer, simulator = agent.tokenizer, agent.simulator

  @jax.jit
  def run(variables: Variables, batch: Segment) -> Foreseen:
    tokens = tokenizer.encode(variables, batch.observations)
    found = simulator.foresee(variables, tokens, batch.actions, batch.task)
    # A token stands for a patch of a square grid.
    grid = math.isqrt(tokens.shape[-1])
    return Foreseen(
      same_patches=same_patches(batch.observations, grid),
      same_tokens=tokens[:, 1:] == tokens[:, :-1],
      right_tokens=found.tokens == tokens[:, 1:],
      rewards=found.rewards,
      ends=found.ends,
    )

  return run


def same_patches(frames: chex.Array, grid: int) -> chex.Array:
  """Where no pixel changes from frame to frame.

  Args:
    frames: [B, T, R, R] uint8.
    grid: patches G along a side.

  Returns:
    [B, T - 1, G * G] bool.
  """
  batch, steps, side, _ = frames.shape
  size = side // grid
  same = (frames[:, 1:] == frames[:, :-1]).reshape(
    batch, steps - 1, grid, size, grid, size
  )
  return same.all((3, 5)).reshape(batch, steps - 1, grid * grid)


def _batches(
  agent: Agent, episodes: Sequence[Episode], num_steps: int, batch_size: int
) -> Iterator[tuple[Segment, np.ndarray]]:
  """Yields batches, and which of their steps [B, T] count: each step once."""
  length = agent.method.spec.length
  stride = max(length // 2, 1)
  data = SegmentDataset(episodes, length, stride, fields={'t'})
  count = min(data.num_segments, max(num_steps // stride, 1))
  chosen = np.linspace(0, data.num_segments - 1, count).astype(int)
  for start in range(0, count, batch_size):
    # The last batch is filled up with segments that then do not count.
    rows = np.arange(start, start + batch_size)
    batch = data.batch(chosen[np.minimum(rows, count - 1)])
    fresh = np.arange(length) >= length - stride
    counted = batch.mask & (fresh | (batch.t == 0)[:, None])
    yield batch, counted & (rows < count)[:, None]


def _count_tokens(seen: Foreseen, counted: np.ndarray) -> np.ndarray:
  """Sums of the kinds of places that `_metrics` divides."""
  patches, tokens = seen.same_patches[counted], seen.same_tokens[counted]
  right = seen.right_tokens[counted]
  kinds = (right, patches, tokens, patches & ~tokens, right & ~tokens)
  return np.array([tokens.size, *(kind.sum() for kind in kinds)], float)


def _metrics(
  tokens: np.ndarray,
  rewards: np.ndarray,
  real_rewards: np.ndarray,
  ends: np.ndarray,
  real_ends: np.ndarray,
) -> dict[str, float]:
  places, right, same_patch, same, flickering, right_changed = tokens
  shares = {
    'patch_change_share': (places - same_patch, places),
    'token_change_share': (places - same, places),
    'token_flicker_share': (flickering, same_patch),
    'one_step_token_accuracy': (right, places),
    'one_step_copy_token_accuracy': (same, places),
    'one_step_changed_token_accuracy': (right_changed, places - same),
  }
  metrics = {
    name: float(part / whole) for name, (part, whole) in shares.items() if whole
  }
  signs = rewards.argmax(-1) - 1
  for name, figures in (
    (
      'reward',
      detection_metrics(
        1 - rewards[:, 1], signs == real_rewards, signs != 0, real_rewards != 0
      ),
    ),
    (
      'end',
      detection_metrics(ends, (ends > 0.5) == real_ends, ends > 0.5, real_ends),
    ),
  ):
    metrics |= {f'one_step_{name}_{k}': value for k, value in figures.items()}
  return metrics
