"""In which games a reward can be seen coming, by a small network's attempt.

A world model cannot foresee a reward that the frames do not show coming, and
is not to blame for it. So a small convolutional network is trained for minutes
on two frames and the action that follows, on nothing but whether a reward
comes: what it finds in episodes that it never saw is a quick bound, from below,
of what can be found.
"""

import functools
from collections.abc import Sequence

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jowa_jax import games
from jowa_jax.data.episodes import DataError, Episode
from jowa_jax.eval.detection import over_thresholds
from jowa_jax.eval.frame_pairs import Convolutions, Decisions, divided
from jowa_jax.types import FRAME_SHAPE


class _Network(nn.Module):
  """Two frames and an action -> the logit of a reward."""

  @nn.compact
  def __call__(self, pairs: chex.Array, actions: chex.Array) -> chex.Array:
    """Computes [B] from [B, 84, 84, 2] uint8 and [B]."""
    taken = nn.Embed(games.NUM_ACTIONS, 32)(actions)
    x = jnp.concatenate([Convolutions()(pairs), taken], axis=-1)
    return nn.Dense(1)(nn.relu(nn.Dense(128)(x)))[:, 0]


def _train(data: Decisions, steps: int, batch_size: int, seed: int):
  """Trains on batches half of which are rewarded."""
  network = _Network()
  optimizer = optax.adamw(optax.cosine_decay_schedule(1e-3, steps))
  rewarded = data.rewards != 0
  there = jax.device_put((data.frames, data.before, data.actions))
  drawn = jax.device_put((np.flatnonzero(rewarded), np.flatnonzero(~rewarded)))
  half = batch_size // 2

  # A call for each step: in a loop of XLA's, a CPU would convolve slowly.
  @functools.partial(jax.jit, donate_argnums=0)
  def step(state, there, drawn):
    (params, memory, key), (frames, before, actions) = state, there
    key, *keys = jax.random.split(key, 3)
    chosen = jnp.concatenate(
      [
        jax.random.choice(k, each, (half,))
        for k, each in zip(keys, drawn, strict=True)
      ]
    )
    pairs = jnp.stack([frames[before[chosen]], frames[chosen]], axis=-1)

    def loss(params):
      logits = network.apply(params, pairs, actions[chosen])
      labels = jnp.arange(2 * half) < half
      return optax.sigmoid_binary_cross_entropy(logits, labels).mean()

    updates, memory = optimizer.update(jax.grad(loss)(params), memory, params)
    return optax.apply_updates(params, updates), memory, key

  key, init = jax.random.split(jax.random.key(seed))
  pair = jnp.zeros((1, *FRAME_SHAPE, 2), jnp.uint8)
  params = network.init(init, pair, jnp.zeros(1, int))
  state = params, optimizer.init(params), key
  for _ in range(steps):
    state = step(state, there, drawn)
  return network, state[0]


def visible_rewards(
  episodes: Sequence[Episode],
  steps: int = 2000,
  batch_size: int = 64,
  seed: int = 0,
  most: int = 40_000,
) -> dict[str, float]:
  """How well rewards are told from two frames and the action after them.

  Args:
    episodes: of one game, two at least.
    steps: of training.
    batch_size: examples of a step, half of them with a reward.
    seed: of the split, the parameters and the batches.
    most: decisions that are read; episodes beyond them, drawn at random, are
      left out.

  Returns:
    Of held-out decisions: their number, the `share` with a reward, the average
    precision of the network's order (that of guessing is the share), its best
    F1, and `recall_at_half`, the largest share of rewards that is found while
    at least half of what is named is right (0 where no threshold does that).

  Raises:
    DataError: actions or rewards are not known, episodes are too few, or none
      of those trained or judged on has a reward.
  """
  game = episodes[0].game
  if missing := episodes[0].missing:
    raise DataError(f'{game}: {" and ".join(missing)} are not known')
  data, judged = divided(episodes, seed, most)
  for name, some in (('training', data), ('judging', judged)):
    count = int((some.rewards != 0).sum())
    if count in (0, len(some.rewards)):
      raise DataError(
        f'{game}: of {len(some.rewards)} decisions for {name}, {count} have a '
        'reward: load more episodes'
      )
  network, params = _train(data, steps, batch_size, seed)
  score = jax.jit(functools.partial(network.apply, params))
  scores = np.concatenate(
    [score(judged.pairs(i), judged.actions[i]) for i in judged.batches()]
  )
  rewarded = judged.rewards != 0
  found = over_thresholds(scores, rewarded)
  return {
    'decisions': len(rewarded),
    'share': float(rewarded.mean()),
    'average_precision': found['average_precision'],
    'best_f1': found['best_f1'],
    'recall_at_half': found['recall_at_half'],
  }


def describe(game: str, found: dict[str, float]) -> str:
  """A line for people."""
  return (
    f'{game}: {found["recall_at_half"]:.2f} of the rewards are seen coming '
    f'while half of those named come (average precision '
    f'{found["average_precision"]:.2f}, of guessing {found["share"]:.3f}; '
    f'{found["decisions"]} decisions that were not trained on)'
  )
