"""How well a trained model sees and dreams, on episodes it was not trained on.

Copying the last frame is right about everything that does not change, so
dreams are judged on the tokens that do; reconstructions on the pixels that
leave the game's static background.
"""

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jowa_jax.agent import Agent
from jowa_jax.data.episodes import Episode, by_game
from jowa_jax.data.feed.dataset import SegmentDataset
from jowa_jax.data.feed.training import DataConfig
from jowa_jax.data.places import evenly, spread_frames
from jowa_jax.eval.findings import Dreams, Figures, Reconstructions
from jowa_jax.eval.open_loop import (
  dreamer,
  long_enough,
  pixel_error,
  reward_metrics,
  sequences,
  token_metrics,
)
from jowa_jax.losses import vqvae as vqvae_losses
from jowa_jax.types import Segment


def reconstruct(
  agent: Agent,
  episodes: Sequence[Episode],
  medians: np.ndarray,
  num_frames: int = 128,
) -> dict[str, tuple[Figures, Reconstructions]]:
  """The tokenizer's quality on each game of held-out episodes.

  Errors are mean absolute differences of pixels in [0, 1].

  Args:
    agent: one with a tokenizer.
    episodes: held out.
    medians: median frame of each game, [tasks, 84, 84] uint8, of the data
      that was trained on.
    num_frames: per game, evenly spaced.

  Raises:
    ValueError: the agent has no tokenizer.
  """
  tokenizer = agent.tokenizer

  @jax.jit
  def run(variables, frames):
    tokens = tokenizer.encode(variables, frames)
    counts = jnp.bincount(tokens.reshape(-1), length=tokenizer.vocab_size)
    return tokenizer.decode(variables, tokens), counts

  results = {}
  for game, group in by_game(episodes).items():
    frames = spread_frames(group, num_frames)
    median = medians[group[0].task]
    decoded, counts = jax.device_get(run(agent.variables, frames))
    moving = np.asarray(
      vqvae_losses.moving_pixels(
        frames,
        np.broadcast_to(median, frames.shape),
        tokenizer.motion_threshold,
      )
    )
    metrics = {
      'perplexity': float(vqvae_losses.perplexity(counts)),
      'codes_used': int((counts > 0).sum()),
      'reconstruction_error': pixel_error(decoded, frames),
      'moving_pixel_error': pixel_error(decoded, frames, moving),
      'median_frame_moving_pixel_error': pixel_error(
        np.broadcast_to(median, frames.shape), frames, moving
      ),
    }
    shown = evenly(len(frames), 8)
    results[game] = (
      metrics,
      Reconstructions(frames[shown], decoded[shown], median),
    )
  return results


def dream(
  agent: Agent,
  episodes: Sequence[Episode],
  horizon: int | None = None,
  num_sequences: int = 64,
) -> dict[str, tuple[Figures, Dreams]]:
  """Compares dreams with what really followed, under the real actions.

  The dream starts from a context of real frames and then feeds on itself.
  Metrics of the first dreamed frame: `token_accuracy` beside
  `copy_token_accuracy`; `changed_token_accuracy`, which copying has at 0;
  `false_change_share`, of tokens that stayed; and those with the suffix
  `_at_horizon` for the last dreamed frame.

  Args:
    agent: one with a tokenizer and a simulator.
    episodes: held out; a game without one as long as a segment is left out,
      with a warning.
    horizon: frames dreamed; half of the position table's blocks by default.
    num_sequences: per game, evenly spaced.

  Raises:
    ValueError: the agent has no tokenizer or no simulator, or the horizon
      leaves no context in its position table.
  """
  blocks = agent.simulator.max_steps
  if horizon is None:
    horizon = blocks // 2
  if not 1 <= horizon < blocks:
    raise ValueError(
      f'horizon={horizon} leaves no context in the {blocks} blocks of the '
      'position table, or dreams nothing'
    )
  context = blocks - horizon
  run = dreamer(agent, context, horizon)
  results = {}
  for game, group in by_game(episodes).items():
    if not long_enough(game, group, blocks):
      continue
    frames, actions, rewards = sequences(group, blocks, num_sequences)
    dreamed = jax.device_get(
      run(agent.variables, frames, actions, group[0].task)
    )
    tokens = dreamed.real_tokens
    last = tokens[:, context - 1]
    final = token_metrics(dreamed.tokens[:, -1], tokens[:, -1], last)
    metrics = {
      **token_metrics(dreamed.tokens[:, 0], tokens[:, context], last),
      **{f'{name}_at_horizon': value for name, value in final.items()},
      **reward_metrics(dreamed.rewards, np.sign(rewards[:, context - 1 : -1])),
    }
    shown = _most_moving(frames[:, context - 1 :], 6)
    known = frames[shown, context - 1 :]
    first = known[:, :1]
    results[game] = (
      metrics,
      Dreams(
        real=known,
        dreamed=np.concatenate([first, dreamed.frames[shown]], axis=1),
        reconstructed=np.concatenate(
          [first, dreamed.reconstructions[shown]], axis=1
        ),
      ),
    )
  return results


def _most_moving(frames: np.ndarray, count: int) -> np.ndarray:
  """Picks sequences in which something happens; a still one shows nothing."""
  change = np.abs(np.diff(frames.astype(np.int16), axis=1)).mean((1, 2, 3))
  return np.sort(np.argsort(-change, kind='stable')[:count])


def majority_accuracy(
  train: Sequence[Episode], held_out: Sequence[Episode]
) -> dict[str, float]:
  """The accuracy of always taking the commonest action, by game.

  Args:
    train: episodes the commonest action is counted on.
    held_out: episodes it is scored on, steps weighed equally.
  """
  counts = {
    game: np.bincount(np.concatenate([e.actions for e in group]))
    for game, group in by_game(train).items()
  }
  return {
    game: float(
      np.mean(
        np.concatenate([e.actions for e in group]) == counts[game].argmax()
      )
    )
    for game, group in by_game(held_out).items()
  }


def windows(
  agent: Agent, episodes: Sequence[Episode], batch_size: int
) -> Iterator[tuple[Segment, np.ndarray]]:
  """Batches of an agent's own windows in which every step has a loss once.

  Args:
    agent: who reads them: with the steps around those that have a loss, the
      fields and the side of the padding that it was trained on.
    episodes: of one game.
    batch_size: B, of all batches: the last one is filled up.

  Yields:
    Segments, and which of them count, [B] bool.
  """
  spec = agent.method.spec
  data = SegmentDataset(
    episodes,
    spec.length,
    stride=spec.length,
    padding=agent.config['data'].get('padding', DataConfig.padding),
    **spec.reading,
  )
  for start in range(0, data.num_segments, batch_size):
    chosen = np.arange(start, start + batch_size)
    batch = data.batch(np.minimum(chosen, data.num_segments - 1))
    yield batch, chosen < data.num_segments


def policy_accuracy(
  agent: Agent, episodes: Sequence[Episode], batch_size: int = 16
) -> dict[str, float]:
  """How often a cloning agent names the data's action, by game.

  It reads windows as it was trained on: with the steps around those that have
  a loss, the fields and the side of the padding that are its own.

  Args:
    agent: one whose method evaluates 'policy/accuracy', such as MTBC.
    episodes: held out; all their steps are scored, each once.
    batch_size: segments per call.

  Raises:
    ValueError: the agent's method evaluates nothing of the kind.
  """
  evaluate = jax.jit(agent.method.evaluate)
  results = {}
  for game, group in by_game(episodes).items():
    right = steps = 0.0
    for batch, chosen in windows(agent, group, batch_size):
      counted = chosen[:, None]
      scored = batch.mask if batch.train is None else batch.train
      scored = scored & counted
      train = None if batch.train is None else scored
      batch = batch.replace(mask=batch.mask & counted, train=train)
      metrics = evaluate(agent.variables, batch)
      if 'policy/accuracy' not in metrics:
        raise ValueError(
          f'{agent.config["method"]} evaluates no policy/accuracy, but '
          f'{sorted(metrics)}: give an agent that clones actions, such as MTBC'
        )
      count = scored.sum()
      right += float(metrics['policy/accuracy']) * count
      steps += count
    results[game] = float(right / steps)
  return results
