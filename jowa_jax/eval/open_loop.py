"""How dreams drift from what really followed, step by step.

From a few real frames the model dreams on under the data's actions, and feeds
on itself: nothing of what really followed is shown to it. Whatever it gets
wrong stays in what it goes on from.
"""

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jowa_jax.agent import Agent
from jowa_jax.data.episodes import Episode, by_game
from jowa_jax.data.places import evenly
from jowa_jax.eval.detection import over_thresholds
from jowa_jax.eval.findings import Figures
from jowa_jax.methods.base import Variables
from jowa_jax.plan.imagine import unroll
from jowa_jax.types import FRAME_SHAPE, History

# By name, a figure for every step; None where a step lacks one.
Curves = dict[str, list[float | None]]


class Played(NamedTuple):
  """Pieces of episodes, L steps each."""

  frames: np.ndarray  # [S, L, 84, 84] uint8
  actions: np.ndarray  # [S, L] int32
  rewards: np.ndarray  # [S, L] int8, clipped


class Dreamed(NamedTuple):
  """C real frames continued by H dreamed ones, C + H = L."""

  real_tokens: chex.Array  # [S, L, K] int32, of all real frames
  reconstructions: chex.Array  # [S, H, 84, 84] uint8, of the last H of them
  tokens: chex.Array  # [S, H, K] int32
  frames: chex.Array  # [S, H, 84, 84] uint8
  rewards: chex.Array  # [S, H] float32 in {-1, 0, 1}, on the way to each frame
  ends: chex.Array  # [S, H] bool, the episode is over instead of it
  reward_scores: chex.Array  # [S, H] float32, probability of any but 0


# (variables, frames [S, L, 84, 84], actions [S, L], task) -> what is dreamed.
Dreamer = Callable[[Variables, chex.Array, chex.Array, int], Dreamed]


def dreamer(agent: Agent, context: int, horizon: int) -> Dreamer:
  """A jitted function that dreams greedily under given actions.

  Args:
    agent: one with a tokenizer and a simulator.
    context: real frames it begins with, C.
    horizon: frames dreamed, H.

  Raises:
    ValueError: the agent has none.
  """
  tokenizer, simulator = agent.tokenizer, agent.simulator

  @jax.jit
  def run(variables, frames, actions, task):
    tokens = tokenizer.encode(variables, frames)
    tasks = jnp.full(len(frames), task)
    known = History(
      seen=tokens[:, :context],
      actions=actions[:, :context],
      count=jnp.full(len(frames), context),
      tasks=tasks,
    )
    memory, q = simulator.remember(variables, known)
    dreamed = unroll(
      simulator.world(variables, tasks),
      memory,
      q,
      lambda step, q, key: actions[:, context - 1 + step],
      horizon,
    )
    path = jnp.concatenate([known.seen, dreamed.tokens], axis=1)
    # The probabilities of rewards and ends, which dreams come without.
    foreseen = simulator.foresee(
      variables, path[:, :-1], actions[:, :-1], tasks
    )
    return Dreamed(
      real_tokens=tokens,
      reconstructions=tokenizer.decode(variables, tokens[:, context:]),
      tokens=dreamed.tokens,
      frames=tokenizer.decode(variables, dreamed.tokens),
      rewards=dreamed.rewards,
      ends=foreseen.ends[:, context - 1 :] > 0.5,
      reward_scores=1 - foreseen.rewards[:, context - 1 :, 1],
    )

  return run


def open_loop(
  agent: Agent,
  episodes: Sequence[Episode],
  context: int | None = None,
  horizon: int | None = None,
  num_sequences: int = 256,
  batch_size: int = 64,
) -> dict[str, Curves]:
  """How good dreams are at each step, by game.

  Element h - 1 of each list is about the h-th dreamed frame, and the reward
  and end of the action that leads to it. Beside what `token_metrics` and
  `reward_metrics` give, where copying is of the last real frame:

  - `reward_average_precision`, `reward_recall_at_half`, `reward_best_f1` and
    `reward_best_threshold` of rewards that are not 0, see `detection_metrics`.
  - `end_accuracy`, `end_recall` of the real ends alone, and `false_end_share`
    of the steps where play went on; for each real end there are `horizon` more
    dreams, which run into it at step 1, 2, ... `end_recall` is absent if no
    episode ends by game over.
  - `pixel_error` of the decoded dreams, mean absolute and in [0, 1], beside
    `persistence_pixel_error`, that of the last real frame, and
    `reconstruction_error`, what the tokenizer alone does to the real frame.

  Args:
    agent: one with a tokenizer and a simulator.
    episodes: held out; a game without one of context + horizon steps is left
      out, with a warning.
    context: real frames that a dream begins with; half of the position table's
      blocks by default.
    horizon: frames dreamed; by default as many as the position table has room
      for.
    num_sequences: per game, evenly spaced.
    batch_size: sequences per call, `num_sequences` at most.

  Raises:
    ValueError: the agent has no tokenizer or no simulator, or context and
      horizon do not fit into its position table.
  """
  blocks = agent.simulator.max_steps
  if context is None:
    context = blocks - blocks // 2
  if horizon is None:
    horizon = blocks - context
  length = context + horizon
  if min(context, horizon) < 1 or length > blocks:
    raise ValueError(
      f'context={context} and horizon={horizon} (both at least 1) do not fit '
      f'into the {blocks} blocks of the position table: shorten one'
    )
  run = dreamer(agent, context, horizon)
  batch_size = min(batch_size, num_sequences)
  results = {}
  for game, group in by_game(episodes).items():
    if not long_enough(game, group, length):
      continue
    real = sequences(group, length, num_sequences)
    into_end, steps = _endings(group, context, horizon)
    together = [np.concatenate(x) for x in zip(real, into_end, strict=True)]
    dreamed = _in_batches(
      run, agent.variables, Played(*together), group[0].task, batch_size
    )
    count = len(real.frames)
    curves = [
      _step_metrics(real, Dreamed(*(x[:count] for x in dreamed)), context, step)
      | _end_metrics(
        dreamed.ends[:count, step], dreamed.ends[count:][steps == step, step]
      )
      for step in range(horizon)
    ]
    names = dict.fromkeys(name for metrics in curves for name in metrics)
    results[game] = {
      name: [metrics.get(name) for metrics in curves] for name in names
    }
  return results


def _in_batches(
  run: Dreamer, variables: Variables, real: Played, task: int, batch_size: int
) -> Dreamed:
  """Dreams from all sequences in batches of one size, so compiled once."""
  total = len(real.frames)
  batches = []
  for start in range(0, total, batch_size):
    # The last batch is filled up with the last sequence, which is cut off.
    rows = np.minimum(np.arange(start, start + batch_size), total - 1)
    batches.append(
      jax.device_get(
        run(variables, real.frames[rows], real.actions[rows], task)
      )
    )
  parts = zip(*batches, strict=True)
  return Dreamed(*(np.concatenate(part)[:total] for part in parts))


def _step_metrics(
  real: Played, dreamed: Dreamed, context: int, step: int
) -> Figures:
  """Compares one dreamed frame with the real one, and their rewards."""
  last, now = context - 1, context + step
  frames = real.frames[:, now]
  rewarded = real.rewards[:, now - 1] != 0
  ranked = {}
  if rewarded.any():
    ranked = over_thresholds(dreamed.reward_scores[:, step], rewarded)
  return {
    **token_metrics(
      dreamed.tokens[:, step],
      dreamed.real_tokens[:, now],
      dreamed.real_tokens[:, last],
    ),
    **reward_metrics(
      dreamed.rewards[:, step], np.sign(real.rewards[:, now - 1])
    ),
    **{f'reward_{name}': value for name, value in ranked.items()},
    'pixel_error': pixel_error(dreamed.frames[:, step], frames),
    'persistence_pixel_error': pixel_error(real.frames[:, last], frames),
    'reconstruction_error': pixel_error(
      dreamed.reconstructions[:, step], frames
    ),
  }


def _end_metrics(going_on: np.ndarray, ended: np.ndarray) -> Figures:
  """Scores predicted ends where play really went on, and where it did not."""
  metrics = {
    'end_accuracy': float(np.concatenate([~going_on, ended]).mean()),
    'false_end_share': float(going_on.mean()),
  }
  if len(ended):
    metrics['end_recall'] = float(ended.mean())
  return metrics


def long_enough(game: str, episodes: Sequence[Episode], length: int) -> bool:
  """Whether an episode has `length` steps; warns if none has."""
  if max(map(len, episodes)) >= length:
    return True
  logging.warning(
    'No held-out episode of %s has %d steps: its dreams are not judged',
    game,
    length,
  )
  return False


def frames_between(episode: Episode, start: int, stop: int) -> np.ndarray:
  """Decoded frames, [stop - start, 84, 84] uint8."""
  out = np.empty((stop - start, *FRAME_SHAPE), np.uint8)
  episode.decode(start, stop, out)
  return out


def sequences(episodes: Sequence[Episode], length: int, count: int) -> Played:
  """Evenly spaced pieces of `length` steps; no episode ends in one."""
  starts = [
    (i, t)
    for i, episode in enumerate(episodes)
    for t in range(len(episode) - length + 1)
  ]
  chosen = [starts[i] for i in evenly(len(starts), count)]
  parts = [_piece(episodes[i], t, length) for i, t in chosen]
  return Played(*(np.stack(x) for x in zip(*parts, strict=True)))


def _piece(episode: Episode, start: int, length: int):
  """Frames, actions and rewards; past the end the last are repeated."""
  stop = min(start + length, len(episode))
  parts = (
    frames_between(episode, start, stop),
    episode.actions[start:stop].astype(np.int32),
    episode.rewards[start:stop],
  )
  rows = np.minimum(np.arange(length), stop - start - 1)
  return [part[rows] for part in parts]


def _endings(
  episodes: Sequence[Episode], context: int, horizon: int
) -> tuple[Played, np.ndarray]:
  """Pieces that run into a game over, and at which step from 0."""
  length = context + horizon
  shape = (0, length)
  parts = [[np.zeros((*shape, *FRAME_SHAPE), np.uint8)]]
  parts += [[np.zeros(shape, np.int32)], [np.zeros(shape, np.int8)]]
  steps = []
  for episode in episodes:
    for step in range(horizon):
      # The action that ends it stands right before the frame of `step`.
      start = len(episode) - context - step
      if episode.terminated and start >= 0:
        for part, value in zip(
          parts, _piece(episode, start, length), strict=True
        ):
          part.append(value[None])
        steps.append(step)
  return Played(*map(np.concatenate, parts)), np.array(steps, int)


def token_metrics(
  dreamed: np.ndarray, real: np.ndarray, last: np.ndarray
) -> Figures:
  """Compares a dreamed frame with the real one and with the last one known.

  `token_accuracy` stands beside `copy_token_accuracy`, of repeating the last;
  `changed_token_accuracy`, of the `changed_token_share`, has copying at 0;
  `false_change_share` is of the tokens that stayed. Either is absent where
  there is no such token.

  Args:
    dreamed: [S, K] tokens.
    real: [S, K].
    last: [S, K].
  """
  changed = real != last
  right = dreamed == real
  metrics = {
    'changed_token_share': changed.mean(),
    'token_accuracy': right.mean(),
    'copy_token_accuracy': (~changed).mean(),
  }
  if changed.any():
    metrics['changed_token_accuracy'] = right[changed].mean()
  if not changed.all():
    metrics['false_change_share'] = (~right)[~changed].mean()
  return {name: float(value) for name, value in metrics.items()}


def reward_metrics(predicted: np.ndarray, real: np.ndarray) -> Figures:
  """Compares signs of rewards, of any shape.

  Recall only if there are any, precision only if any are predicted.
  """
  metrics = {'reward_accuracy': float((predicted == real).mean())}
  if real.any():
    metrics['nonzero_reward_recall'] = float(
      (predicted == real)[real != 0].mean()
    )
  if predicted.any():
    metrics['nonzero_reward_precision'] = float(
      (predicted == real)[predicted != 0].mean()
    )
  return metrics


def pixel_error(
  a: np.ndarray, b: np.ndarray, weights: np.ndarray | None = None
) -> float | None:
  """The mean absolute difference of uint8 frames, in [0, 1].

  None where all weights are 0, as where no pixel moves.
  """
  error = np.abs(a.astype(np.float32) - b.astype(np.float32)) / 255
  if weights is not None and not np.any(weights):
    return None
  return float(np.average(error, weights=weights))
