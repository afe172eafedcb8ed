"""How much of what was played can be told from what is seen.

An agent that learns from recorded play can imitate what its frames give a
reason for, and an agent that reads tokens what they have kept of that. So a
small network is trained for a minute or so to name the action that was taken,
from two frames or from their tokens, and judged in episodes that it never saw.
Where tokens do worse than frames, the tokenizer has lost what mattered.
"""

import functools
from collections.abc import Callable, Sequence

import chex
import flax.linen as nn
import jax
import numpy as np
import optax

from jowa_jax import games
from jowa_jax.data.episodes import DataError, Episode
from jowa_jax.eval.frame_pairs import Convolutions, Decisions, divided

# [B, 84, 84] uint8 -> [B, K] int tokens.
Encode = Callable[[np.ndarray], np.ndarray]
# [B] rows of decisions -> what a network sees of each, [B, ...].
Seen = Callable[[np.ndarray], np.ndarray]
_WEIGHT_DECAY = 1e-2


class _OfFrames(nn.Module):
  """[B, 84, 84, 2] uint8 -> [B, 18] logits."""

  @nn.compact
  def __call__(self, pairs: chex.Array) -> chex.Array:
    x = nn.relu(nn.Dense(256)(Convolutions()(pairs)))
    return nn.Dense(games.NUM_ACTIONS)(x)


class _OfTokens(nn.Module):
  """[B, 2, K] int -> [B, 18] logits."""

  vocab_size: int

  @nn.compact
  def __call__(self, tokens: chex.Array) -> chex.Array:
    x = nn.Embed(self.vocab_size, 32)(tokens).reshape(len(tokens), -1)
    for _ in range(2):
      x = nn.relu(nn.Dense(256)(x))
    return nn.Dense(games.NUM_ACTIONS)(x)


def _agreement(
  network: nn.Module,
  data: tuple[Decisions, Seen],
  judged: tuple[Decisions, Seen],
  steps: int,
  batch_size: int,
  seed: int,
) -> float:
  """Share of the judged decisions that are named."""
  (trained_on, seen), (held_out, shown) = data, judged
  optimizer = optax.adamw(
    optax.cosine_decay_schedule(1e-3, steps), weight_decay=_WEIGHT_DECAY
  )
  rng = np.random.default_rng(seed)
  params = network.init(jax.random.key(seed), seen(np.zeros(1, int)))
  state = params, optimizer.init(params)

  @functools.partial(jax.jit, donate_argnums=0)
  def step(state, inputs, actions):
    params, memory = state

    def loss(params):
      return optax.softmax_cross_entropy_with_integer_labels(
        network.apply(params, inputs), actions
      ).mean()

    updates, memory = optimizer.update(jax.grad(loss)(params), memory, params)
    return optax.apply_updates(params, updates), memory

  for _ in range(steps):
    rows = rng.integers(len(trained_on.actions), size=batch_size)
    state = step(state, seen(rows), trained_on.actions[rows])
  best = jax.jit(lambda inputs: network.apply(state[0], inputs).argmax(-1))
  named = [best(shown(rows)) for rows in held_out.batches()]
  return float(np.mean(np.concatenate(named) == held_out.actions))


def _of_tokens(some: Decisions, encode: Encode) -> tuple[Decisions, Seen]:
  """Decisions, and the tokens of the frame before and that of each."""
  tokens = np.concatenate(
    [np.asarray(encode(some.frames[rows])) for rows in some.batches()]
  )
  return some, lambda rows: np.stack(
    [tokens[some.before[rows]], tokens[rows]], axis=1
  )


def visible_actions(
  episodes: Sequence[Episode],
  encode: Encode | None = None,
  vocab_size: int = 0,
  steps: int = 4000,
  batch_size: int = 64,
  seed: int = 0,
  most: int = 40_000,
) -> dict[str, float]:
  """How many of the actions are told from two frames, or from their tokens.

  Args:
    episodes: of one game, two at least.
    encode: a tokenizer; None for frames alone.
    vocab_size: of its tokens.
    steps: of training, for each.
    batch_size: decisions of a step.
    seed: of the split, the parameters and the batches.
    most: decisions that are read; episodes beyond them, drawn at random, are
      left out.

  Returns:
    Of held-out decisions: their number, the share of the `commonest` action of
    those trained on, and the shares that are named `from_frames` and, with a
    tokenizer, `from_tokens`.

  Raises:
    DataError: actions are not known, or episodes are too few.
  """
  if 'actions' in episodes[0].missing:
    raise DataError(f'{episodes[0].game}: actions are not known')
  data, judged = divided(episodes, seed, most)
  commonest = np.bincount(data.actions).argmax()
  options = dict(steps=steps, batch_size=batch_size, seed=seed)
  found = {
    'decisions': len(judged.actions),
    'commonest': float(np.mean(judged.actions == commonest)),
    'from_frames': _agreement(
      *(_OfFrames(), (data, data.pairs), (judged, judged.pairs)), **options
    ),
  }
  if encode is not None:
    found['from_tokens'] = _agreement(
      *(_OfTokens(vocab_size), _of_tokens(data, encode)),
      _of_tokens(judged, encode),
      **options,
    )
  return found


def describe(game: str, found: dict[str, float]) -> str:
  """A line for people."""
  shares = f'{found["from_frames"]:.3f} of the actions are told from two frames'
  if 'from_tokens' in found:
    shares += f', {found["from_tokens"]:.3f} from their tokens'
  return (
    f'{game}: {shares} (the commonest are {found["commonest"]:.3f}; '
    f'{found["decisions"]} decisions that were not trained on)'
  )
